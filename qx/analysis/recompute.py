"""Compute all figures of a run again, from its raw samples."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from attrs import evolve

from qx.analysis.builds import series_of_builds
from qx.analysis.measurements import ITSELF, analyse
from qx.contract.figures import Figure
from qx.contract.records import SMALLEST, Metric
from qx.errors import UsageError
from qx.foreign import to_line
from qx.results.recording import Recording, Series
from qx.results.records import NOT_ANALYSED, Measurement, Results
from qx.results.results_file import to_json

#: Relative and absolute tolerance between figures, since versions of numpy round the last digits differently.
RELATIVE, ABSOLUTE = 1e-9, 1e-12
#: Number of letters of an error that a message quotes.
MAX_QUOTED = 200
#: Fields of the results that are computed from samples.
COMPUTED = (
    "measurements",
    "axes",
    "front",
    "picks",
    "noise_floor",
    "pairs",
    "summary",
    "thread_speedups",
    "undecided",
    "outputs",
    "limits",
)

#: Fields that explain a figure in words.
SENTENCES = (".method", ".without_interval")


def read_samples(place: Path) -> Recording:
    """Read the raw samples in a file. Raises ``UsageError``."""
    try:
        return Recording.read(place)
    except OSError as error:
        raise UsageError(f"the samples in {place} cannot be read: {error.strerror or error}") from error
    except Exception as error:
        # A damaged archive raises whatever zipfile, zlib and numpy run into.
        flaw = to_line(str(error), MAX_QUOTED) or type(error).__name__
        raise UsageError(f"the samples in {place} are damaged: {flaw}") from error


def check_whole(results: Results, recording: Recording, place: Path) -> None:
    """Raise ``UsageError`` where a recording does not belong to the results.

    That is so where it lacks samples that the results refer to, or has samples that the metric cannot have
    returned. ``place`` is the file that the recording was read from.
    """
    for measurement in results.measurements:
        if measurement.value is None:
            continue
        metric, cell = results.metrics[measurement.metric], measurement.cell
        series = recording.get(cell, measurement.figure)
        if series is None or not len(series.values):
            raise UsageError(f"the samples in {place} are incomplete: they lack {metric.name} of {cell}")
        if metric.samples == "per_set" and not series.resampled:
            raise UsageError(
                f"the samples in {place} are incomplete: they lack the resamples of {metric.name} of {cell}"
            )
        if metric.samples == "per_item" and len(series.values) != measurement.n:
            raise UsageError(
                f"the samples in {place} are incomplete: {metric.name} of {cell} has "
                f"{len(series.values):,} values, expected {measurement.n:,}, one for each item"
            )
        _check_builds(results, recording, measurement, place)
        if flaw := _flaw(series, metric, compared=_is_compared(measurement)):
            raise UsageError(f"the samples in {place} are damaged: {metric.name} of {cell} {flaw}")
    for workload in results.run.workloads:
        for metric in results.metrics.values():
            if metric.samples in ("per_item", "per_set"):
                _check_item_counts(results, recording, workload, metric, place)


def _check_builds(results: Results, recording: Recording, measurement: Measurement, place: Path) -> None:
    """Raise ``UsageError`` where the samples of a further build are missing, or are those of other items."""
    if measurement.builds is None:
        return
    metric, cell = results.metrics[measurement.metric], measurement.cell
    result, seed = results.cells[cell], results.run.seed
    by_seed = series_of_builds(recording, cell, result, measurement.figure, seed)
    own = by_seed[seed]
    for name in measurement.builds.values:
        series = by_seed.get(int(name))
        subject = f"{metric.name} of {cell}, build with seed {name}"
        if series is None or (metric.samples == "per_set" and not series.resampled):
            raise UsageError(f"the samples in {place} are incomplete: they lack {subject}")
        if len(series.values) != len(own.values) or _items(series) != _items(own):
            raise UsageError(f"the samples in {place} are damaged: {subject} is of other items")
        if flaw := _flaw(series, metric, compared=False):
            raise UsageError(f"the samples in {place} are damaged: {subject} {flaw}")


def _items(series: Series) -> int | None:
    return series.resampled[0].items if series.resampled else None


def _is_compared(measurement: Measurement) -> bool:
    """Return whether the results compare a measurement with another cell by ratio."""
    comparisons = (measurement.vs_baseline, *measurement.comparisons)
    return any(
        comparison is not None and comparison.kind != "difference" and comparison.method != ITSELF
        for comparison in comparisons
    )


def _flaw(series: Series, metric: Metric, *, compared: bool) -> str | None:
    """Return why a metric cannot have returned these samples, or None.

    With ``compared`` the results compare them by ratio.
    """
    values = series.values
    if metric.samples == "exact" and len(values) != 1:
        return f"has {len(values):,} values, expected 1"
    if metric.samples in ("per_block", "per_round") and min(series.wave.min(), series.round.min()) < 0:
        return "has values without a wave or a round"
    if (series.wave < 0).any() and (series.wave >= 0).any():
        return "has values with a wave and values without one"
    if metric.compare == "difference" or metric.samples == "per_item":
        return None
    # An exact value may be 0, which is less than any other.
    is_too_low = values < 0 if metric.samples == "exact" else values <= 0
    if (compared or metric.compare == "speedup") and is_too_low.any():
        return f"has the value {values.min():g}, but is compared by ratio, which needs values above 0"
    if ((values != 0) & (np.abs(values) < SMALLEST)).any():
        return f"has values too small to compute with, nearer to 0 than {SMALLEST:g}"
    return None


def _check_item_counts(
    results: Results, recording: Recording, workload: str, metric: Metric, place: Path
) -> None:
    """Raise ``UsageError`` where cells of a workload have a metric over different numbers of items."""
    counts: dict[Figure, set[int]] = {}
    for name, cell in results.cells.items():
        for figure, series in recording.series.get(name, {}).items():
            if cell.workload == workload and figure.metric == metric.name:
                count = series.resampled[0].items if series.resampled else len(series.values)
                counts.setdefault(figure, set()).add(count)
    for sizes in counts.values():
        if len(sizes) > 1:
            items = f"{min(sizes):,} items in one cell and {max(sizes):,} items in another"
            raise UsageError(f"the samples in {place} are damaged: {metric.name} of {workload} has {items}")


def recompute(results: Results, recording: Recording, place: Path | None = None) -> Results:
    """Return the same run with its figures computed anew; details that metrics reported are kept.

    ``place`` is the file that the recording was read from. Raises ``UsageError`` where it lacks samples that
    the results refer to. Errors of outputs that were too large to be kept stay as they are.
    """
    check_whole(results, recording, place or Path(results.run.samples))
    failures = {
        (measurement.cell, measurement.metric): (measurement.outcome, measurement.cause or "")
        for measurement in results.measurements
        if measurement.outcome != "ok"
        and measurement.cause != NOT_ANALYSED
        and not _applies_elsewhere(results, measurement)
    }
    computed = analyse(
        run=evolve(results.run, analysed=True),
        environment=results.environment,
        metrics=results.metrics,
        configs=results.configs,
        cells=results.cells,
        recording=recording,
        failures=failures,
        errors=[error for error in results.outputs if error.cell in results.cells_without_outputs],
    )
    details = {_key(measurement): measurement.details for measurement in results.measurements}
    return evolve(
        computed,
        measurements=tuple(
            evolve(measurement, details={**details.get(_key(measurement), {}), **measurement.details})
            for measurement in computed.measurements
        ),
    )


def differences(ours: Results, theirs: Results) -> list[str]:
    """Return where figures of the same run differ, by their place in the file; empty where they are equal.

    Sentences about figures are left out, since their words may change between versions of qx.
    """
    our_fields, their_fields = (json.loads(to_json(results)) for results in (ours, theirs))
    places = (place for name in COMPUTED for place in _differing(our_fields[name], their_fields[name], name))
    return [place for place in places if not place.endswith(SENTENCES)]


def _differing(ours: object, theirs: object, place: str) -> Iterator[str]:
    # Details may have gained fields since the results were written.
    is_detail = ".details" in place
    if isinstance(ours, dict) and isinstance(theirs, dict) and (is_detail or ours.keys() == theirs.keys()):
        for name in ours.keys() & theirs.keys():
            yield from _differing(ours[name], theirs[name], f"{place}.{name}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (our_value, their_value) in enumerate(zip(ours, theirs, strict=True)):
            yield from _differing(our_value, their_value, f"{place}[{index}]")
    elif not _equal(ours, theirs):
        yield place


def _equal(ours: object, theirs: object) -> bool:
    if isinstance(ours, (int, float)) and isinstance(theirs, (int, float)):
        return math.isclose(ours, theirs, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return bool(ours == theirs)


def _applies_elsewhere(results: Results, measurement: Measurement) -> bool:
    """Return whether the metric has figures of this cell at another batch size, so that it did not fail."""
    return any(
        (other.outcome == "ok" or other.cause == NOT_ANALYSED)
        and (other.cell, other.metric) == (measurement.cell, measurement.metric)
        for other in results.measurements
    )


def _key(measurement: Measurement) -> tuple[str, Figure]:
    return measurement.cell, measurement.figure
