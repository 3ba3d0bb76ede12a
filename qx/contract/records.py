"""The records that plugins, the host, the workers and the reports pass to each other.

They are frozen and light: importing this module imports neither numpy nor torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias

from attrs import Factory, field, frozen
from attrs.validators import ge, in_

from qx.contract.fields import (
    STRINGS,
    flag_field,
    name_field,
    optional_text_field,
    text_field,
    to_strings,
    to_values,
)
from qx.values import Array, JsonMapping, Native, OptionValue, OptionValues

if TYPE_CHECKING:
    from torch import nn

Kind: TypeAlias = Literal["config", "metric", "workload", "loader", "wrapper"]
Outcome: TypeAlias = Literal[
    "ok", "unsupported", "unavailable", "failed", "crashed", "timeout", "out_of_memory"
]
#: Named arrays of one batch, in the order in which the model takes them; each ``[batch, ...]``.
Arrays: TypeAlias = Mapping[str, Array]

#: Samples that can be computed with are smaller than the first, with either sign; what is compared by ratio
#: is no nearer to 0 than the second, unless it is 0. So neither ratios nor fourth powers leave the numbers.
LARGEST, SMALLEST = 1e75, 1e-75
#: Waves are counted from 0, and are fewer than this: what is computed holds an array of them for each cell.
MOST_WAVES = 10_000

#: Under this name the baseline is measured a second time.
CONTROL = "control"


# What plugins say of themselves -------------------------------------------------------------------


@frozen(kw_only=True)
class Option:
    """A typed option of a plugin. Its value reaches every hook of the plugin in ``context.options``.

    Its type is that of the default: ``int``, ``float``, ``bool`` or ``str``.
    """

    name: str = name_field()
    default: OptionValue
    help: str = text_field()
    #: The values there are; none where any of the type will do.
    choices: tuple[OptionValue, ...] = field(default=(), converter=to_values)
    #: The least and the most that a number may be.
    minimum: float | None = None
    maximum: float | None = None

    @property
    def type(self) -> type:
        """The type that a value must have: that of the default."""
        return type(self.default)

    def __attrs_post_init__(self) -> None:
        if self.type not in (int, float, bool, str):
            raise ValueError(
                f"the default of option {self.name!r} must be an int, float, bool or str, "
                f"not {self.type.__name__}"
            )
        for value in (self.default, *self.choices):
            if flaw := self.flaw(value):
                raise ValueError(f"option {self.name!r} must be {flaw}, not {value!r}")

    def flaw(self, value: object) -> str:
        """What a value must be and is not (``"at least 1"``); empty where it will do."""
        if type(value) is not self.type:
            return TYPES[self.type]
        if isinstance(value, float) and not math.isfinite(value):
            return "a finite number"
        if self.choices and value not in self.choices:
            return f"one of {', '.join(map(as_word, self.choices))}"
        if isinstance(value, (int, float)) and self.type is not bool:
            if self.minimum is not None and value < self.minimum:
                return f"at least {self.minimum}"
            if self.maximum is not None and value > self.maximum:
                return f"at most {self.maximum}"
        return ""


#: What a value of an option is, by the type of its default.
TYPES: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
}


def as_word(value: object) -> str:
    """A value of an option as one writes it on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _options(values: Iterable[Option]) -> tuple[Option, ...]:
    options = tuple(values)
    names = [option.name for option in options]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"option {twice[0]!r} is there twice")
    return options


#: An option of every config that calibrates; ``--calibration-n`` sets it for all that are not set themselves.
CALIBRATION_N = Option(
    name="calibration_n", default=256, minimum=1, help="Calibration images, drawn evenly over the classes."
)


@frozen(kw_only=True)
class Config:
    """A config: one named way to turn the trained model into something deployable."""

    kind: ClassVar[Kind] = "config"
    name: str = name_field()
    summary: str = text_field()
    #: Distributions that must be installed, as requirement strings (``"onnxruntime>=1.17"``).
    requires: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    #: The extra of the plugin's distribution that installs them.
    extra: str | None = optional_text_field()
    #: CPU flags without which the config cannot run (``"avx512_vnni"``).
    instruction_sets: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    #: Commands of which one must be on the PATH (``"g++", "clang++"``); ``"$CXX"``: what this variable names.
    programs: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    options: tuple[Option, ...] = field(default=(), converter=_options)
    #: ``calibrate`` wants batches of calibration images. Such a config has an option ``calibration_n``; its
    #: author may declare it, to give it another default.
    calibration: bool = flag_field()
    #: ``calibrate`` wants training batches instead, to fine-tune on.
    training: bool = flag_field()
    #: ``prepare_model`` wants the model with quantize and dequantize stubs at entry and exit.
    quantizable: bool = flag_field()
    #: It is the baseline.
    reference: bool = flag_field()
    #: Its outputs are those of the fp32 model but for rounding: another layout, or a runtime.
    keeps_outputs: bool = flag_field()
    #: The fp32 config of the same runtime, a second thing to compare with: it takes part wherever this does.
    runtime_baseline: str | None = optional_text_field()
    #: The config that follows the same recipe in another runtime: the two should behave the same.
    counterpart: str | None = optional_text_field()

    def __attrs_post_init__(self) -> None:
        if not self.calibration:
            return
        own = [option for option in self.options if option.name == CALIBRATION_N.name]
        if not own:
            object.__setattr__(self, "options", (*self.options, CALIBRATION_N))
        elif own[0].type is not int or own[0].minimum is None or own[0].minimum < 1:
            raise ValueError("option 'calibration_n' must be a whole number with a minimum of at least 1")


