"""Seconds from the spawn of a fresh process to its first answer."""

from __future__ import annotations

from qx import Fresh, Metric, Samples, hookimpl
from qx.testing import Conformance

conformance = Conformance(worse="qx.testing.worse:LATE")


@hookimpl
def describe() -> Metric:
    return Metric(
        name="startup",
        summary="Seconds from the start of a process to its first answer.",
        unit="s",
        better="lower",
        samples="per_launch",
        compare="ratio",
        phase="fresh",
        margin=0.05,
    )


@hookimpl
def measure(data: Fresh) -> Samples:
    """Return the seconds until the first answer; the details hold the seconds of each stage."""
    stages, previous = {}, 0.0
    for mark in data.marks:
        stages[mark.stage] = mark.seconds - previous
        previous = mark.seconds
        if mark.stage == "first_answer":
            break
    return Samples(previous, details={"stages": stages})
