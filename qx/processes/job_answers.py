"""The answers to the jobs that are no launches, and to their commands: a record for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import Factory, frozen

from qx.contract.description import Description
from qx.contract.devices import DeviceFacts, DeviceMemory, DeviceReading
from qx.contract.figures import Figure
from qx.contract.records import BuildStep
from qx.contract.rounding import Rounding
from qx.contract.structure import Structure
from qx.contract.tasks import Labels
from qx.processes.answers import Answer, Measurement
from qx.tracebacks import NO_TRACEBACK, Traceback


@frozen(kw_only=True)
class Runtime:
    """The torch of a worker, as results record it."""

    #: Version of torch.
    torch: str
    #: Widest vector instructions that torch uses, such as ``AVX512``.
    cpu_capability: str
    #: Quantized engines that are available.
    engines: tuple[str, ...]
    #: Whether oneDNN is available.
    mkldnn: bool


@frozen(kw_only=True)
class Refusal:
    """The reason why a config cannot quantize the model, and the stage in which it said so."""

    stage: str
    cause: str
    traceback: Traceback = NO_TRACEBACK


@frozen(kw_only=True)
class ItemInput:
    """An input of the model, as one item has it."""

    name: str
    #: Name of the numpy type, such as ``int64``.
    dtype: str
    #: Shape without the first dimension, which is the items.
    shape: tuple[int, ...]
    #: Smallest and largest value of the first items; None where they are not known.
    lowest: float | None = None
    highest: float | None = None

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, ('items', *self.shape)))}]"


@frozen(kw_only=True)
class InspectAnswer(Answer):
    """The model of a workload, the runtime, and the configs that cannot quantize the model."""

    runtime: Runtime
    #: SHA-256 of the weights file, or of the model's own weights where there is no file.
    weights_sha256: str
    #: How the weights were adapted to the model, as a phrase; empty if they were not.
    weights_note: str
    #: Whether what makes the model says that its weights are trained; None where it says nothing.
    trained: bool | None
    #: SHA-256 of the user's own source files that make the model, and of what the model says decides it.
    sources_sha256: str
    #: Versions of the distributions that make the model, by name.
    versions: Mapping[str, str]
    #: Number of elements of all parameters.
    parameters: int
    #: Shape of each of the model's outputs for one item, by name; empty where the example inputs are missing.
    outputs: Mapping[str, tuple[int, ...]]
    #: The same of what the workload's ``postprocess`` makes of them; empty where it has none, or fails.
    answers: Mapping[str, tuple[int, ...]] = Factory(dict)
    #: How the model takes inputs and returns outputs; None where the example inputs are missing.
    structure: Structure | None = None
    #: Shapes and types of the example inputs for one item; None where the data have to say them.
    inputs: tuple[ItemInput, ...] | None = None
    #: Inputs like those of the data, as ``--example`` has them; empty where the workload knows its inputs.
    example: str = ""
    #: Configs that cannot quantize the model, by name.
    refusals: Mapping[str, Refusal] = Factory(dict)
    #: Layers that the configs of ``InspectJob.float_layers`` quantize and can leave in float, by config, each
    #: with the number of elements of its weights.
    layers: Mapping[str, Mapping[str, int]] = Factory(dict)


@frozen(kw_only=True)
class DataAnswer(Answer):
    """The data of a workload, and where they lie as array files."""

    #: Name of the data in results.
    source: str
    #: How the inputs follow from what a user has, in a sentence of the workload; empty if it does not say.
    preprocessing: str = ""
    #: Number of items in the evaluation split.
    items: int
    #: Number of items that these were drawn from: as many where all are evaluated.
    total_items: int
    #: Size of the inputs of one item, in bytes.
    item_bytes: int
    #: Names of the classes; empty where there are none.
    classes: tuple[str, ...]
    #: Labels of the evaluation split; None without labels, and if the job asks for none.
    labels: Labels | None
    #: Task that the workload states; None where it states none.
    task: str | None = None
    #: Whether the evaluation split has targets of any name, and the job asks for them.
    has_targets: bool = False
    #: Shapes and types of the inputs of one item.
    inputs: tuple[ItemInput, ...] = ()
    #: Number of items in the training split.
    training_items: int = 0
    #: Number of items of the largest calibration split that are evaluation items too, where the data that
    #: calibrate are the user's; 0 where that was not looked at.
    shared_items: int = 0
    #: Name of the folder of the evaluation split.
    evaluation: str
    #: Names of the folders of the calibration splits, by the number of items.
    calibrations: Mapping[int, str]
    #: Name of the folder of the training split; None if the job does not ask for it.
    training: str | None
    #: Names of the folders of further draws of calibration items, by seed and by the number of items.
    further: Mapping[int, Mapping[int, str]] = Factory(dict)
    #: Names of the folders of inputs of the lengths that the user named, by length.
    lengths: Mapping[int, str] = Factory(dict)
    #: Splits that were damaged in the cache and are written anew: the reason by the name of the folder.
    damaged: Mapping[str, str]
    #: The folder that holds the folders of all splits.
    folder: str


@frozen(kw_only=True)
class DeviceAnswer(Answer):
    """A device was opened, and can be used."""

    facts: DeviceFacts
    #: Its state before anything is done on it.
    reading: DeviceReading
    #: Memory that a process uses that has only opened it.
    memory: DeviceMemory


@frozen(kw_only=True)
class BuildAnswer(Answer):
    """An artifact was built."""

    #: Time from making the model to writing the manifest, in seconds.
    seconds: float
    steps: tuple[BuildStep, ...]


@frozen(kw_only=True)
class Serving(Answer):
    """What a process that evaluates an artifact shows of serving it."""

    #: Resident memory once the artifact is loaded, in MiB.
    loaded: float
    #: Largest resident memory while the artifact was loaded and evaluated, in MiB.
    peak: float
    #: The same while a batch as large as the largest that launches time was answered, before all items were;
    #: None where those of the evaluation are no larger.
    timed_peak: float | None = None
    #: Kinds of call of the loaded subject, beside the one that every subject has.
    kinds: tuple[str, ...] = ()
    #: Reasons why it does not serve inputs of some of the lengths that the user named, by length.
    refused_lengths: Mapping[int, str] = Factory(dict)
    #: Memory of the device that it used once the artifact was loaded, and after the evaluation; None on the
    #: CPU.
    device_loaded: DeviceMemory | None = None
    device_peak: DeviceMemory | None = None


@frozen(kw_only=True)
class EvaluateAnswer(Answer):
    """What was measured of an artifact without launches."""

    serving: Serving
    #: Measurements by metric; empty if the job keeps them in its folder of finished steps.
    metrics: Mapping[str, Measurement] = Factory(dict)


@frozen(kw_only=True)
class Arrangement:
    """Type and shape of a named array, without the dimension of its items."""

    name: str
    #: Name of the type, such as ``float32``.
    dtype: str
    #: None stands for a dimension of any length.
    shape: tuple[int | None, ...]


@frozen(kw_only=True)
class ShipAnswer(Answer):
    """What lies beside an artifact that is to be served without qx."""

    inputs: tuple[Arrangement, ...]
    outputs: tuple[Arrangement, ...]
    #: Files that ``serve.py`` loads; empty where there is no ``serve.py``.
    files: tuple[str, ...] = ()
    #: What ``serve.py`` needs, as requirement lines with the versions that are installed here.
    requires: tuple[str, ...] = ()
    #: Sentences of the loader for those who serve the artifact.
    notes: tuple[str, ...] = ()
    #: Why there is no ``serve.py``; empty where there is.
    refusal: str = ""


@frozen(kw_only=True)
class DerivedMeasurement(Measurement):
    """What a derived metric gave, at one point if it is measured at several."""

    #: Key of the figure: the metric with its point.
    key: str
    #: Names of the metrics whose samples were used.
    read: tuple[str, ...] = ()

    @property
    def figure(self) -> Figure:
        """The metric with its point."""
        return Figure.parse_key(self.key)


@frozen(kw_only=True)
class DeriveAnswer(Answer):
    """What was derived from recorded samples."""

    #: Measurements of each metric, at each batch size; empty if the job keeps them as finished steps.
    metrics: tuple[DerivedMeasurement, ...] = ()

    @property
    def has_failed(self) -> bool:
        """Whether a metric raised an error, at one batch size at least."""
        return any(measurement.has_failed for measurement in self.metrics)


@frozen(kw_only=True)
class WeightRange:
    """The weights of a layer of the fp32 model, by output channel."""

    #: Smallest and largest value; None where values are not finite.
    low: float | None
    high: float | None
    channels: int
    #: Number of channels whose weights are all 0, or next to it.
    dead_channels: int
    #: Largest absolute value of a channel over its median between channels: what one scale for all of them
    #: costs. None where the median is 0.
    spread: float | None
    #: Largest absolute value over the median of all absolute values; None where the median is 0.
    peak: float | None = None


@frozen(kw_only=True)
class OutputRange:
    """What a layer of the fp32 model gives for the items that were looked at, by channel."""

    #: Smallest and largest value; None where values are not finite.
    low: float | None
    high: float | None
    channels: int
    #: Number of channels with the same value for all items.
    constant_channels: int
    #: Largest absolute value over the root of the mean square: large where few values set the range.
    peak: float | None
    is_finite: bool
    #: Share of the values outside of the range that the layer in 8 bits can give; None where it has none.
    clipped: float | None


@frozen(kw_only=True)
class LayerFigures:
    """How a layer in 8 bits differs from the same layer of the fp32 model; signal over noise in dB."""

    name: str
    #: Number of elements of its weights.
    elements: int
    #: Of its outputs, with the inputs of the fp32 model: the error that it makes.
    made: float | None
    #: Of its outputs at its place in the quantized network: the error that has arrived.
    arrived: float | None
    #: Of the outputs of the fp32 model in which this layer alone is quantized.
    alone: float | None
    #: Its weights in the fp32 model; None where it has none of its own.
    weights: WeightRange | None = None
    #: What it gives in the fp32 model; None where it was never called.
    outputs: OutputRange | None = None


@frozen(kw_only=True)
class LayersAnswer(Answer):
    """The layers that a config quantizes in a model, in the model's order."""

    #: Number of items that were looked at.
    items: int
    #: Number of those on which the effect of each layer alone was computed.
    items_alone: int
    #: Whether layers are simulated, since the artifact is no module whose layers could be called.
    is_simulated: bool
    #: How they are, where they are simulated.
    rounding: Rounding = Rounding()
    layers: tuple[LayerFigures, ...]


