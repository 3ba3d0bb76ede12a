"""Milliseconds for one call of the model, at each batch size, length of inputs and kind of call."""

from __future__ import annotations

from time import perf_counter_ns

from qx import Block, Metric, hookimpl
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
def measure(data: Block) -> list[float]:
    if data.time_calls is not None:
        # On a device with a queue: until it has done all of its work.
        return [1e3 * seconds for seconds in data.time_calls().wall]
    call, native, reset = data.call, data.native, data.reset
    nanoseconds = []
    for _ in range(data.calls):
        if reset is not None:
            reset()
        start = perf_counter_ns()
        call(native)
        nanoseconds.append(perf_counter_ns() - start)
    return [value / 1e6 for value in nanoseconds]
