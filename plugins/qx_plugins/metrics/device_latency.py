"""Milliseconds for one call by the device's own clock, between two stamps that go through its queue."""

from __future__ import annotations

from qx import Block, Metric, Samples, hookimpl
from qx.testing import Conformance

conformance = Conformance(worse="qx.testing.worse:SLOW")


@hookimpl
def describe() -> Metric:
    return Metric(
        name="device_latency",
        summary="Milliseconds a call by the device's own clock (CUDA events), at each batch size.",
        unit="ms",
        better="lower",
        samples="per_block",
        compare="speedup",
        phase="block",
        margin=0.02,
        per_point=True,
        devices=("cuda",),
    )


@hookimpl
def measure(data: Block) -> Samples | None:
    if data.time_calls is None:
        return None
    times = data.time_calls()
    return Samples(
        [1e3 * seconds for seconds in times.device],
        # The same calls by the host's clock, with what it costs to start them and to wait for them.
        details={"wall": [round(1e3 * seconds, 6) for seconds in times.wall]},
    )
