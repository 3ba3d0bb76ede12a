"""Results in tidy form: a record for each figure, comparison and raw sample, and frames of pandas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from qx.contract.installation import extra_command
from qx.errors import UsageError
from qx.results.recording import Recording
from qx.results.records import BuildSpread, Comparison, Measurement, Results
from qx.values import JsonObject

if TYPE_CHECKING:
    from pandas import DataFrame

#: Columns that say which figure a record is about, and those of its value and of its comparison.
PLACE = ("workload", "config", "cell", "metric", "batch_size")
VALUE = ("value", "unit", "better", "low", "high", "n", "outcome", "cause")
COMPARED = (
    "comparison",
    "comparison_value",
    "comparison_low",
    "comparison_high",
    "comparison_p",
    "comparison_clear",
)
BUILDS = ("builds", "builds_deviation", "builds_smallest", "builds_largest")
COMPARISON = ("against", "kind", "value", "low", "high", "p", "clear", "method")
SAMPLE = ("value", "unit", "wave", "round", "position", "group")
#: Types of columns that pandas would not choose itself: integers and truth values that may be missing.
TYPES = {
    "batch_size": "Int64",
    "n": "Int64",
    "builds": "Int64",
    "comparison_clear": "boolean",
    "clear": "boolean",
    **dict.fromkeys(("value", "low", "high", "p"), "float64"),
    **dict.fromkeys(BUILDS[1:], "float64"),
    **dict.fromkeys((f"comparison_{name}" for name in ("value", "low", "high", "p")), "float64"),
}


def measurement_records(results: Results) -> list[JsonObject]:
    """Return a record for each measurement, with its comparison with the baseline where it has one."""
    return [
        {
            **_place(measurement),
            **_value(measurement),
            **_compared(measurement.vs_baseline),
            **_builds(measurement.builds),
        }
        for measurement in results.measurements
    ]


def comparison_records(results: Results) -> list[JsonObject]:
    """Return a record for each comparison of two cells: with the baseline, and with all others."""
    return [
        {
            **_place(measurement),
            "against": comparison.against or results.run.baseline_of(measurement.workload),
            "kind": comparison.kind,
            "value": comparison.value,
            **_interval(comparison.ci),
            "p": comparison.p,
            "clear": comparison.clear,
            "method": comparison.method,
        }
        for measurement in results.measurements
        for comparison in _comparisons(measurement)
    ]


def _comparisons(measurement: Measurement) -> Iterator[Comparison]:
    if measurement.vs_baseline is not None:
        yield measurement.vs_baseline
    yield from measurement.comparisons


def _place(measurement: Measurement) -> JsonObject:
    point = measurement.point
    return {
        "workload": measurement.workload,
        "config": measurement.config,
        "cell": measurement.cell,
        "metric": measurement.metric,
        "batch_size": None if point is None else point.batch_size,
    }


def _value(measurement: Measurement) -> JsonObject:
    return {
        "value": measurement.value,
        "unit": measurement.unit,
        "better": measurement.better,
        **_interval(measurement.ci),
        "n": measurement.n,
        "outcome": measurement.outcome,
        "cause": measurement.cause,
    }


def _compared(comparison: Comparison | None) -> JsonObject:
    if comparison is None:
        return dict.fromkeys(COMPARED)
    low, high = _interval(comparison.ci).values()
    values = (comparison.kind, comparison.value, low, high, comparison.p, comparison.clear)
    return dict(zip(COMPARED, values, strict=True))


def _builds(built: BuildSpread | None) -> JsonObject:
    if built is None:
        return dict.fromkeys(BUILDS)
    values = (len(built.values), built.deviation, built.smallest, built.largest)
    return dict(zip(BUILDS, values, strict=True))


def _interval(ci: tuple[float, float] | None) -> JsonObject:
    low, high = (None, None) if ci is None else ci
    return {"low": low, "high": high}


# Frames -------------------------------------------------------------------------------------------


def measurement_frame(results: Results) -> DataFrame:
    """Return ``measurement_records`` as a frame."""
    return _frame(measurement_records(results), (*PLACE, *VALUE, *COMPARED, *BUILDS))


def comparison_frame(results: Results) -> DataFrame:
    """Return ``comparison_records`` as a frame."""
    return _frame(comparison_records(results), (*PLACE, *COMPARISON))


def sample_frame(results: Results, recording: Recording, metrics: Sequence[str]) -> DataFrame:
    """Return a frame with a row for each raw sample of these metrics, or of all where none is named.

    ``wave``, ``round`` and ``position`` are missing where a metric has none; ``group`` is the name of the
    item's group.
    """
    pandas = _pandas()
    parts = []
    for cell, by_figure in recording.series.items():
        for figure, series in by_figure.items():
            if metrics and figure.metric not in metrics:
                continue
            result, count = results.cells[cell], len(series.values)
            point = figure.point
            columns: JsonObject = {
                "workload": result.workload,
                "config": result.config,
                "cell": cell,
                "metric": figure.metric,
                "batch_size": pandas.array([None if point is None else point.batch_size] * count, "Int64"),
                "value": series.values,
                "unit": results.metrics[figure.metric].unit,
            }
            for name in ("wave", "round", "position"):
                indices = getattr(series, name)
                columns[name] = pandas.array(indices, "Int64")
                columns[name][indices < 0] = pandas.NA
            names = series.group_names
            columns["group"] = [None] * count if series.groups is None else [names[i] for i in series.groups]
            parts.append(pandas.DataFrame(columns, index=range(count), columns=[*PLACE, *SAMPLE]))
    if not parts:
        return _frame([], (*PLACE, *SAMPLE))
    frame = pandas.concat([part.astype({"group": object}) for part in parts], ignore_index=True)
    # Few values, each of them very often.
    return frame.astype(dict.fromkeys(("workload", "config", "cell", "metric", "unit", "group"), "category"))


def _frame(records: list[JsonObject], columns: Sequence[str]) -> DataFrame:
    frame = _pandas().DataFrame.from_records(records, columns=list(columns))
    return frame.astype({name: kind for name, kind in TYPES.items() if name in columns})


def _pandas() -> ModuleType:
    try:
        import pandas
    except ImportError as error:
        raise UsageError(
            f"frames need pandas, which is not installed: {extra_command('notebook')}"
        ) from error
    module: ModuleType = pandas
    return module
