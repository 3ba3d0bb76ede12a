"""Compute all figures of a run again, from its raw samples."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from attrs import evolve

from qx.analysis.measurements import ITSELF, analyse
from qx.contract.records import SMALLEST, Metric
from qx.errors import UsageError
from qx.foreign import to_line
from qx.results.recording import Key, Recording, Series
from qx.results.records import Measurement, Results
from qx.results.results_file import to_json

#: Another version of numpy may round the last digits otherwise.
RELATIVE, ABSOLUTE = 1e-9, 1e-12
#: Letters of an error that a message quotes.
MESSAGE = 200
#: What is computed from samples.
COMPUTED = (
    "measurements",
    "axes",
    "front",
    "picks",
    "noise_floor",
    "pairs",
    "summary",
    "undecided",
    "outputs",
)


def read_samples(place: Path) -> Recording:
    """The raw samples in a file. Raises ``UsageError``."""
    try:
        return Recording.read(place)
    except OSError as error:
        raise UsageError(f"the samples in {place} cannot be read: {error.strerror or error}") from error
    except Exception as error:
        # A damaged archive raises whatever zipfile, zlib and numpy run into.
        flaw = to_line(str(error), MESSAGE) or type(error).__name__
        raise UsageError(f"the samples in {place} are damaged: {flaw}") from error


def check_whole(results: Results, recording: Recording, place: Path) -> None:
    """Raise ``UsageError`` where the recording is not that of the results.

    It is not where it lacks samples that they refer to, or has samples that the metric cannot have given.
    ``place`` is the file that it was read from.
    """
    for measurement in results.measurements:
        if measurement.value is None:
            continue
        metric, cell = results.metrics[measurement.metric], measurement.cell
        series = recording.get(cell, (metric.name, measurement.params.get("batch_size")))
        if series is None or not len(series.values):
            raise UsageError(
                f"the samples in {place} are not whole: there are none of {metric.name} of {cell}"
            )
        if metric.samples == "per_set" and not series.resampled:
            raise UsageError(
                f"the samples in {place} are not whole: {metric.name} of {cell} was not resampled"
            )
        if metric.samples == "per_item" and len(series.values) != measurement.n:
            raise UsageError(
                f"the samples in {place} are not whole: of {metric.name} of {cell} there are "
                f"{len(series.values):,}, and it was measured of {measurement.n:,} items"
            )
        if flaw := _flaw(series, metric, compared=_is_compared(measurement)):
            raise UsageError(f"the samples in {place} are damaged: {metric.name} of {cell} {flaw}")
    for workload in results.run["workloads"]:
        for metric in results.metrics.values():
            if metric.samples in ("per_item", "per_set"):
                _check_alike(results, recording, workload, metric, place)


def _is_compared(measurement: Measurement) -> bool:
    """Whether the results compare it with another cell by ratio."""
    compared = (measurement.vs_baseline, *measurement.comparisons)
    return any(one is not None and one.kind != "difference" and one.method != ITSELF for one in compared)


def _flaw(series: Series, metric: Metric, *, compared: bool) -> str | None:
    """What samples a metric cannot have given; ``compared`` are those that the results compare by ratio."""
    values = series.values
    if metric.samples == "exact" and len(values) != 1:
        return f"has {len(values):,} values, and is one"
    if metric.samples == "per_block" and min(series.wave.min(), series.round.min()) < 0:
        return "has values without a wave or a round"
    if (series.wave < 0).any() and (series.wave >= 0).any():
        return "has values with a wave and values without one"
    if metric.compare == "difference" or metric.samples == "per_item":
        return None
    # What is exact may be 0, which is less than anything.
    low = values < 0 if metric.samples == "exact" else values <= 0
    if (compared or metric.compare == "speedup") and low.any():
        return f"has the value {values.min():g}, and is compared by ratio, which takes values above 0"
    if ((values != 0) & (np.abs(values) < SMALLEST)).any():
        return f"has values too small to compute with, nearer to 0 than {SMALLEST:g}"
    return None


def _check_alike(results: Results, recording: Recording, workload: str, metric: Metric, place: Path) -> None:
    """Raise ``UsageError`` where cells of a workload have a metric of different numbers of items."""
    counts: dict[Key, set[int]] = {}
    for name, cell in results.cells.items():
        for key, series in recording.series.get(name, {}).items():
            if cell.workload == workload and key[0] == metric.name:
                whole = series.resampled[0].items if series.resampled else len(series.values)
                counts.setdefault(key, set()).add(whole)
    for sizes in counts.values():
        if len(sizes) > 1:
            items = f"{min(sizes):,} and of {max(sizes):,} items"
            raise UsageError(f"the samples in {place} are damaged: {metric.name} is of {items} of {workload}")


def recompute(results: Results, recording: Recording, place: Path | None = None) -> Results:
    """The same run with figures computed anew; details that metrics told lie only in the results.

    ``place`` is the file that the recording was read from. Raises ``UsageError`` where it lacks samples that
    the results refer to.
    """
    check_whole(results, recording, place or Path(results.run["samples"]))
    failures = {
        (one.cell, one.metric): (one.outcome, one.cause or "")
        for one in results.measurements
        if one.outcome != "ok" and not _applies_elsewhere(results, one)
    }
    computed = analyse(
        run=results.run,
        environment=results.environment,
        metrics=results.metrics,
        configs=results.configs,
        cells=results.cells,
        recording=recording,
        failures=failures,
    )
    told = {_key(one): one.details for one in results.measurements}
    return evolve(
        computed,
        measurements=tuple(
            evolve(one, details={**told.get(_key(one), {}), **one.details}) for one in computed.measurements
        ),
    )


def differences(ours: Results, theirs: Results) -> list[str]:
    """Where figures of the same run differ, by their place in the file; empty where they are equal."""
    plain, other = (json.loads(to_json(results)) for results in (ours, theirs))
    return [place for name in COMPUTED for place in _differing(plain[name], other[name], name)]


def _differing(ours: object, theirs: object, place: str) -> Iterator[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        for name in ours:
            yield from _differing(ours[name], theirs[name], f"{place}.{name}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from _differing(one, other, f"{place}[{index}]")
    elif not _equal(ours, theirs):
        yield place


def _equal(ours: object, theirs: object) -> bool:
    if isinstance(ours, (int, float)) and isinstance(theirs, (int, float)):
        return math.isclose(ours, theirs, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return bool(ours == theirs)


def _applies_elsewhere(results: Results, measurement: Measurement) -> bool:
    """The metric has figures of this cell at another batch size, so it did not fail there."""
    return any(
        one.outcome == "ok" and (one.cell, one.metric) == (measurement.cell, measurement.metric)
        for one in results.measurements
    )


def _key(measurement: Measurement) -> tuple[str, str, str]:
    return measurement.cell, measurement.metric, json.dumps(measurement.params, sort_keys=True)
