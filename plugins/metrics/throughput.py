"""Items served in a second at each batch size, from the calls that `latency` timed."""

from __future__ import annotations

from qx import Metric, Recorded, Samples, hookimpl
from qx.testing import Conformance

conformance = Conformance(worse="qx.testing.worse:SLOW")


@hookimpl
def describe() -> Metric:
    return Metric(
        name="throughput",
        summary="Items a second at each batch size, derived from the samples of latency.",
        unit="items/s",
        better="higher",
        samples="per_launch",
        compare="ratio",
        phase="derived",
        margin=0.02,
        per_batch_size=True,
    )


@hookimpl
def measure(data: Recorded) -> Samples | None:
    import numpy as np

    key = ("latency", data.batch_size)
    if key not in data.samples or data.batch_size is None:
        return None
    milliseconds, waves = data.samples[key], data.waves[key]
    launches = np.unique(waves)
    medians = [float(np.median(milliseconds[waves == wave])) for wave in launches]
    return Samples([1000.0 * data.batch_size / median for median in medians], waves=launches.tolist())
