"""Jobs: the units of work that are done in processes of their own, as JSON.

A job holds only values that JSON can hold, so that any executor can send it to a process anywhere. It names
the module whose function ``run(job, channel)`` does it there: ``qx.worker`` has a module for each job.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, get_args

from attrs import Factory, asdict, evolve, field, frozen

from qx.contract.devices import CPU
from qx.contract.fields import to_integers, to_strings
from qx.contract.figures import Point
from qx.contract.records import OUTPUT, Artifact, BuildStep, LayerRow, to_rows, to_steps
from qx.contract.references import Reference, to_reference
from qx.contract.structure import Structure, to_structure
from qx.processes.answers import Answer
from qx.values import JsonMapping, JsonObject, OptionValues

if TYPE_CHECKING:
    # The type checker reads these names in texts.
    from qx.processes.answers import LaunchAnswer  # noqa: F401
    from qx.processes.job_answers import (  # noqa: F401
        BuildAnswer,
        DataAnswer,
        DeriveAnswer,
        DeviceAnswer,
        EvaluateAnswer,
        InspectAnswer,
        LayerOutputsAnswer,
        LayersAnswer,
        ProfileAnswer,
        ShipAnswer,
        Started,
        TrainAnswer,
    )

A = TypeVar("A", bound=Answer, covariant=True)

#: What nearly all jobs import.
TORCH = "numpy", "torch"


def _cpus(values: Iterable[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)


def _references(values: Iterable[Reference | JsonMapping]) -> tuple[Reference, ...]:
    return tuple(to_reference(value) for value in values)


def _points(values: Iterable[Point | JsonMapping]) -> tuple[Point, ...]:
    return tuple(Point.from_json(value) for value in values)


def _by_length(folders: Mapping[int, str] | JsonMapping) -> dict[int, str]:
    # JSON has no numbers as keys.
    return {int(length): str(folder) for length, folder in folders.items()}


def _without(references: Iterable[Reference], *names: str) -> tuple[Reference, ...]:
    return tuple(reference for reference in references if reference.name not in names)


@frozen(kw_only=True)
class Job(Generic[A]):
    """The fields that all jobs have. ``A`` is the record of the answer.

    Each job names its record as a text, since a launch imports all jobs, and not the answers to others.
    """

    #: The name of the job in messages, in names of files, and of the module that does it.
    do: ClassVar[str]
    #: The package of the module that does it.
    package: ClassVar[str] = "qx.worker"
    #: The module of the record of its answer.
    answers: ClassVar[str] = "qx.processes.job_answers"
    seed: int = 0
    threads: int = 1
    engine: str | None = None
    #: Device of the run, as its cells have it.
    device: str = CPU
    #: CPUs that the process may run on; None: those of the host.
    cpus: tuple[int, ...] | None = field(default=None, converter=_cpus)
    #: Plugins that wrap the hooks of the others.
    wrappers: tuple[Reference, ...] = field(default=(), converter=_references)

    @property
    def answer_type(self) -> type[A]:
        """The record of the answer, by which the class is parametrized."""
        kind: Any = type(self)
        (reference,) = get_args(kind.__orig_bases__[0])
        answer_type: type[A] = getattr(import_module(self.answers), reference.__forward_arg__)
        return answer_type

    @property
    def module(self) -> str:
        """The module whose ``run(job, channel)`` does the job."""
        return f"{self.package}.{self.do}"

    @property
    def preloads(self) -> tuple[str, ...]:
        """Modules that a fork server imports for such jobs; none: their processes are started fresh."""
        return TORCH

    @property
    def stage(self) -> str:
        """The stage in which the job fails if the worker names no other."""
        return self.do

    def fields(self) -> JsonObject:
        """Return the fields of the job, with its class under ``class``, as ``to_job`` takes them."""
        return {"class": f"{type(self).__module__}:{type(self).__name__}", **asdict(self)}

    def to_json(self) -> str:
        """Return the job as one line of JSON."""
        return json.dumps(self.fields())


@frozen(kw_only=True)
class WorkloadJob(Job[A]):
    """The fields of all jobs that call a workload."""

    workload: Reference = field(converter=to_reference)
    workload_options: OptionValues = Factory(dict)


@frozen(kw_only=True)
class LoadingJob(WorkloadJob[A]):
    """The fields of all jobs in which a workload loads its data."""

    #: The folder of the data, or another form that they have; None if the user named none.
    data: str | None = None
    offline: bool = False
    #: The folder of the cache, for prepared data.
    cache: str


@frozen(kw_only=True)
class InspectJob(WorkloadJob["InspectAnswer"]):
    """Describe the runtime, check weights and inputs against the model, call ``check_model`` of configs."""

    do: ClassVar[str] = "inspect"
    #: The weights file; None: the model keeps the weights of its factory.
    weights: str | None
    #: Where the data lie that the user named, since they may say what inputs are; None: the user named none.
    data: str | None = None
    offline: bool = False
    #: Configs that are asked whether they can quantize the model.
    configs: tuple[Reference, ...] = field(default=(), converter=_references)
    #: Configs that those are composed of.
    recipes: tuple[Reference, ...] = field(default=(), converter=_references)
    #: Configs whose layers are listed, by name, each with the values of ``float_layers`` to be checked.
    float_layers: Mapping[str, Sequence[str]] = Factory(dict)


@frozen(kw_only=True)
class DataJob(LoadingJob["DataAnswer"]):
    """Write the evaluation and calibration splits of a workload as plain array files."""

    do: ClassVar[str] = "data"
    #: The data that calibrate, in the same forms; None where the workload's own do.
    calibration_data: str | None = None
    #: Number of evaluation items that are drawn; 0 for all, None where the workload decides.
    eval_n: int | None = None
    #: Whether the evaluation items are laid down in an order of which every beginning is a fair sample.
    in_fair_order: bool = False
    #: Whether the evaluation split has its targets.
    targets: bool = True
    #: The sizes of the calibration splits, in images.
    calibration_counts: tuple[int, ...] = field(default=(), converter=to_integers)
    #: Those of them that the user asked for: of others, data with fewer items give all that they have.
    named_counts: tuple[int, ...] = field(default=(), converter=to_integers)
    #: Whether to write the training split too, since a config of the run fine-tunes.
    training: bool = False
    #: Lengths that the user named, of which inputs are to be written.
    lengths: tuple[int, ...] = field(default=(), converter=to_integers)
    #: Seeds of further draws of calibration items, one for each further build of a config.
    further_seeds: tuple[int, ...] = field(default=(), converter=to_integers)
    #: The sizes of the calibration splits of further draws.
    further_counts: tuple[int, ...] = field(default=(), converter=to_integers)


@frozen(kw_only=True)
class BuildJob(WorkloadJob["BuildAnswer"]):
    """Build one artifact."""

    do: ClassVar[str] = "build"
    #: Seed of the config's hooks and of the order of training batches; None: that of the job, which is also
    #: the seed of the model. A further build has another one, and the same model.
    build_seed: int | None = None
    config: Reference = field(converter=to_reference)
    config_options: OptionValues = Factory(dict)
    #: Configs that it is composed of.
    recipes: tuple[Reference, ...] = field(default=(), converter=_references)
    #: The loaders of this host, one of which may serve the artifact.
    loaders: tuple[Reference, ...] = field(default=(), converter=_references)
    #: The weights file; None: the model keeps the weights of its factory.
    weights: str | None
    #: How the model takes inputs and returns outputs; None: a tensor for each input, and one as its output.
    structure: Structure | None = field(default=None, converter=to_structure)
    #: The folder of the calibration split; None: the config does not calibrate.
    calibration: str | None
    #: The folder of the training split; None: the config does not fine-tune.
    training: str | None = None
    #: The folder that the artifact and its probe are written into.
    folder: str
    #: Modules that the config's record names, which a fork server imports.
    imports: tuple[str, ...] = field(default=(), converter=to_strings)
    #: Folder for what several builds of the run share; None: nothing is shared.
    shared: str | None = None

    @property
    def preloads(self) -> tuple[str, ...]:
        """Modules of torch that the config imports are imported once for several builds."""
        return (*super().preloads, *self.imports)


def _build_job(value: BuildJob | JsonMapping) -> BuildJob:
    return value if isinstance(value, BuildJob) else BuildJob(**value)


@frozen(kw_only=True)
class LayersJob(Job["LayersAnswer"]):
    """Compare the layers of a config's module with those of the fp32 model."""

    do: ClassVar[str] = "layers"
    #: The build of the config; its folder is not used.
    build: BuildJob = field(converter=_build_job)
    #: Whether the artifact is a module, which is then built again; else its layers are simulated.
    is_module: bool
    #: The folder of the items that are looked at, and their number.
    inputs: str
    items: int