@frozen(kw_only=True)
class Metric:
    """A metric: one named quantity, and how its samples are to be treated."""

    kind: ClassVar[Kind] = "metric"
    name: str = name_field()
    summary: str = text_field()
    #: ``"ms"``, ``"bytes"``, ``"MiB"``, ``"fraction"``, or any other word.
    unit: str = text_field()
    better: Literal["lower", "higher", "neither"] = field(validator=in_(("lower", "higher", "neither")))
    #: What one value stands for: the whole truth, one item of the data, the whole set of items, one launch,
    #: or one call in a block. ``exact`` is for what has no sampling error, such as the size of a file.
    samples: Literal["exact", "per_item", "per_set", "per_launch", "per_block"] = field(
        validator=in_(("exact", "per_item", "per_set", "per_launch", "per_block"))
    )
    #: Against the baseline: ``value / baseline``, ``baseline / value``, or ``value - baseline``.
    compare: Literal["ratio", "speedup", "difference"] = field(
        validator=in_(("ratio", "speedup", "difference"))
    )
    #: When ``measure`` is called; see ``qx.contract.hookspecs.measure``.
    phase: Literal["artifact", "fresh", "block", "predictions", "derived"] = field(
        validator=in_(("artifact", "fresh", "block", "predictions", "derived"))
    )
    #: The smallest difference that matters: a share of the value, or in the unit where differences are taken.
    margin: float = field(default=0.0, converter=float, validator=ge(0))
    #: It is measured once for each batch size.
    per_batch_size: bool = flag_field()
    #: It is an axis of the front.
    axis: bool = flag_field()
    #: What one gets who picks by it: ``"the smallest artifact"``.
    pick: str | None = optional_text_field()
    #: Names of the metrics whose samples it is computed from, for phase ``derived``. What changes in these
    #: changes in it too, so where both changed ``qx compare`` counts one change.
    derived_from: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    #: The tasks of workloads that it is for (``"classification"``); none where it is for any. Of a workload
    #: with another task, or with none that is known, it is not measured, and the report says why.
    tasks: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    #: A metric of phase ``fresh`` that times: launches must then start one after another, not side by side.
    alone: bool = flag_field()
    requires: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    extra: str | None = optional_text_field()
    options: tuple[Option, ...] = field(default=(), converter=_options)

    def __attrs_post_init__(self) -> None:
        due = {
            "artifact": {"exact"},
            "fresh": {"per_launch"},
            "block": {"per_block"},
            "predictions": {"per_item", "per_set", "exact"},
            "derived": {"per_item", "per_set", "per_launch", "per_block", "exact"},
        }[self.phase]
        if self.samples not in due:
            raise ValueError(
                f"a metric of phase {self.phase!r} gives samples {' or '.join(sorted(due))}, "
                f"not {self.samples!r}"
            )
        if self.derived_from and self.phase != "derived":
            raise ValueError(f"a metric of phase {self.phase!r} is not derived from others")
        if self.per_batch_size and self.phase not in ("block", "derived"):
            raise ValueError(f"a metric of phase {self.phase!r} is not measured for each batch size")
        if self.per_batch_size and self.samples == "per_set":
            raise ValueError("a statistic of the whole set is not measured for each batch size")


