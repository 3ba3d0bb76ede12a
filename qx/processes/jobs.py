"""Units of work: what is to be done in a process of its own, as JSON.

A job holds only what JSON can hold, so that any executor can carry it to a process anywhere; the function
that does it is named by ``do`` and lives in the module of ``qx.worker`` of that name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from attrs import Factory, asdict, evolve, field, frozen

from qx.contract.fields import to_integers, to_strings
from qx.contract.records import Artifact
from qx.contract.references import Reference, to_reference


def _cpus(values: Iterable[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)


def _references(values: Iterable[Reference | Mapping[str, Any]]) -> tuple[Reference, ...]:
    return tuple(to_reference(value) for value in values)


def _without(references: Iterable[Reference], name: str) -> tuple[Reference, ...]:
    return tuple(reference for reference in references if reference.name != name)


@frozen(kw_only=True)
class Job:
    """What every job has."""

    do: ClassVar[str]
    seed: int = 0
    threads: int = 1
    engine: str | None = None
    #: CPUs that the process is held to; None leaves it where it is.
    cpus: tuple[int, ...] | None = field(default=None, converter=_cpus)
    #: Plugins that wrap the hooks of the others.
    wrappers: tuple[Reference, ...] = field(default=(), converter=_references)

    def to_json(self) -> str:
        """One line."""
        return json.dumps({"do": self.do, **asdict(self)})


@frozen(kw_only=True)
class WorkloadJob(Job):
    """What every job has that calls a workload."""

    workload: Reference = field(converter=to_reference)
    workload_options: Mapping[str, Any] = Factory(dict)


@frozen(kw_only=True)
class LoadingJob(WorkloadJob):
    """What every job has in which a workload loads its data."""

    #: Where the data lie, if the user said so; and where to keep what is made of them.
    data: str | None = None
    offline: bool = False
    cache: str


@frozen(kw_only=True)
class InspectJob(WorkloadJob):
    """Find out what the runtime is, whether weights and inputs fit the model, and who can treat it."""

    do: ClassVar[str] = "inspect"
    #: None leaves the model as it is made.
    weights: str | None
    #: Configs that are asked whether they can treat the model.
    configs: tuple[Reference, ...] = field(default=(), converter=_references)


@frozen(kw_only=True)
class DataJob(LoadingJob):
    """Lay down the evaluation inputs, labels and calibration inputs of a workload as plain array files."""

    do: ClassVar[str] = "data"
    #: Lay down the labels too.
    labels: bool = True
    #: A calibration split of each of these sizes.
    calibration_counts: tuple[int, ...] = field(default=(), converter=to_integers)
    #: Lay down the training split too: a config of the run fine-tunes.
    training: bool = False


@frozen(kw_only=True)
class BuildJob(WorkloadJob):
    """Make one artifact."""

    do: ClassVar[str] = "build"
    config: Reference = field(converter=to_reference)
    config_options: Mapping[str, Any] = Factory(dict)
    #: The loader that rebuilds modules, for a config that gives one.
    loaders: tuple[Reference, ...] = field(default=(), converter=_references)
    #: None leaves the model as it is made.
    weights: str | None
    calibration: str | None
    training: str | None = None
    folder: str


@frozen(kw_only=True)
class StoredArtifact:
    """An artifact on the disk, and the plugins that serve it.

    The host says which they are: nothing that lies beside the files decides what code is run.
    """

    folder: str
    #: Shipped files, relative to the folder.
    files: tuple[str, ...] = field(converter=to_strings)
    details: Mapping[str, Any] = Factory(dict)
    notes: tuple[str, ...] = field(default=(), converter=to_strings)
    #: As in ``Artifact``.
    weight_elements: int | None = None
    loader: Reference = field(converter=to_reference)
    #: The runtime's modules, from the loader's record: a launch imports them before any plugin.
    imports: tuple[str, ...] = field(default=(), converter=to_strings)
    #: What made the artifact, for a loader that rebuilds the module.
    config: Reference = field(converter=to_reference)
    config_options: Mapping[str, Any] = Factory(dict)
    #: The model was made with quantize and dequantize stubs.
    quantizable: bool = False
    workload: Reference = field(converter=to_reference)
    workload_options: Mapping[str, Any] = Factory(dict)

    def record(self) -> Artifact:
        """What a loader is given."""
        return Artifact(
            folder=Path(self.folder),
            loader=self.loader.name,
            files=self.files,
            details=self.details,
            notes=self.notes,
            weight_elements=self.weight_elements,
        )


def _stored(value: StoredArtifact | Mapping[str, Any]) -> StoredArtifact:
    return value if isinstance(value, StoredArtifact) else StoredArtifact(**value)


@frozen(kw_only=True)
class ArtifactJob(Job):
    """What every job has that loads an artifact."""

    artifact: StoredArtifact = field(converter=_stored)
    #: The folder of the evaluation inputs.
    inputs: str


@frozen(kw_only=True)
class LaunchJob(ArtifactJob):
    """Load one artifact and serve it, obeying commands."""

    do: ClassVar[str] = "launch"
    batch_sizes: tuple[int, ...] = field(converter=to_integers)
    metrics: tuple[Reference, ...] = field(default=(), converter=_references)
    metric_options: Mapping[str, Mapping[str, Any]] = Factory(dict)
    #: The host's monotonic clock when the process was asked for, nanoseconds.
    spawned_ns: int

    def without(self, metric: str) -> LaunchJob:
        """Give the same job but for a metric."""
        return evolve(self, metrics=_without(self.metrics, metric))


@frozen(kw_only=True)
class EvaluateJob(ArtifactJob):
    """Measure what needs no launches: metrics of the artifact's files, and of its predictions."""

    do: ClassVar[str] = "evaluate"
    batch_size: int
    artifact_metrics: tuple[Reference, ...] = field(default=(), converter=_references)
    prediction_metrics: tuple[Reference, ...] = field(default=(), converter=_references)
    metric_options: Mapping[str, Mapping[str, Any]] = Factory(dict)
    #: Where to leave the outputs, as an ``.npy`` file.
    outputs: str
    #: A folder that keeps what is finished, for a process that goes on where one died; None keeps nothing.
    finished: str | None = None

    @property
    def metrics(self) -> tuple[Reference, ...]:
        """The metrics of both phases, in the order in which they are measured."""
        return (*self.artifact_metrics, *self.prediction_metrics)

    def without(self, metric: str) -> EvaluateJob:
        """Give the same job but for a metric."""
        return evolve(
            self,
            artifact_metrics=_without(self.artifact_metrics, metric),
            prediction_metrics=_without(self.prediction_metrics, metric),
        )