@frozen(kw_only=True)
class StoredArtifact:
    """An artifact on the disk, and the plugins that serve it.

    The host names the plugins: no file beside the artifact decides which code is run.
    """

    folder: str
    #: The files that are shipped, relative to the folder.
    files: tuple[str, ...] = field(converter=to_strings)
    details: JsonMapping = Factory(dict)
    notes: tuple[str, ...] = field(default=(), converter=to_strings)
    #: Number of elements of the model's weights, as in ``Artifact``.
    weight_elements: int | None = None
    loader: Reference = field(converter=to_reference)
    #: The runtime's modules, which a launch imports before any plugin, from the loader's record.
    imports: tuple[str, ...] = field(default=(), converter=to_strings)
    #: The config that made the artifact, for a loader that rebuilds the module.
    config: Reference = field(converter=to_reference)
    config_options: OptionValues = Factory(dict)
    #: Configs that it is composed of.
    recipes: tuple[Reference, ...] = field(default=(), converter=_references)
    #: Seed of the config's hooks, as in ``BuildJob``.
    build_seed: int | None = None
    #: Whether the model was made with quantize and dequantize stubs.
    quantizable: bool = False
    workload: Reference = field(converter=to_reference)
    workload_options: OptionValues = Factory(dict)
    #: How the model takes inputs and returns outputs; None: a tensor for each input, and one as its output.
    structure: Structure | None = field(default=None, converter=to_structure)

    def record(self) -> Artifact:
        """Return the artifact as the record that loaders take."""
        return Artifact(
            folder=Path(self.folder),
            loader=self.loader.name,
            files=self.files,
            details=self.details,
            notes=self.notes,
            weight_elements=self.weight_elements,
            outputs=(OUTPUT,) if self.structure is None else self.structure.outputs,
        )


