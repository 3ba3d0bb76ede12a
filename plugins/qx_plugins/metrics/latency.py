"""Milliseconds for one call of the model, at each batch size."""

from __future__ import annotations

from time import perf_counter_ns

from qx import Block, Metric, Subject, hookimpl
from qx.testing import Conformance

conformance = Conformance(worse="qx.testing.worse:SLOW")


@hookimpl
def describe() -> Metric:
    return Metric(
        name="latency",
        summary="Milliseconds a call: the median of launch medians, at each batch size.",
        unit="ms",
        better="lower",
        samples="per_block",
        compare="speedup",
        phase="block",
        margin=0.02,
        per_point=True,
        axis=True,
        pick="the lowest latency",
    )


@hookimpl
def measure(subject: Subject, data: Block) -> list[float]:
    call, native = subject.call, data.native
    nanoseconds = []
    for _ in range(data.calls):
        start = perf_counter_ns()
        call(native)
        nanoseconds.append(perf_counter_ns() - start)
    return [value / 1e6 for value in nanoseconds]
