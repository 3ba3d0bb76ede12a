"""The most memory that building the artifact takes, that of compilers and other started programs included."""

from __future__ import annotations

from qx import Building, Metric, Samples, hookimpl


@hookimpl
def describe() -> Metric:
    return Metric(
        name="build_memory",
        summary="MiB: the most resident memory of the processes that built the artifact.",
        unit="MiB",
        better="lower",
        samples="exact",
        compare="ratio",
        phase="build",
        margin=0.05,
    )


@hookimpl
def measure(data: Building) -> Samples:
    peaks = {step.name: step.peak_of_all for step in data.steps}
    own = max(step.peak for step in data.steps)
    return Samples(max(peaks.values()), details={"stages": peaks, "build_process": own})