@frozen(kw_only=True)
class DeriveJob(Job):
    """Measure the metrics that are derived from recorded samples of a cell and of the baseline."""

    do: ClassVar[str] = "derive"
    #: ``.npz`` files; keys are ``metric|batch size|values``, and likewise ``wave`` and ``round``.
    samples: str
    baseline: str
    #: The evaluation split, for its labels; None where there is none.
    inputs: str | None = None
    batch_sizes: tuple[int, ...] = field(converter=to_integers)
    metrics: tuple[Reference, ...] = field(default=(), converter=_references)
    metric_options: Mapping[str, Mapping[str, Any]] = Factory(dict)
    #: A folder that keeps what is finished, for a process that goes on where one died; None keeps nothing.
    finished: str | None = None

    def without(self, metric: str) -> DeriveJob:
        """Give the same job but for a metric."""
        return evolve(self, metrics=_without(self.metrics, metric))


@frozen(kw_only=True)
class TrainJob(LoadingJob):
    """Train a workload's model and write its weights."""

    do: ClassVar[str] = "train"
    output: str


@frozen(kw_only=True)
class SpinJob(Job):
    """Do a fixed piece of work whenever asked, and tell how long it took."""

    do: ClassVar[str] = "spin"


@frozen(kw_only=True)
class DescribeJob(Job):
    """Have plugins describe themselves, each when the host asks for it."""

    do: ClassVar[str] = "describe"


@frozen(kw_only=True)
class ServeJob(ArtifactJob):
    """Serve an artifact's evaluation inputs at several batch sizes, and tell what the loader did."""

    do: ClassVar[str] = "serve"
    batch_sizes: tuple[int, ...] = field(converter=to_integers)
    #: Where to leave the outputs at the last batch size, as an ``.npy`` file.
    outputs: str


@frozen(kw_only=True)
class ExamineJob(LoadingJob):
    """Find out whether a workload keeps what its contract promises: its model and its data."""

    do: ClassVar[str] = "examine"
    weights: str | None


def _job(value: Job | Mapping[str, Any]) -> Job:
    if isinstance(value, Job):
        return value
    fields = dict(value)
    return JOBS[fields.pop("do")](**fields)


@frozen(kw_only=True)
class WatchJob(Job):
    """Do another job, and tell what the plugins did besides: to what they were lent, and to the process."""

    do: ClassVar[str] = "watch"
    job: Job = field(converter=_job)
    #: Top-level modules that are to look as if they were not installed.
    absent: tuple[str, ...] = field(default=(), converter=to_strings)
    #: An empty folder to work in: files that are written to wherever the process happens to be lie there.
    folder: str
    #: For a build: evaluation inputs, and where to leave the fp32 model's outputs for them (``.npy``).
    inputs: str | None = None
    outputs: str | None = None

    def to_json(self) -> str:
        """One line."""
        fields = {**asdict(self), "job": json.loads(self.job.to_json())}
        return json.dumps({"do": self.do, **fields})


JOBS: Mapping[str, type[Job]] = {
    job.do: job
    for job in (
        *(InspectJob, DataJob, BuildJob, LaunchJob, EvaluateJob, DeriveJob, TrainJob, SpinJob),
        *(DescribeJob, ServeJob, ExamineJob, WatchJob),
    )
}


def from_json(line: str) -> Job:
    """The job that ``Job.to_json`` wrote."""
    return _job(json.loads(line))