@frozen(kw_only=True)
class Workload:
    """A workload: a model with its weights, its data, its example inputs."""

    kind: ClassVar[Kind] = "workload"
    name: str = name_field()
    summary: str = text_field()
    #: Committed weights, as ``"package:file"``; None where the user must bring them.
    weights: str | None = optional_text_field()
    #: Without weights it runs as ``make_model`` gives it, seeded. Its labels are then left out: there is
    #: nothing that such a model could be right about.
    random_weights: bool = flag_field()
    #: It runs the model that the user names: ``--model``, ``--input-shape``, ``--mean`` and ``--std`` set its
    #: options ``model``, ``input_shape``, ``mean`` and ``std``.
    takes_model: bool = flag_field()
    #: It is what ``qx run`` takes when no workload is named.
    default: bool = flag_field()
    #: The workload to take instead where this one is the default and its data cannot be had.
    fallback: str | None = optional_text_field()
    requires: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    extra: str | None = optional_text_field()
    options: tuple[Option, ...] = field(default=(), converter=_options)


@frozen(kw_only=True)
class Loader:
    """A loader: how the artifacts of one runtime are served."""

    kind: ClassVar[Kind] = "loader"
    name: str = name_field()
    summary: str = text_field()
    #: Modules of the runtime. A launch imports them first, so that their cost is told apart from loading.
    imports: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    #: It serves modules: it rebuilds them by prepare and convert, and loads the saved state dict into them.
    rebuilds: bool = flag_field()
    requires: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    extra: str | None = optional_text_field()
    options: tuple[Option, ...] = field(default=(), converter=_options)


Record: TypeAlias = Config | Metric | Workload | Loader


# What the hooks are given and give ----------------------------------------------------------------


def _silent(done: float, text: str) -> None:
    """Report progress to nobody."""


@frozen(kw_only=True)
class Context:
    """What a hook may know of the run that it works in."""

    #: The seed of everything random; Python's, numpy's and torch's generators were seeded with it.
    seed: int = 0
    #: Threads that the runtime may use in this process.
    threads: int = 1
    #: The quantized engine of torch (``"x86"``, ``"qnnpack"``, ...), already set in this process.
    engine: str | None = None
    #: The plugin's own options, all of them, each with its value.
    options: OptionValues = Factory(dict)
    #: ``make_model`` is to give the form with quantize and dequantize stubs.
    quantizable: bool = False
    #: Where ``convert`` writes the files of an artifact.
    folder: Path | None = None
    #: Where a workload looks for its data first: the user's ``--data``, or ``QX_DATA``.
    data: Path | None = None
    #: A folder for what a plugin wants to keep between runs (decoded images).
    cache: Path | None = None
    #: Nothing may be downloaded.
    offline: bool = False
    #: The loader's way to ask for the module that a config makes of the workload's model, without weights.
    rebuild: Callable[[], nn.Module] | None = None
    #: To be told how far a long step is (0 to 1) and a line of text.
    progress: Callable[[float, str], None] = _silent


@frozen(kw_only=True)
class Data:
    """One split of a workload's data, in a fixed order.

    ``inputs`` maps each input's name, in the model's order, to an array ``[n, ...]``, preprocessed as the
    model takes it. It need not lie in memory: whatever numpy can index with integers and convert will do.
    ``labels`` is an array of numbers ``[n, ...]``, or None where there are no right answers. Of a classifier
    they are whole numbers ``[n]``, positions in ``classes``.
    """

    inputs: Mapping[str, Any]
    labels: Any = None
    classes: tuple[str, ...] = field(default=(), converter=to_strings)
    #: The data's name in every result (``"CIFAR-10, JPEG copy"``).
    source: str = ""


@frozen(kw_only=True)
class Artifact:
    """Files that ``convert`` wrote into ``context.folder`` (or that lie in a build), and their loader."""

    folder: Path
    loader: str
    #: The files that would be shipped, as plain paths relative to the folder (``"weights/0.bin"``): regular
    #: files, no links. The manifest is not among them.
    files: tuple[str, ...] = field(converter=to_strings)
    #: Anything that the loader must know, as JSON.
    details: JsonMapping = Factory(dict)
    #: What whoever reads the results must know of it (a reduced range, say): a sentence each.
    notes: tuple[str, ...] = field(default=(), converter=to_strings)
    #: Elements of the fp32 model's parameters that have two or more dimensions longer than 1; qx tells it to
    #: metrics, and ``convert`` leaves it out. None where it is not known.
    weight_elements: int | None = None
    #: The hook ``read_weights`` of its loader; qx sets it for metrics, and ``convert`` leaves it out.
    weight_reader: Callable[[Artifact], Weights | None] | None = field(default=None, repr=False, eq=False)

    def read_weights(self) -> Weights | None:
        """Return the weights in its files, as its loader reads them; None where the loader does not say."""
        return None if self.weight_reader is None else self.weight_reader(self)


