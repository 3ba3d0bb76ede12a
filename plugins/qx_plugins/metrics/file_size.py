"""Size in bytes of the files that a deployment ships, without the manifest."""

from __future__ import annotations

from qx import Artifact, Metric, Samples, hookimpl
from qx.testing import Conformance

conformance = Conformance(worse="qx.testing.worse:PADDED")


@hookimpl
def describe() -> Metric:
    return Metric(
        name="file_size",
        summary="Bytes of the artifact's files, without the manifest.",
        unit="bytes",
        better="lower",
        samples="exact",
        compare="ratio",
        phase="artifact",
        margin=0.01,
        axis=True,
        pick="the smallest artifact",
    )


@hookimpl
def measure(data: Artifact) -> Samples:
    sizes = {name: (data.folder / name).stat().st_size for name in data.files}
    return Samples(sum(sizes.values()), details={"files": sizes})
