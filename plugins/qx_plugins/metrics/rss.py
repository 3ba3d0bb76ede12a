"""The peak resident memory of a fresh process that loads and serves the artifact."""

from __future__ import annotations

from attrs import asdict

from qx import Fresh, Mark, Metric, Samples, Subject, hookimpl
from qx.testing import Conformance

#: Calls at each batch size before memory is read.
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
    # The largest inputs first: after small ones the heap is fragmented, and its growth is random.
    for point in sorted(data.natives, key=lambda point: (point.batch_size, point.length or 0), reverse=True):
        for _ in range(CALLS):
            subject.call(data.natives[point])
        length = "" if point.length is None else f", length {point.length}"
        marks.append(data.mark(f"served batches of {point.batch_size}{length}"))
    peak = max(mark.peak for mark in marks)
    stages = {mark.stage: _as_json(mark) for mark in marks}
    return Samples(peak, details={"stages": stages, "steady": marks[-1].rss, "peak": peak})


def _as_json(mark: Mark) -> dict[str, float | str | None]:
    """Return a mark as JSON, with shared memory beside private memory where the system reports both."""
    shared = None if mark.private is None else mark.rss - mark.private
    return {**asdict(mark), "shared": shared}