@frozen(kw_only=True)
class StoredWeight:
    """One weight in the files of an artifact."""

    #: How many numbers it has.
    elements: int = field(converter=int)
    #: Bits that each of them takes in the file.
    bits: int = field(converter=int)
    #: Their type, by the name that the runtime gives it.
    type: str
    #: The operator that takes the weight, where that is none that the reader knows.
    operator: str = ""


@frozen(kw_only=True)
class Weights:
    """The weights in the files of an artifact, and the kernels that its runtime multiplies them by."""

    #: Name of a weight -> the weight: what has two or more dimensions and is multiplied by, or looked up.
    layers: Mapping[str, StoredWeight]
    #: Name of a kernel that has weights -> how often the loaded model runs it; empty where that is not known.
    kernels: Mapping[str, int] = Factory(dict)
    #: Those of the kernels that multiply by weights of 8 bits or fewer.
    narrow_kernels: tuple[str, ...] = field(default=(), converter=to_strings)
    #: Elements of constants of two or more dimensions that are no weights: what is added, say. Parameters of
    #: the fp32 model may be among them.
    other_elements: int = 0
    #: What multiplies by them, in words: a runtime, and its library of kernels; None for torch's own engine.
    engine: str | None = None


class Subject(Protocol):
    """A loaded artifact, ready to serve.

    Three steps, so that conversion between numpy and the runtime stays out of the timing.
    """

    def prepare(self, arrays: Arrays) -> Native:
        """Turn named numpy arrays into what the runtime takes. Not timed."""

    def call(self, native: Native) -> Native:
        """Run the model once. This is what is timed."""

    def outputs(self, native: Native) -> Array:
        """Turn what ``call`` gave into one numpy array ``[batch, ...]``. Not timed."""


@frozen(kw_only=True)
class Mark:
    """A launch at the end of one stage of its start: ``spawn``, ``imports``, ``load``, ``first_answer``."""

    stage: str
    #: Seconds since the process was started.
    seconds: float
    #: Resident memory now, MiB (psutil).
    rss: float
    #: The kernel's high-water mark within this stage, MiB; ``rss`` where the system has none to reset.
    peak: float
    #: Resident memory that belongs to no file, so to this process alone, MiB; None where it is not told.
    private: float | None = None


@frozen(kw_only=True)
class Fresh:
    """``data`` of phase ``fresh``: a launch that has answered once."""

    marks: tuple[Mark, ...]
    #: For each batch size, an input as ``subject.call`` takes it.
    natives: Mapping[int, Native]
    #: Take a mark of the present moment; the high-water mark starts anew after it.
    mark: Callable[[str], Mark]


@frozen(kw_only=True)
class Block:
    """``data`` of phase ``block``: what one cell has to do in one round."""

    native: Native
    batch_size: int
    #: How many calls make the block.
    calls: int


@frozen(kw_only=True)
class Predictions:
    """``data`` of phase ``predictions``: every output of the evaluation, in the data's order."""

    #: ``[n, ...]`` float array.
    outputs: Array
    labels: Array | None
    classes: tuple[str, ...]


@frozen(kw_only=True)
class Recorded:
    """``data`` of phase ``derived``: what was recorded of this cell and of the baseline.

    ``samples`` and ``baseline`` map ``(metric, batch_size or None)`` to arrays of values; the key
    ``("outputs", None)`` holds the outputs of the evaluation, ``[n, ...]``. ``waves`` and ``rounds`` say of
    each value of ``samples`` in which wave it was taken and in which of its rounds, minus one where in none.
    """

    samples: Mapping[tuple[str, int | None], Array]
    waves: Mapping[tuple[str, int | None], Array]
    baseline: Mapping[tuple[str, int | None], Array]
    batch_size: int | None = None
    rounds: Mapping[tuple[str, int | None], Array] = Factory(dict)
    #: Of the items that were evaluated; None and none where there are no right answers.
    labels: Array | None = None
    classes: tuple[str, ...] = ()


#: What ``measure`` is handed, by the phase of the metric.
MetricData: TypeAlias = Artifact | Fresh | Block | Predictions | Recorded


@frozen
class Samples:
    """What ``measure`` gives where values do not say it all: details are kept in the results, as JSON."""

    values: Sequence[float] | float | Array
    details: JsonMapping = Factory(dict)
    #: For derived samples per launch or block: the wave that each value belongs to.
    waves: Sequence[int] | Array | None = None
    #: For derived samples per block: the round that each value belongs to as well.
    rounds: Sequence[int] | Array | None = None
    #: For samples per item or per set: the group of each item (its class), as a position in ``group_names``.
    #: qx then tells value, interval and paired difference of every group too, corrected for looking at so
    #: many.
    groups: Sequence[int] | Array | None = None
    group_names: Sequence[str] = ()
