"""Compute all figures of a run again, from its raw samples."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import evolve

from qx.analysis import analyse
from qx.errors import UsageError
from qx.recording import Recording
from qx.results import Measurement, Results

#: Another version of numpy may round the last digits otherwise.
RELATIVE, ABSOLUTE = 1e-9, 1e-12
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
    except Exception as error:
        # A damaged archive raises whatever zipfile, zlib and numpy run into.
        told = str(error) or type(error).__name__
        raise UsageError(f"the samples in {place} are damaged: {told}") from error


def check_whole(results: Results, recording: Recording, place: Path) -> None:
    """Raise ``UsageError`` where the recording lacks samples that the results refer to.

    ``place`` is the file that it was read from.
    """
    for one in results.measurements:
        if one.value is None:
            continue
        series = recording.get(one.cell, (one.metric, one.params.get("batch_size")))
        if series is None or not len(series.values):
            raise UsageError(
                f"the samples in {place} are not whole: there are none of {one.metric} of {one.cell}"
            )
        if results.metrics[one.metric].samples == "per_set" and not series.resampled:
            raise UsageError(
                f"the samples in {place} are not whole: {one.metric} of {one.cell} was not resampled"
            )
        if results.metrics[one.metric].samples == "per_item" and len(series.values) != one.n:
            raise UsageError(
                f"the samples in {place} are not whole: of {one.metric} of {one.cell} there are "
                f"{len(series.values):,}, and it was measured of {one.n:,} items"
            )


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
    plain, other = (json.loads(results.to_json()) for results in (ours, theirs))
    return [place for name in COMPUTED for place in _differing(plain[name], other[name], name)]


def _differing(ours: Any, theirs: Any, place: str) -> Iterator[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        for name in ours:
            yield from _differing(ours[name], theirs[name], f"{place}.{name}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from _differing(one, other, f"{place}[{index}]")
    elif not _equal(ours, theirs):
        yield place


def _equal(ours: Any, theirs: Any) -> bool:
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
