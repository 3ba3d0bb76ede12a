"""Jobs that only the conformance kit asks for: serve an artifact, examine a workload, watch another job."""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen

from qx.contract.fields import to_integers, to_strings
from qx.processes.jobs import ArtifactJob, Job, LoadingJob, to_job
from qx.values import JsonObject

#: The package of the modules that do them.
PACKAGE = "qx.testing.worker"


@frozen(kw_only=True)
class ServeJob(ArtifactJob):
    """Serve an artifact's evaluation inputs at several batch sizes, and tell what the loader did."""

    do: ClassVar[str] = "serve"
    package: ClassVar[str] = PACKAGE
    batch_sizes: tuple[int, ...] = field(converter=to_integers)
    #: Where to leave the outputs at the last batch size, as an ``.npy`` file.
    outputs: str


@frozen(kw_only=True)
class ExamineJob(LoadingJob):
    """Find out whether a workload keeps what its contract promises: its model and its data."""

    do: ClassVar[str] = "examine"
    package: ClassVar[str] = PACKAGE
    weights: str | None


@frozen(kw_only=True)
class WatchJob(Job):
    """Do another job, and tell what the plugins did besides: to what they were lent, and to the process."""

    do: ClassVar[str] = "watch"
    package: ClassVar[str] = PACKAGE
    job: Job = field(converter=to_job)
    #: Top-level modules that are to look as if they were not installed.
    absent: tuple[str, ...] = field(default=(), converter=to_strings)
    #: An empty folder to work in: files that are written to wherever the process happens to be lie there.
    folder: str
    #: For a build: evaluation inputs, and where to leave the fp32 model's outputs for them (``.npy``).
    inputs: str | None = None
    outputs: str | None = None

    @property
    def stage(self) -> str:
        """The stage in which it fails: that of the inner job."""
        return self.job.stage

    def fields(self) -> JsonObject:
        """Return its fields, with those of the inner job as ``job``."""
        return {**super().fields(), "job": self.job.fields()}
