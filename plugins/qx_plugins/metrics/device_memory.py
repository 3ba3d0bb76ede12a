"""The memory of the device that a fresh process takes which loads and serves the artifact."""

from __future__ import annotations

from attrs import asdict

from qx import Fresh, Metric, Samples, Subject, hookimpl
from qx.testing import Conformance

#: Calls at each batch size before memory is read.
CALLS = 20
#: Where the value comes from: what the driver counts for the process, or what torch's allocator has kept.
DRIVER, TORCH = "driver", "torch"

conformance = Conformance(worse="qx.testing.worse:HUNGRY")


@hookimpl
def describe() -> Metric:
    return Metric(
        name="device_memory",
        summary="MiB of the device: what a fresh process takes that loads and serves the artifact.",
        unit="MiB",
        better="lower",
        samples="per_launch",
        compare="ratio",
        phase="fresh",
        margin=0.02,
        axis=True,
        pick="the least memory of the device",
        devices=("cuda",),
    )


@hookimpl
def measure(subject: Subject, data: Fresh) -> Samples | None:
    if data.device is None:
        return None
    for point in sorted(data.natives, key=lambda point: (point.batch_size, point.length or 0), reverse=True):
        for _ in range(CALLS):
            subject.call(data.natives[point])
    memory = data.device.memory()
    # A process takes no memory of the device back, so what the driver counts now is the peak.
    source = TORCH if memory.of_process is None else DRIVER
    value = memory.reserved_peak if memory.of_process is None else memory.of_process
    return None if value is None else Samples(value, details={"source": source, **asdict(memory)})