def to_artifact(value: StoredArtifact | JsonMapping) -> StoredArtifact:
    """Return an artifact as a record, from the record or from its fields."""
    return value if isinstance(value, StoredArtifact) else StoredArtifact(**value)


@frozen(kw_only=True)
class ArtifactJob(Job[A]):
    """The fields of all jobs that load an artifact."""

    artifact: StoredArtifact = field(converter=to_artifact)
    #: The folder of the evaluation inputs.
    inputs: str
    #: Folders of inputs of the lengths that the user named, by length.
    lengths: Mapping[int, str] = field(factory=dict, converter=_by_length)
    #: Folder of the run for what is compiled when an artifact is loaded, on a device; None on the CPU.
    compiled: str | None = None

    @property
    def preloads(self) -> tuple[str, ...]:
        """Of the runtime's modules only torch: others are imported quickly, and may start threads."""
        return TORCH if "torch" in self.artifact.imports else ("numpy",)


@frozen(kw_only=True)
class LaunchJob(ArtifactJob["LaunchAnswer"]):
    """Load one artifact and serve it: a launch, which obeys the host's commands."""

    do: ClassVar[str] = "launch"
    answers: ClassVar[str] = "qx.processes.answers"
    #: Points that it is called at; the first answer is at the first of them.
    points: tuple[Point, ...] = field(converter=_points)
    metrics: tuple[Reference, ...] = field(default=(), converter=_references)
    metric_options: Mapping[str, OptionValues] = Factory(dict)
    #: The time of the spawn by the host's monotonic clock, in nanoseconds.
    spawned_ns: int

    def without(self, metric: str) -> LaunchJob:
        """Return the same job without a metric."""
        return evolve(self, metrics=_without(self.metrics, metric))


@frozen(kw_only=True)
class EvaluateJob(ArtifactJob["EvaluateAnswer"]):
    """Measure the metrics that need no launches: of the build, the artifact's files, and its predictions."""

    do: ClassVar[str] = "evaluate"
    batch_size: int
    #: Items of the largest batch that launches time; None if there are no launches.
    timed_batch_size: int | None = None
    #: Number of the first items that are evaluated; None for all.
    items: int | None = None
    #: Whether more items may be evaluated later, whose outputs then follow behind those of these items.
    grows: bool = False
    #: What was recorded of the build, for metrics of the build.
    steps: tuple[BuildStep, ...] = field(default=(), converter=to_steps)
    build_metrics: tuple[Reference, ...] = field(default=(), converter=_references)
    #: Table by layer of the artifact's config, for metrics of the artifact.
    layers: tuple[LayerRow, ...] = field(default=(), converter=to_rows)
    artifact_metrics: tuple[Reference, ...] = field(default=(), converter=_references)
    prediction_metrics: tuple[Reference, ...] = field(default=(), converter=_references)
    metric_options: Mapping[str, OptionValues] = Factory(dict)
    #: Whether to make the answers, the workload's ``postprocess`` of the outputs, where no metric needs them.
    makes_answers: bool = False
    #: The folder that the outputs are written into, by ``qx.worker.output_files``.
    outputs: str
    #: The folder of finished steps, from which another process continues if one dies; None: nothing is kept.
    finished: str | None = None

    @property
    def metrics(self) -> tuple[Reference, ...]:
        """The metrics of all phases, in the order in which they are measured."""
        return (*self.build_metrics, *self.artifact_metrics, *self.prediction_metrics)

    def without(self, *metrics: str) -> EvaluateJob:
        """Return the same job without some metrics."""
        return evolve(
            self,
            build_metrics=_without(self.build_metrics, *metrics),
            artifact_metrics=_without(self.artifact_metrics, *metrics),
            prediction_metrics=_without(self.prediction_metrics, *metrics),
        )


