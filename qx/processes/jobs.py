"""Units of work: what is to be done in a process of its own, as JSON.

A job holds only what JSON can hold, so that any executor can carry it to a process anywhere. It names the
module whose function ``run(job, channel)`` does it there: of ``qx.worker``, a module for each job.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import ClassVar

from attrs import Factory, asdict, evolve, field, frozen

from qx.contract.fields import to_integers, to_strings
from qx.contract.records import Artifact
from qx.contract.references import Reference, to_reference
from qx.values import JsonMapping, JsonObject, OptionValues


def _cpus(values: Iterable[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)


def _references(values: Iterable[Reference | JsonMapping]) -> tuple[Reference, ...]:
    return tuple(to_reference(value) for value in values)


def _without(references: Iterable[Reference], name: str) -> tuple[Reference, ...]:
    return tuple(reference for reference in references if reference.name != name)


@frozen(kw_only=True)
class Job:
    """What every job has."""

    #: What the job is called, in messages and in names of files.
    do: ClassVar[str]
    #: The package of the module that does it, which is called as the job is.
    package: ClassVar[str] = "qx.worker"
    seed: int = 0
    threads: int = 1
    engine: str | None = None
    #: CPUs that the process is held to; None leaves it where it is.
    cpus: tuple[int, ...] | None = field(default=None, converter=_cpus)
    #: Plugins that wrap the hooks of the others.
    wrappers: tuple[Reference, ...] = field(default=(), converter=_references)

    @property
    def module(self) -> str:
        """The module whose ``run(job, channel)`` does it."""
        return f"{self.package}.{self.do}"

    @property
    def stage(self) -> str:
        """The stage in which it fails, where the worker names no other."""
        return self.do

    def fields(self) -> JsonObject:
        """Return its fields, and its class as ``class``: what ``to_job`` makes it of."""
        return {"class": f"{type(self).__module__}:{type(self).__name__}", **asdict(self)}

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps(self.fields())


@frozen(kw_only=True)
class WorkloadJob(Job):
    """What every job has that calls a workload."""

    workload: Reference = field(converter=to_reference)
    workload_options: OptionValues = Factory(dict)


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
    config_options: OptionValues = Factory(dict)
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
    details: JsonMapping = Factory(dict)
    notes: tuple[str, ...] = field(default=(), converter=to_strings)
    #: As in ``Artifact``.
    weight_elements: int | None = None
    loader: Reference = field(converter=to_reference)
    #: The runtime's modules, from the loader's record: a launch imports them before any plugin.
    imports: tuple[str, ...] = field(default=(), converter=to_strings)
    #: What made the artifact, for a loader that rebuilds the module.
    config: Reference = field(converter=to_reference)
    config_options: OptionValues = Factory(dict)
    #: The model was made with quantize and dequantize stubs.
    quantizable: bool = False
    workload: Reference = field(converter=to_reference)
    workload_options: OptionValues = Factory(dict)

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


def _stored(value: StoredArtifact | JsonMapping) -> StoredArtifact:
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
    metric_options: Mapping[str, OptionValues] = Factory(dict)
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
    metric_options: Mapping[str, OptionValues] = Factory(dict)
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
    metric_options: Mapping[str, OptionValues] = Factory(dict)
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


def to_job(value: Job | JsonMapping) -> Job:
    """Return a job, or make the one that these fields describe: those of ``Job.fields``."""
    if isinstance(value, Job):
        return value
    fields = dict(value)
    module, _, name = fields.pop("class").partition(":")
    kind: type[Job] = getattr(import_module(module), name)
    return kind(**fields)


def from_json(line: str) -> Job:
    """Return the job that ``Job.to_json`` wrote."""
    return to_job(json.loads(line))
