"""Items served in a second at each batch size, from the calls that `latency` timed."""

from __future__ import annotations

from qx import Figure, Metric, Recorded, Samples, hookimpl
from qx.testing import Conformance

conformance = Conformance(worse="qx.testing.worse:SLOW")


@hookimpl
def describe() -> Metric:
    return Metric(
        name="throughput",
        summary="Items a second at each batch size, derived from the samples of latency.",
        unit="items/s",
        better="higher",
        samples="per_block",
        compare="ratio",
        phase="derived",
        derived_from=("latency",),
        margin=0.02,
        per_point=True,
    )


@hookimpl
def measure(data: Recorded) -> Samples | None:
    latency = Figure("latency", data.point)
    if latency not in data.samples or data.point is None:
        return None
    # A value for each call, with its wave and round, so that it is compared like latency.
    return Samples(
        1000.0 * data.point.batch_size / data.samples[latency],
        waves=data.waves[latency],
        rounds=data.rounds[latency],
    )
