"""Checks of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from qx.contract.figures import Point
from qx.contract.records import Metric
from qx.processes.answers import PlainSamples
from qx.processes.workers import Failure
from qx.testing.bench import Bench
from qx.testing.check import Check
from qx.testing.for_all import needs_only, try_bad_options
from qx.testing.measuring import PAIRS, Measuring
from qx.testing.verdicts import Failed, NotApplicable

K = TypeVar("K")

#: Confidence level at which two measurements of the same subject must not differ.
LEVEL = 0.999


def _record(bench: Bench) -> Metric:
    assert isinstance(bench.record, Metric)
    return bench.record


def _measuring(bench: Bench) -> Measuring:
    measuring: Measuring = bench.cached("measuring", lambda: Measuring(bench))
    return measuring


def gives_finite_samples(bench: Bench) -> str:
    """It measures its subject: finite samples, as many as its record promises, in a unit that it names."""
    if bench.entry.state == "unavailable":
        raise NotApplicable(bench.entry.reason)
    record, measuring = _record(bench), _measuring(bench)
    if not record.unit.strip():
        raise Failed("its record names no unit")
    if record.tasks and (task := bench.prepared.task.name) not in record.tasks:
        raise NotApplicable(
            f"it is for {' or '.join(record.tasks)}, and the task of {bench.prepared.workload.name} is "
            f"{task or 'not known'}: name a workload that it is for, as Conformance(workload=...)"
        )
    measurements = measuring.first
    if not measurements:
        raise NotApplicable(
            f"it gives None for {measuring.subject.name}: name a config that it applies to, as "
            f"Conformance(subject=...)"
        )
    for measurement in measurements.values():
        if flaw := measuring.flaw(measurement):
            raise Failed(flaw)
    values = next(iter(measurements.values())).values
    return f"{len(values)} {record.samples}: {values[0]:.4g} {record.unit}"


def combines_over_the_last_axis(bench: Bench) -> str:
    """``combine`` gives each of several sets, in arrays of several dimensions, the value it has alone."""
    if _record(bench).samples != "per_set":
        raise NotApplicable("it is no metric of a whole set")
    try:
        shapes = _measuring(bench).combine()
    except Failure as failure:
        raise Failed(str(failure)) from failure
    if not shapes:
        raise NotApplicable("it does not implement combine, or measure gives a single value here")
    return f"sets in arrays of shape {', '.join(str(list(shape)) for shape in shapes)}"


def leaves_inputs(bench: Bench) -> str:
    """What it is given (outputs, recorded samples, inputs, files) is not changed in place."""
    if changed := _measuring(bench).observed.changed:
        raise Failed("; ".join(changed))
    return "unchanged"


def writes_nothing(bench: Bench) -> str:
    """Nothing is written to the current folder."""
    if strays := _measuring(bench).observed.strays:
        raise Failed(f"writes {', '.join(strays[:5])} into the current folder")
    return "nothing in the current folder"


def equal_again(bench: Bench) -> str:
    """The same subject gives the same again: exactly, or in launches within qx's interval.

    Metrics of phases ``fresh`` and ``block`` are measured in pairs of launches, one after the other, and
    the t interval of the paired difference (99.9 %) must contain none. Where it does not, they are measured
    anew: by luck it misses once in a thousand times, but not twice to the same side.
    """
    record, measuring = _record(bench), _measuring(bench)
    if record.phase not in ("fresh", "block"):
        again = measuring.measure_again()
        if _values(again) != _values(measuring.first):
            raise Failed("measured twice of the same artifact, in two processes, it gives different samples")
        return "the same samples in another process"
    first = {key: _paired(*pair) for key, pair in measuring.measure_pairs().items()}
    missed = {key: difference for key, (difference, low, high) in first.items() if not low <= 0 <= high}
    for key, pair in measuring.measure_pairs().items() if missed else ():
        difference, low, high = _paired(*pair)
        if key in missed and not low <= 0 <= high and (difference > 0) == (missed[key] > 0):
            raise Failed(
                f"the second of two launches of one artifact gives {difference:+.3g} {record.unit} more, "
                f"in {PAIRS} pairs, from {low:+.3g} to {high:+.3g} at {LEVEL:.1%}, twice"
            )
    return ", ".join(
        f"{_prefix(key)}{difference:+.2g} {record.unit} in {PAIRS} pairs"
        for key, (difference, _, _) in first.items()
    )


def worse_for_a_worse_subject(bench: Bench) -> str:
    """A subject that its author supplies as worse is measured to be worse (``Conformance.worse``)."""
    record, measuring = _record(bench), _measuring(bench)
    if record.better == "neither":
        raise NotApplicable("its record names no better direction")
    if bench.conformance.worse is None:
        raise NotApplicable("its author supplies no worse subject")
    usual, worse = measuring.averages(measuring.first), measuring.averages(measuring.measure_worse())
    name = measuring.worse_subject.name
    for key, value in usual.items():
        if key not in worse:
            raise Failed(f"it gives nothing for {name}")
        if not (worse[key] > value if record.better == "lower" else worse[key] < value):
            raise Failed(
                f"{_prefix(key)}{worse[key]:.4g} {record.unit} for {name}, which is not worse "
                f"than {value:.4g} for {measuring.subject.name} ({record.better} is better)"
            )
    key = next(iter(usual))
    return f"{worse[key]:.4g} {record.unit} for {name}, {usual[key]:.4g} without"


def needs_what_it_says(bench: Bench) -> str:
    """It measures with what its record requires, uses that, and imports no other distribution."""
    measuring = _measuring(bench)
    companions = measuring.subject.record.requires if measuring.subject.record else ()
    return needs_only(bench, measuring.observed.modules, measuring.measure_without, companions=companions)


def refuses_bad_options(bench: Bench) -> str:
    """A value that an option cannot have is refused in words that name the option."""
    return try_bad_options(bench, _measuring(bench).attempt)


def _values(measurements: Mapping[K, PlainSamples]) -> dict[K, Sequence[float]]:
    return {key: measurement.values for key, measurement in measurements.items()}


def _prefix(point: Point | None) -> str:
    return "" if point is None else f"{point.words}: "


def _paired(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of second less first, and both ends of its t interval."""
    from qx.statistics import over_waves

    differences = [later - earlier for earlier, later in zip(first, second, strict=True)]
    difference = over_waves.difference_interval(differences, level=LEVEL)
    if difference.ci is None:
        return difference.value, difference.value, difference.value
    return difference.value, *difference.ci


#: The checks of a metric, in the order in which they are run.
CHECKS = (
    Check(gives_finite_samples, after=("valid_record", "unique_name")),
    Check(combines_over_the_last_axis, after=("gives_finite_samples",)),
    Check(leaves_inputs, after=("gives_finite_samples",)),
    Check(writes_nothing, after=("gives_finite_samples",)),
    Check(equal_again, after=("gives_finite_samples",)),
    Check(worse_for_a_worse_subject, after=("equal_again",)),
    Check(needs_what_it_says, after=("gives_finite_samples",)),
    Check(refuses_bad_options, after=("gives_finite_samples",)),
)