@frozen(kw_only=True)
class LayerOutputsAnswer(Answer):
    """The errors that have arrived at layers inside of an artifact, or why they are not known."""

    #: Signal over noise in dB by layer, as ``LayerFigures.arrived``.
    arrived: Mapping[str, float | None] = Factory(dict)
    #: Why they are not known; empty where they are.
    refusal: str = ""


@frozen(kw_only=True)
class TrainAnswer(Answer):
    """A model was trained."""

    #: The file of its weights.
    output: str


# Jobs that take commands -------------------------------------------------------------------------


@frozen(kw_only=True)
class Started(Answer):
    """The process has started and takes commands."""


@frozen(kw_only=True)
class OperatorRow:
    """An operator of a profile, with the fields of ``qx.ProfiledOperator``."""

    name: str
    type: str
    #: Time in one call of the model, in seconds.
    seconds: float
    #: Number of runs in one call of the model.
    count: float
    module: str
    precision: str
    converts: bool


@frozen(kw_only=True)
class ProfileAnswer(Answer):
    """Where the time of a call of an artifact goes."""

    #: Median time of a call without a profiler, in seconds.
    seconds: float
    #: Time of a typical call with the profiler, in seconds; 0 where there is none.
    profiled_seconds: float = 0.0
    #: Number of calls that the profiler watched.
    calls: int = 0
    operators: tuple[OperatorRow, ...] = ()
    notes: tuple[str, ...] = ()
    #: Reason why there is no profile; empty where there is one.
    refusal: str = ""


@frozen(kw_only=True)
class SpinAnswer(Answer):
    """The fixed piece of work was repeated."""

    #: Time of each repetition, in milliseconds.
    values: Sequence[float]


@frozen(kw_only=True)
class DescribeAnswer(Answer):
    """A plugin has described itself."""

    description: Description
    #: Files that were imported and that belong to neither Python, qx nor an installed distribution.
    files: tuple[str, ...]
    #: Time that the import and the description took, in seconds.
    seconds: float
    #: Top-level modules that were imported for it.
    modules: tuple[str, ...]
    #: The end of what it printed.
    printed: str