@frozen(kw_only=True)
class ShipJob(ArtifactJob["ShipAnswer"]):
    """Write ``serve.py`` beside an artifact, which serves it without qx, and run it in such a process."""

    do: ClassVar[str] = "ship"


@frozen(kw_only=True)
class ProfileJob(ArtifactJob["ProfileAnswer"]):
    """Time calls of an artifact, and have a profiler of its runtime say where that time goes."""

    do: ClassVar[str] = "profile"
    batch_size: int


@frozen(kw_only=True)
class LayerOutputsJob(ArtifactJob["LayerOutputsAnswer"]):
    """Compare what layers give inside of an artifact with the same values in one in float."""

    do: ClassVar[str] = "layer_outputs"
    #: The artifact in float, of the same loader.
    reference: StoredArtifact = field(converter=to_artifact)
    #: Number of items that are looked at.
    items: int


@frozen(kw_only=True)
class DeriveJob(Job["DeriveAnswer"]):
    """Measure the metrics that are derived from recorded samples of a cell and of the baseline."""

    do: ClassVar[str] = "derive"
    #: The ``.npz`` file of the cell's samples, as ``qx.worker.derive.read_recorded`` reads it.
    samples: str
    #: The same of the baseline.
    baseline: str
    #: The folders of the outputs of the cell and of the baseline; None: they have none.
    outputs: str | None = None
    baseline_outputs: str | None = None
    #: The folder of the evaluation split, for its targets; None: no targets.
    inputs: str | None = None
    #: Number of its first items that were evaluated; None for all.
    items: int | None = None
    #: Points at which metrics are derived that are measured at each point.
    points: tuple[Point, ...] = field(converter=_points)
    metrics: tuple[Reference, ...] = field(default=(), converter=_references)
    metric_options: Mapping[str, OptionValues] = Factory(dict)
    #: The folder of finished steps, from which another process continues if one dies; None: nothing is kept.
    finished: str | None = None

    def without(self, metric: str) -> DeriveJob:
        """Return the same job without a metric."""
        return evolve(self, metrics=_without(self.metrics, metric))


@frozen(kw_only=True)
class TrainJob(LoadingJob["TrainAnswer"]):
    """Train a workload's model and write its weights."""

    do: ClassVar[str] = "train"
    #: The file that the weights are written into.
    output: str


@frozen(kw_only=True)
class DeviceJob(Job["DeviceAnswer"]):
    """Open the job's device, and describe it."""

    do: ClassVar[str] = "device"


@frozen(kw_only=True)
class SpinJob(Job["Started"]):
    """Do a fixed piece of work at each command, and answer with the time that it took."""

    do: ClassVar[str] = "spin"

    @property
    def preloads(self) -> tuple[str, ...]:
        """None, since it needs neither of them."""
        return ()


@frozen(kw_only=True)
class DescribeJob(Job["Started"]):
    """Have plugins describe themselves, each when the host asks for it."""

    do: ClassVar[str] = "describe"

    @property
    def preloads(self) -> tuple[str, ...]:
        """Neither of them, which a plugin may not import to describe itself: what describes plugins."""
        return ("qx.worker.describe",)


def to_job(value: Job[Answer] | JsonMapping) -> Job[Answer]:
    """Return the value if it is a job, or the job that has these fields, as ``Job.fields`` returns them."""
    if isinstance(value, Job):
        return value
    fields = dict(value)
    module, _, name = fields.pop("class").partition(":")
    kind: type[Job[Answer]] = getattr(import_module(module), name)
    return kind(**fields)
