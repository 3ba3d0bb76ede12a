"""The most resident memory that a fresh process ever holds while it loads and serves the artifact."""

from __future__ import annotations

from attrs import asdict

from qx import Fresh, Mark, Metric, Samples, Subject, hookimpl
from qx.testing import Conformance

#: At each batch size, before the steady and the highest mark are read.
CALLS = 20

conformance = Conformance(worse="qx.testing.worse:HUNGRY")


@hookimpl
def describe() -> Metric:
    return Metric(
        name="rss",
        summary="MiB: the peak resident memory of a fresh process that loads and serves the artifact.",
        unit="MiB",
        better="lower",
        samples="per_launch",
        compare="ratio",
        phase="fresh",
        margin=0.02,
        axis=True,
        pick="the least memory",
    )


@hookimpl
def measure(subject: Subject, data: Fresh) -> Samples:
    marks = list(data.marks)
    # The largest first: on a heap that small ones have broken up, how much more it takes is a matter of luck.
    for batch_size, native in sorted(data.natives.items(), reverse=True):
        for _ in range(CALLS):
            subject.call(native)
        marks.append(data.mark(f"served batches of {batch_size}"))
    peak = max(mark.peak for mark in marks)
    stages = {mark.stage: _as_json(mark) for mark in marks}
    return Samples(peak, details={"stages": stages, "steady": marks[-1].rss, "peak": peak})


def _as_json(mark: Mark) -> dict[str, float | str | None]:
    """A mark, with what is shared apart from what is its own, where the system tells them apart."""
    shared = None if mark.private is None else mark.rss - mark.private
    return {**asdict(mark), "shared": shared}
