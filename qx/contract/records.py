"""The records that plugins, the host, the workers and the reports pass to each other.

They are frozen, and importing this module imports neither numpy nor torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias, get_args

from attrs import Factory, evolve, field, frozen
from attrs.validators import ge, in_, instance_of, optional

from qx.contract.devices import CPU, CallTimes, Device, check_capability, check_kinds, check_some_kinds
from qx.contract.fields import (
    STRINGS,
    check_modules_of_torch,
    flag_field,
    name_field,
    number_field,
    optional_number_field,
    optional_text_field,
    text_field,
    to_strings,
    to_values,
)
from qx.contract.figures import Figure, Point
from qx.contract.structure import Lengths
from qx.errors import PluginError
from qx.values import Array, JsonMapping, Native, OptionValue, OptionValues

if TYPE_CHECKING:
    from torch import Tensor, nn

Kind: TypeAlias = Literal["config", "metric", "workload", "loader", "wrapper"]
Outcome: TypeAlias = Literal[
    "ok", "unsupported", "unavailable", "failed", "crashed", "timeout", "out_of_memory"
]
#: When a metric is measured.
Phase: TypeAlias = Literal["build", "artifact", "fresh", "block", "predictions", "derived"]
#: What one value of a metric stands for.
SampleKind: TypeAlias = Literal["exact", "per_item", "per_set", "per_launch", "per_block", "per_round"]
#: Named arrays with one item along the first dimension for each item of the data, ``[items, ...]``: the
#: inputs of a model in the order in which it takes them, its outputs in the order in which it gives them, or
#: the targets that outputs are compared with.
Arrays: TypeAlias = Mapping[str, Array]

#: Name of the output of a model that gives a single tensor.
OUTPUT = "output"
#: Name of the targets of a classifier: integers ``[items]``, positions in the classes.
LABELS = "labels"
#: Name of the targets that say which items belong together: a whole number for each item, ``[items]``, the
#: same for all items of a unit. Those of a unit are alike, as windows of one document are, so intervals and
#: paired differences take units for independent, and not items.
UNITS = "units"

#: Bounds of the absolute value of samples, the second for samples that are compared by ratio and are not 0:
#: within them neither ratios nor fourth powers overflow.
LARGEST, SMALLEST = 1e75, 1e-75
#: Largest number of waves, since the analysis holds an array of them for each cell.
MOST_WAVES = 10_000

#: Largest size of the outputs and targets of a part of the items, in bytes, unless a single item has more.
PART_BYTES = 32 << 20
#: Largest batch size that a metric may ask for.
MOST_BATCH = 1 << 16
#: Largest number of rows of a table by layer.
MOST_LAYERS = 10_000

#: Name of the cell in which the baseline is measured a second time.
CONTROL = "control"


# What plugins say of themselves -------------------------------------------------------------------


@frozen(kw_only=True)
class Option:
    """A typed option of a plugin. Every hook of the plugin has its value in ``context.options``.

    Its type is that of the default: ``int``, ``float``, ``bool`` or ``str``.
    """

    name: str = name_field()
    default: OptionValue
    help: str = text_field()
    #: Allowed values; empty where any value of the type is allowed.
    choices: tuple[OptionValue, ...] = field(default=(), converter=to_values)
    #: Smallest and largest allowed number.
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
        """Return what a value must be and is not (``"at least 1"``); empty where it is allowed."""
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


#: Words for the values of an option, by the type of its default.
TYPES: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
}


def as_word(value: object) -> str:
    """Return a value of an option as written on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _options(values: Iterable[Option]) -> tuple[Option, ...]:
    options = tuple(values)
    names = [option.name for option in options]
    if duplicates := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"option {duplicates[0]!r} is declared twice")
    return options


#: Option of every config that calibrates; ``--calibration-n`` sets it for configs without their own setting.
CALIBRATION_N = Option(
    name="calibration_n", default=256, minimum=1, help="Calibration items, drawn evenly over the classes."
)
#: Option of every config whose record says ``float_layers``.
FLOAT_LAYERS = Option(
    name="float_layers",
    default="",
    help="Layers that stay in float: names of the model's modules, or shell patterns, with + between them.",
)


@frozen(kw_only=True)
class Config:
    """A config: one named way to turn the trained model into something deployable."""

    kind: ClassVar[Kind] = "config"
    name: str = name_field()
    summary: str = text_field()
    #: Distributions that must be installed, as requirement strings (``"onnxruntime>=1.17"``).
    requires: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    #: Extra of the plugin's distribution that installs them.
    extra: str | None = optional_text_field()
    #: CPU flags without which the config cannot run (``"avx512_vnni"``).
    instruction_sets: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    #: Kinds of devices that its artifacts are served on: ``"cpu"``, ``"cuda"``. A run has one device, and by
    #: default takes the configs that are for it.
    devices: tuple[str, ...] = field(default=(CPU,), converter=to_strings, validator=check_some_kinds)
    #: Least compute capability of a CUDA device that it runs on (``"8.9"``).
    compute_capability: str | None = field(default=None, validator=check_capability)
    #: Commands of which one must be on the PATH (``"g++", "clang++"``); ``"$CXX"`` stands for its value.
    programs: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    options: tuple[Option, ...] = field(default=(), converter=_options)
    #: Modules of torch that its hooks import. Where several builds of a run name the same ones they are
    #: imported once for all of them, before any plugin. They must start no thread.
    imports: tuple[str, ...] = field(default=(), converter=to_strings, validator=check_modules_of_torch)
    #: Whether ``calibrate`` needs batches of calibration items. Such a config has an option
    #: ``calibration_n``, which its author may declare to set another default.
    calibration: bool = flag_field()
    #: Whether ``calibrate`` needs training batches instead, to fine-tune on.
    training: bool = flag_field()
    #: Whether ``prepare_model`` needs the model with quantize and dequantize stubs at entry and exit.
    quantizable: bool = flag_field()
    #: Whether it is the baseline.
    reference: bool = flag_field()
    #: Whether its outputs are those of the fp32 model except for rounding: another layout, or a runtime.
    keeps_outputs: bool = flag_field()
    #: Whether it leaves layers in float that the user names. Such a config has an option ``float_layers``,
    #: which ``qx.float_layers`` reads, and may implement ``quantized_layers``.
    float_layers: bool = flag_field()
    #: Names of configs whose hooks its own call through ``context.recipe``: those that it is composed of.
    recipes: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    #: Name of the fp32 config of the same runtime, a second baseline that is run wherever this config is.
    runtime_baseline: str | None = optional_text_field()
    #: Name of the config with the same recipe in another runtime: the two should behave the same.
    counterpart: str | None = optional_text_field()

    def __attrs_post_init__(self) -> None:
        if self.float_layers and FLOAT_LAYERS not in self.options:
            if any(option.name == FLOAT_LAYERS.name for option in self.options):
                raise ValueError("option 'float_layers' comes with float_layers=True: do not declare it")
            object.__setattr__(self, "options", (*self.options, FLOAT_LAYERS))
        if self.compute_capability is not None and "cuda" not in self.devices:
            raise ValueError("a compute capability is that of a CUDA device: 'devices' must have 'cuda'")
        if not self.calibration:
            return
        own = [option for option in self.options if option.name == CALIBRATION_N.name]
        if not own:
            object.__setattr__(self, "options", (*self.options, CALIBRATION_N))
        elif own[0].type is not int or own[0].minimum is None or own[0].minimum < 1:
            raise ValueError("option 'calibration_n' must be a whole number with a minimum of at least 1")


def _to_sizes(values: Iterable[int], field: str, largest: int | None = None) -> tuple[int, ...]:
    sizes, until = tuple(values), "" if largest is None else f" to {largest:,}"
    for size in sizes:
        if type(size) is not int or size < 1 or (largest is not None and size > largest):
            raise ValueError(f"{field!r} must be whole numbers from 1{until}, not {size!r}")
    if len(set(sizes)) < len(sizes):
        raise ValueError(f"{field!r} has a number twice: {', '.join(map(str, sizes))}")
    return sizes


def _to_batch_sizes(values: Iterable[int]) -> tuple[int, ...]:
    return _to_sizes(values, "batch_sizes", MOST_BATCH)


def _to_lengths(values: Iterable[int]) -> tuple[int, ...]:
    return _to_sizes(values, "lengths")


def _check_quick_items(_instance: Any, _field: Any, count: object) -> None:
    if count is not None and (type(count) is not int or count < 1):
        raise ValueError(f"'quick_items' must be a whole number from 1, or None, not {count!r}")


@frozen(kw_only=True)
class Metric:
    """A metric: one named quantity, and how its samples are interpreted."""

    kind: ClassVar[Kind] = "metric"
    name: str = name_field()
    summary: str = text_field()
    #: Unit: ``"ms"``, ``"bytes"``, ``"MiB"``, ``"fraction"``, or any other word.
    unit: str = text_field()
    better: Literal["lower", "higher", "neither"] = field(validator=in_(("lower", "higher", "neither")))
    #: What one value stands for: an exact quantity, one item of the data, the whole set of items, one launch,
    #: one call in a block (``per_block``), or all calls of a block together (``per_round``), such as the
    #: energy that they took. ``exact`` is for values without sampling error, such as the size of a file.
    samples: SampleKind = field(validator=in_(get_args(SampleKind)))
    #: Comparison with the baseline: ``value / baseline``, ``baseline / value``, or ``value - baseline``.
    compare: Literal["ratio", "speedup", "difference"] = field(
        validator=in_(("ratio", "speedup", "difference"))
    )
    #: Phase in which ``measure`` is called; see ``qx.contract.hookspecs.measure``.
    phase: Phase = field(validator=in_(get_args(Phase)))
    #: Smallest difference that matters: a share of the value, or in the unit for ``compare="difference"``.
    margin: float = field(default=0.0, converter=float, validator=ge(0))
    #: Whether it is measured at each point: each batch size, at each length and for each kind of call.
    per_point: bool = flag_field()
    #: Batch sizes at which a metric of phase ``block`` is measured whatever the run asks for, beside those of
    #: the run. No other metric is measured at them.
    batch_sizes: tuple[int, ...] = field(default=(), converter=_to_batch_sizes)
    #: Kinds of call that it is measured for, of those that the subject of a cell has, such as ``"decode"``;
    #: empty for all.
    calls: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    #: Whether it is an axis of the front.
    axis: bool = flag_field()
    #: Rank of an axis that judges the answers of a model. Of the metrics with a rank that have values for a
    #: workload, only those of the highest are axes of its front: 1 for how near answers are to the
    #: baseline's, 2 for the metric of a task, 3 for the user's own. 0: an axis whatever others there are.
    quality: int = field(default=0, converter=int, validator=ge(0))
    #: Whether it is measured only where it is named (``-m``, ``--front``), and not by default.
    on_request: bool = flag_field()
    #: Whether it takes a function of the user's own that judges answers: ``--score`` sets its option
    #: ``function``, and ``--score-better`` its ``better``.
    takes_score: bool = flag_field()
    #: Aim of a user who picks by this metric, such as ``"the smallest artifact"``.
    pick: str | None = optional_text_field()
    #: Names of the metrics whose samples it is computed from, for phase ``derived``. A change in these
    #: changes it too, so ``qx compare`` counts one change where both changed.
    derived_from: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    #: Tasks of workloads that it is for (``"classification"``); empty where it is for any. For a workload
    #: with another or an unknown task it is not measured, and the report says why.
    tasks: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    #: Whether ``measure`` may be called with some of the items at a time, for a metric of outputs: what it
    #: gives for an item follows from that item alone, and its details and the names of its groups are the
    #: same whatever the items. qx then joins values (or statistics ``[n, k]``) and groups of such parts, of
    #: which each fits into memory.
    by_parts: bool = flag_field()
    #: Whether a metric of phase ``fresh`` times, so that launches must not start side by side.
    alone: bool = flag_field()
    #: Kinds of devices on which it is measured; empty where that is any.
    devices: tuple[str, ...] = field(default=(), converter=to_strings, validator=check_kinds)
    #: Files of the system of which it must be able to read one, as shell patterns; ``"$NAME"`` in them stands
    #: for the value of that variable.
    files: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    requires: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    extra: str | None = optional_text_field()
    options: tuple[Option, ...] = field(default=(), converter=_options)

    def __attrs_post_init__(self) -> None:
        allowed = {
            "build": {"exact"},
            "artifact": {"exact"},
            "fresh": {"per_launch"},
            "block": {"per_block", "per_round"},
            "predictions": {"per_item", "per_set", "exact"},
            "derived": {"per_item", "per_set", "per_launch", "per_block", "per_round", "exact"},
        }[self.phase]
        if self.samples not in allowed:
            raise ValueError(
                f"a metric of phase {self.phase!r} gives samples {' or '.join(sorted(allowed))}, "
                f"not {self.samples!r}"
            )
        if self.quality and not self.axis:
            raise ValueError("a metric with a rank of quality must be an axis (axis=True)")
        if self.takes_score and self.phase != "predictions":
            raise ValueError("a metric that takes a score must be of phase 'predictions'")
        if self.derived_from and self.phase != "derived":
            raise ValueError(f"a metric of phase {self.phase!r} cannot be derived from others")
        if self.per_point and self.phase not in ("block", "derived"):
            raise ValueError(f"a metric of phase {self.phase!r} cannot be measured at each point")
        if self.batch_sizes and not (self.per_point and self.phase == "block"):
            raise ValueError("batch_sizes are for a metric of phase 'block' with per_point=True")
        if self.by_parts and self.phase not in ("predictions", "derived"):
            raise ValueError(f"a metric of phase {self.phase!r} has no items to be measured in parts")
        if self.by_parts and (self.per_point or self.samples not in ("per_item", "per_set")):
            raise ValueError(
                "a metric that is measured in parts gives samples 'per_item', or 'per_set' by combining "
                "statistics of items"
            )
        if self.calls and not self.per_point:
            raise ValueError("a metric of some kinds of call must be measured at each point (per_point=True)")
        if self.per_point and self.samples == "per_set":
            raise ValueError("a statistic of the whole set cannot be measured at each point")

    def points(self, asked: Sequence[Point]) -> tuple[Point, ...]:
        """Return where it is measured: at the points of a run, and then at those that it asks for itself.

        It is empty for a metric that is not measured at each point.
        """
        own = map(Point, self.batch_sizes)
        points = dict.fromkeys([*asked, *own]) if self.per_point else ()
        return tuple(filter(self.is_for, points))

    def is_for(self, point: Point) -> bool:
        """Return whether it is measured for the kind of call of a point."""
        return not self.calls or point.call in self.calls


@frozen(kw_only=True)
class Workload:
    """A workload: a model with its weights, its data, its example inputs."""

    kind: ClassVar[Kind] = "workload"
    name: str = name_field()
    summary: str = text_field()
    #: Weights in a package, as ``"package:file"``; None where the user must provide them.
    weights: str | None = optional_text_field()
    #: Whether it may run without weights, with the seeded model of ``make_model``. Its labels are then left
    #: out, since such a model has no accuracy.
    random_weights: bool = flag_field()
    #: Whether it runs models that the user names: MODEL, ``--model-args``, ``--example``, ``--input-shape``,
    #: ``--mean`` and ``--std`` set its options ``model``, ``model_args``, ``example``, ``input_shape``,
    #: ``mean`` and ``std``. ``qx.run`` sets ``model``, ``data`` and ``examples`` (inputs by name) to
    #: references of a session's objects: see ``qx.session_object``. Where its ``example_inputs`` gives no
    #: tensors, qx sets ``example`` to inputs like those of the data.
    takes_model: bool = flag_field()
    #: Whether its ``load_data`` follows ``context.calibration_data``, and takes whatever ``--data`` may be: a
    #: tree of class folders, a file of arrays, a function. Of other workloads ``--data`` is a folder.
    reads_any_data: bool = flag_field()
    #: Whether ``qx run`` uses it when no workload is named.
    default: bool = flag_field()
    #: Batch sizes that are timed where the user names none; empty for those of every run, 1 and 32. Of
    #: several workloads those that all of them have are timed.
    batch_sizes: tuple[int, ...] = field(default=(), converter=_to_batch_sizes)
    #: Lengths of inputs that are timed where the user names none; empty for inputs as the data have them. Of
    #: several workloads those that all of them have are timed.
    lengths: tuple[int, ...] = field(default=(), converter=_to_lengths)
    #: Number of items of the test split that a first look (``--quick``) evaluates where the user names none;
    #: None for as many as any other run.
    quick_items: int | None = field(default=None, validator=_check_quick_items)
    #: Names of metrics that are measured on request, and for this workload by default.
    metrics: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    #: Name of the workload to use instead, where this one is the default and its data are not available.
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
    #: Modules of the runtime. A launch imports them first, so that their cost is not counted as loading.
    imports: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    #: Whether it serves modules, which it rebuilds by prepare and convert, and then loads the state dict.
    rebuilds: bool = flag_field()
    #: Kinds of devices that it serves on. ``load`` finds the one of this process in ``context.device``.
    devices: tuple[str, ...] = field(default=(CPU,), converter=to_strings, validator=check_some_kinds)
    requires: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    extra: str | None = optional_text_field()
    options: tuple[Option, ...] = field(default=(), converter=_options)


Record: TypeAlias = Config | Metric | Workload | Loader


# Arguments and results of the hooks ---------------------------------------------------------------


def _silent(done: float, text: str) -> None:
    """Ignore progress."""


def make_apart(name: str, make: Callable[[Path], object]) -> Path:
    """Return a new folder that ``make`` has filled, which is removed with this process: nothing is shared."""
    import atexit
    from shutil import rmtree
    from tempfile import mkdtemp

    folder = Path(mkdtemp(prefix="qx-"))
    atexit.register(rmtree, folder, ignore_errors=True)
    make(folder)
    return folder


def _no_recipe(name: str, /, **options: OptionValue) -> Recipe:
    """Refuse recipes outside of the hooks of a config that names some."""
    raise PluginError(f"there is no recipe {name!r} here: a config names those it calls in its record")


class Recipe(Protocol):
    """A config, as another one calls its hooks: ``context.recipe("other")``.

    Its hooks get the caller's context, with options of their own: the defaults, but for those that were
    given, and the caller's ``calibration_n`` and ``float_layers``. The generators of random numbers are
    seeded before each, as qx does. A hook that the config does not implement gives the model back.
    """

    @property
    def options(self) -> OptionValues:
        """Values of its options, by name."""

    def check_model(self, model: nn.Module, example_inputs: tuple[Tensor, ...]) -> None:
        """Raise ``Unsupported`` where the config cannot quantize the model."""

    def prepare_model(self, model: nn.Module, example_inputs: tuple[Tensor, ...]) -> nn.Module:
        """Return the prepared model."""

    def calibrate(
        self, model: nn.Module, batches: Sequence[Batch], float_model: nn.Module | None = None
    ) -> nn.Module:
        """Return the calibrated model. ``float_model`` must be passed on where the config takes it."""

    def convert(
        self,
        model: nn.Module,
        example_inputs: tuple[Tensor, ...],
        float_model: nn.Module | None = None,
    ) -> nn.Module | Converted | Artifact:
        """Return what the config makes of the model, to be returned, or changed first."""

    def read_weights(self, artifact: Artifact) -> Weights | None:
        """Return the weights that the config reads; else what the artifact's loader reads."""


@frozen(kw_only=True)
class Context:
    """Facts about the run, for hooks."""

    #: Seed of everything random; Python's, numpy's and torch's generators were seeded with it. A config gets
    #: another one in each further build (``--build-seeds``).
    seed: int = 0
    #: Number of threads that the runtime may use in this process.
    threads: int = 1
    #: Quantized engine of torch (``"x86"``, ``"qnnpack"``, ...), already set in this process.
    engine: str | None = None
    #: Device of the run: ``"cpu"``, or ``"cuda:0"``, which is a name of torch too. qx moves nothing: models
    #: and example inputs are on the CPU in all hooks, and ``load`` puts what it serves onto the device.
    device: str = CPU
    #: Values of all options of the plugin, by name.
    options: OptionValues = Factory(dict)
    #: Whether ``make_model`` must return the form with quantize and dequantize stubs.
    quantizable: bool = False
    #: Folder of the artifact's files, which ``prepare_model`` and ``convert`` of a build write and ``load``
    #: reads. None for all other hooks, and where a launch calls ``convert`` again to rebuild a module.
    folder: Path | None = None
    #: Folder in which a workload looks for its data first: the user's ``--data``, or ``QX_DATA``. Where the
    #: record says ``reads_any_data``, it may also be a file, or ``FILE.py:FUNCTION``.
    data: Path | None = None
    #: The user's ``--calibration-data``, in the forms of ``--data``: the train split is then what it has, and
    #: no item of the other data is set aside. Only where the record says ``reads_any_data``.
    calibration_data: Path | None = None
    #: Number of evaluation items that the user asked for (``--eval-n``); 0 for all, None where the workload
    #: decides. qx draws them out of the test split. A workload for which loading more is costly draws them
    #: itself, by ``qx.draw_items``, and says in ``Data.total`` how many there were.
    eval_n: int | None = None
    #: Largest number of items of the train split that this run calibrates with; None where it uses all.
    calibration_n: int | None = None
    #: Folder for what a plugin wants to keep between runs, such as decoded images. For ``load`` on a device
    #: other than the CPU it is one of this run, for what is compiled when an artifact is loaded or called:
    #: all launches of the run find it there.
    cache: Path | None = None
    #: Whether downloads are forbidden.
    offline: bool = False
    #: For ``load``: function that makes the module which ``convert`` returned in the build, without its
    #: weights, by calling ``make_model``, ``prepare_model`` and ``convert`` again, with a ``folder`` of None.
    rebuild: Callable[[], nn.Module] | None = None
    #: For configs: ``recipe(name, **options)`` returns a config that the record names in ``recipes``.
    recipe: Callable[..., Recipe] = _no_recipe
    #: For the hooks of a build: ``once(name, make)`` returns a folder that ``make(folder)`` has filled, in
    #: this build or in another one of the same workload and run that gave the same name: an export that
    #: several configs start from is made once. The name must say all that decides the files. They are checked
    #: before they are used again, and must not be changed.
    once: Callable[[str, Callable[[Path], object]], Path] = make_apart
    #: For ``load``: function that makes the workload's fp32 model, in eval mode, without its weights, and
    #: untouched by the config. For configs that write files of their own.
    make_model: Callable[[], nn.Module] | None = None
    #: For configs and loaders: lengths that the inputs of launches may have; None where only the batch is
    #: free. What ``convert`` leaves must take all of them, or ``check_model`` raises
    #: ``Unsupported``.
    lengths: Lengths | None = None
    #: Function to call with the progress of a long step, from 0 to 1, and a line of text.
    progress: Callable[[float, str], None] = _silent


@frozen(kw_only=True)
class Data:
    """One split of a workload's data, in a fixed order.

    ``inputs`` maps each input's name, in the model's order, to an array ``[n, ...]``, preprocessed for the
    model. It need not lie in memory: any object that numpy can index with integers and convert is allowed.
    ``targets`` maps names to arrays of numbers ``[n, ...]``, what the outputs are compared with; it is empty
    where there are no right answers. A classifier has one, ``"labels"``: integers ``[n]``, positions in
    ``classes``.
    """

    inputs: Mapping[str, Any]
    targets: Mapping[str, Any] = Factory(dict)
    classes: tuple[str, ...] = field(default=(), converter=to_strings)
    #: Name of the data in every result (``"CIFAR-10, JPEG copy"``).
    source: str = ""
    #: How the inputs follow from what a user has, in one sentence for those who serve the model: the order of
    #: axes and channels, the range, mean and standard deviation. Empty where the workload does not say.
    preprocessing: str = field(default="", validator=instance_of(str))
    #: Task of the workload, such as ``"classification"`` or ``"regression"``; None where outputs, labels and
    #: classes show it.
    task: str | None = optional_text_field()
    #: Number of items of the split that these were drawn from; None where these are all.
    total: int | None = field(default=None, validator=optional(instance_of(int)))


@frozen(kw_only=True)
class ModelFacts:
    """What a model says of itself, where ``make_model`` gives it the attribute ``qx_facts``."""

    #: Whether its weights are trained, so that its answers can be right or wrong.
    trained: bool = flag_field()
    #: Text that changes with whatever decides the model beside weights and source, such as its settings.
    identity: str = field(default="", validator=instance_of(str))
    #: Phrase for the user about its weights, such as which of them are random; empty for none.
    note: str = field(default="", validator=instance_of(str))


@frozen(kw_only=True)
class Batch:
    """One batch of data, as ``calibrate`` gets it."""

    #: Inputs of the model, in the order in which it takes them: float arrays ``[batch, ...]``.
    inputs: Arrays
    #: Right answers, ``[batch, ...]``; empty where the workload has none.
    targets: Arrays = Factory(dict)


@frozen(kw_only=True)
class LayerRow:
    """One row of the table by layer that a config gives with what it made: what it did to the layer."""

    #: Name of the layer in the fp32 model, such as ``"features.0"``.
    name: str = text_field()
    #: Bits of an element of its weights, on average; None where the config does not say.
    bits: float | None = optional_number_field()
    #: Relative error of the layer: the root of the sum of squares of the differences from fp32, over that of
    #: the fp32 values. A note says of what, such as its outputs for the calibration items; None where the
    #: config does not know.
    error: float | None = optional_number_field()


def to_rows(rows: Iterable[LayerRow | JsonMapping]) -> tuple[LayerRow, ...]:
    """Return a table by layer as records, from records or from their fields. Raises ``ValueError``."""
    layers = tuple(row if isinstance(row, LayerRow) else LayerRow(**row) for row in rows)
    if len(layers) > MOST_LAYERS:
        raise ValueError(f"a table by layer has {MOST_LAYERS:,} rows at most, not {len(layers):,}")
    return layers


@frozen(kw_only=True)
class Converted:
    """A module that ``convert`` returns, with what readers of the results should know of it."""

    module: nn.Module
    #: Sentences for readers of the results, such as about layers that stay in fp32.
    notes: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    #: Table by layer, in the model's order.
    layers: tuple[LayerRow, ...] = field(default=(), converter=to_rows)


@frozen(kw_only=True)
class Artifact:
    """Files that ``convert`` wrote into ``context.folder`` (or that lie in a build), and their loader."""

    folder: Path
    loader: str
    #: Files to ship, as plain paths relative to the folder (``"weights/0.bin"``): regular files, no links.
    #: The manifest is not among them.
    files: tuple[str, ...] = field(converter=to_strings)
    #: Anything that the loader needs, as JSON.
    details: JsonMapping = Factory(dict)
    #: Sentences for readers of the results, such as about a reduced range.
    notes: tuple[str, ...] = field(default=(), converter=to_strings)
    #: Names of the model's outputs in their order, under which ``Subject.outputs`` gives them. qx sets them,
    #: and ``convert`` leaves them out.
    outputs: tuple[str, ...] = field(default=(OUTPUT,), converter=to_strings)
    #: Table by layer, in the model's order, for readers of the results.
    layers: tuple[LayerRow, ...] = field(default=(), converter=to_rows)
    #: Number of elements of the fp32 model's parameters with two or more dimensions longer than 1. qx sets it
    #: for metrics, and ``convert`` leaves it out. None where it is not known.
    weight_elements: int | None = None
    #: Hook ``read_weights`` of the config or the loader. qx sets it for metrics and for the config's hook,
    #: and ``convert`` leaves it out.
    weight_reader: Callable[[Artifact], Weights | None] | None = field(default=None, repr=False, eq=False)

    def read_weights(self) -> Weights | None:
        """Return the weights in its files, as its config or its loader reads them.

        None where neither says.
        """
        return None if self.weight_reader is None else self.weight_reader(self)


@frozen(kw_only=True)
class StoredWeight:
    """One weight in the files of an artifact."""

    #: Number of elements.
    elements: int = field(converter=int)
    #: Bits per element in the file.
    bits: int = field(converter=int)
    #: Name of the elements' type in the runtime.
    type: str
    #: Name of the operator that uses the weight, where the reader does not know that operator.
    operator: str = ""


@frozen(kw_only=True)
class Weights:
    """The weights in the files of an artifact, and the kernels that its runtime multiplies them by."""

    #: Weights by name: constants of two or more dimensions that are multiplied by, or looked up.
    layers: Mapping[str, StoredWeight]
    #: How often the loaded model runs each kernel with weights, by the kernel's name; empty where not known.
    kernels: Mapping[str, int] = Factory(dict)
    #: Names of the kernels that multiply by weights of 8 bits or fewer.
    narrow_kernels: tuple[str, ...] = field(default=(), converter=to_strings)
    #: Number of elements of constants of two or more dimensions that are no weights, such as addends.
    #: Parameters of the fp32 model may be among them.
    other_elements: int = 0
    #: Runtime and library of kernels that multiply by the weights, in words; None for torch's own engine.
    engine: str | None = None


@frozen(kw_only=True)
class ServingCode:
    """Source code that serves an artifact without qx, for the ``serve.py`` that ``qx quantize --to`` leaves.

    ``source`` defines two functions. ``load(files, details, threads)`` gets paths (``list[Path]``), a mapping
    and the number of threads that the runtime may use, and returns a loaded model of any type.
    ``run(model, inputs)`` gets that model and the inputs, arrays ``[batch, ...]`` by name in the model's
    order, and returns the outputs in the same form. The source may use the names ``np``, ``Path`` and
    ``Any``; it imports whatever else it needs, and nothing of qx or of a plugin.
    """

    source: str = text_field()
    #: Names of the files that ``load`` gets, of the artifact or written into ``context.folder`` by the hook;
    #: empty for all files of the artifact in their order.
    files: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    #: Mapping that ``load`` gets, as JSON: what it must know of this artifact.
    details: JsonMapping = Factory(dict)
    #: Distributions that the source imports beside numpy, as requirement strings; empty for those that the
    #: loader's record requires. ``README.md`` names them in the versions that are installed here.
    requires: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    #: Sentences for those who serve the artifact.
    notes: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)

    @classmethod
    def from_functions(cls, load: Callable[..., Any], run: Callable[..., Any], **fields: Any) -> ServingCode:
        """Return the serving code whose source is that of two functions, with these other fields.

        They may be defined within another function, and use nothing of it.
        """
        import inspect
        import textwrap

        sources = (textwrap.dedent(inspect.getsource(function)) for function in (load, run))
        return cls(source="\n\n".join(sources), **fields)


@frozen(kw_only=True)
class ProfiledOperator:
    """An operator of a loaded model, as a profiler of its runtime saw it."""

    #: Name of the operator in the runtime's own graph, or of its kernel where it has none.
    name: str = text_field()
    #: Type of the operator, such as ``Conv`` or ``quantized::conv2d``.
    type: str = text_field()
    #: Time that it takes in a typical call of the model, in seconds, without that of operators that it calls.
    seconds: float = number_field()
    #: How often it runs in one call of the model.
    count: float = number_field()
    #: Path of the module of the fp32 model that it belongs to; empty where that is not known.
    module: str = ""
    #: What it computes in: ``int8``, ``float``, or as the runtime calls it; empty where that is not known.
    precision: str = ""
    #: Whether it only converts between types or layouts, so that the model itself has no such operator.
    converts: bool = False


def _to_operators(values: Iterable[ProfiledOperator]) -> tuple[ProfiledOperator, ...]:
    return tuple(values)


@frozen(kw_only=True)
class Profile:
    """Where the time of a call goes, by a profiler of the runtime."""

    operators: tuple[ProfiledOperator, ...] = field(converter=_to_operators)
    #: Time of a typical call while the profiler watched, in seconds: longer than without it.
    seconds: float = number_field()
    #: Sentences for readers, such as on what the profiler does not see.
    notes: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)


class Subject(Protocol):
    """A loaded artifact, ready to serve.

    Three steps, so that conversion between numpy and the runtime stays out of the timing.

    A subject may have two members more. ``reset(native, kind)`` is called before each call, untimed, with
    the call's input: it puts everything that calls change, such as a cache that grows, into the state that a
    call of that kind begins from, so that all calls of one input are the same measurement. ``kinds`` maps
    names of further kinds of call (``"decode"``) to functions ``(native) -> native``, which run the model
    once as ``call`` does, whose own kind is ``"call"``; ``outputs`` must take what they return. They are
    timed at each point too, and shown as ``latency (batch 1, decode)``; everything else is done by ``call``:
    the first answer, the evaluation, the memory. ::

        class Decoder:
            def __init__(self, model):
                self.model, self.cache, self.kinds = model, [], {"decode": self.decode}

            def reset(self, native, kind):
                self.cache = self.model.fill(native) if kind == "decode" else []
    """

    def prepare(self, arrays: Arrays) -> Native:
        """Convert named numpy arrays to the inputs of the runtime. Not timed."""

    def call(self, native: Native) -> Native:
        """Run the model once. Only this is timed.

        On a device with a queue it may return before the device has done its work: qx waits for that.
        """

    def outputs(self, native: Native) -> Arrays:
        """Convert the result of ``call`` to named numpy arrays ``[batch, ...]``. Not timed.

        A model that gives a single tensor has one output, ``qx.OUTPUT``.
        """


def to_steps(steps: Iterable[BuildStep | JsonMapping]) -> tuple[BuildStep, ...]:
    """Return the steps of a build as records, from records or from their fields."""
    return tuple(step if isinstance(step, BuildStep) else BuildStep(**step) for step in steps)


@frozen(kw_only=True)
class BuildStep:
    """One step of a build: ``import``, ``make_model``, a hook of the config, or ``save``."""

    name: str = text_field()
    #: Time that it took, in seconds. Builds go side by side, so others may have taken of the processors.
    seconds: float = number_field()
    #: Most resident memory of the build's process in this step, MiB: the kernel's high-water mark where the
    #: system has one.
    peak: float = number_field()
    #: Most resident memory of that process and of all that it has started (a compiler, say) together, MiB.
    #: The sum is looked at every 0.05 s at most, so a short peak of others is missed; memory that processes
    #: share is counted in each. ``peak`` where no other process was seen.
    peak_of_all: float = number_field()


@frozen(kw_only=True)
class Building:
    """``data`` of phase ``build``: what was recorded when the artifact was built.

    qx records it with every build, whatever metrics are asked for, and keeps it with the build.
    """

    #: Steps in their order.
    steps: tuple[BuildStep, ...] = field(converter=to_steps)


@frozen(kw_only=True)
class Mark:
    """A launch at the end of a stage of its start: ``spawn``, ``imports``, ``load``, ``first_answer``."""

    stage: str
    #: Seconds since the process was started.
    seconds: float
    #: Resident memory at this moment, MiB (psutil).
    rss: float
    #: High-water mark of the kernel within this stage, MiB; ``rss`` where the system cannot reset it.
    peak: float
    #: Resident memory of this process alone, which belongs to no file, MiB; None where it is not reported.
    private: float | None = None


@frozen(kw_only=True)
class Fresh:
    """``data`` of phase ``fresh``: a launch that has answered once."""

    marks: tuple[Mark, ...]
    #: Input of ``subject.call`` at each point.
    natives: Mapping[Point, Native]
    #: Function that takes a mark now, and then resets the high-water mark.
    mark: Callable[[str], Mark]
    #: Device that the launch serves on; None for the CPU.
    device: Device | None = None


@frozen(kw_only=True)
class Block:
    """``data`` of phase ``block``: the calls of one cell in one round."""

    native: Native
    point: Point
    #: Number of calls in the block.
    calls: int
    #: What a call is timed by: the subject's function for the point's kind of call, to be called with
    #: ``native`` after ``reset()``.
    call: Callable[[Native], Native]
    #: Function to call before each call, untimed, which brings back the state that the call begins from;
    #: None where there is none. ``subject.call`` is both in one: a metric that times it, since it does not
    #: know of ``reset``, has the reset in what it measures, and never a state left by the call before.
    reset: Callable[[], object] | None = None
    #: Device that the launch serves on; None for the CPU. ``call`` returns when the device has done its work.
    device: Device | None = None
    #: Function that times the calls of the block on the device by both clocks, see ``qx.CallTimes``; None for
    #: the CPU.
    time_calls: Callable[[], CallTimes] | None = None


def _slices(mappings: Iterable[Arrays]) -> list[slice]:
    """Return where parts of the items of named arrays begin and end, of ``PART_BYTES`` each at most."""
    arrays = [array for arrays in mappings for array in arrays.values()]
    count = max((len(array) for array in arrays), default=0)
    size = max(1, PART_BYTES * count // max(1, sum(array.nbytes for array in arrays)))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def taken(arrays: Arrays, items: Any) -> dict[str, Array]:
    """Return named arrays, which cannot be written to, with these items alone.

    ``items`` is a slice or indices of the first dimension.
    """
    chosen = {name: array[items] for name, array in arrays.items()}
    for array in chosen.values():
        array.setflags(write=False)
    return chosen


@frozen(kw_only=True)
class Predictions:
    """``data`` of phase ``predictions``: every output of the evaluation, in the data's order.

    The arrays may be larger than memory: they are memory-mapped, and cannot be written to.
    """

    #: Outputs of the model, by name: arrays of numbers ``[n, ...]``, after the workload's ``postprocess``
    #: where it has one.
    outputs: Arrays
    #: Right answers, ``[n, ...]``, by name; empty where there are none.
    targets: Arrays
    classes: tuple[str, ...]
    #: The workload's hook ``score``, as a function of outputs and targets; None where it has none.
    score: Callable[[Arrays, Arrays], Any] | None = field(default=None, repr=False, eq=False)

    def take(self, items: Any) -> Predictions:
        """Return the same of some items alone, which a slice or an array of indices chooses."""
        return evolve(self, outputs=taken(self.outputs, items), targets=taken(self.targets, items))

    def parts(self) -> Iterator[Predictions]:
        """Yield all items in their order, as many at a time as take some tens of MiB.

        For metrics that compute with whole outputs, such as a sort of them: what they compute of a part may
        fit into memory where that of all items does not.
        """
        return (self.take(items) for items in _slices((self.outputs, self.targets)))


@frozen(kw_only=True)
class Recorded:
    """``data`` of phase ``derived``: the recorded samples of this cell and of the baseline.

    ``samples`` and ``baseline`` map figures, such as ``Figure("share")`` and ``Figure("delay", Point(1))``,
    to arrays of values. ``waves`` and ``rounds`` hold the wave of each value in ``samples``, and its round in
    the wave; -1 where it has none.
    """

    samples: Mapping[Figure, Array]
    waves: Mapping[Figure, Array]
    baseline: Mapping[Figure, Array]
    #: Point at which the metric is asked for; None where it is not measured at each point.
    point: Point | None = None
    rounds: Mapping[Figure, Array] = Factory(dict)
    #: Outputs of the evaluation ``[n, ...]`` by name, of this cell and of the baseline; None where there are
    #: none. They may be larger than memory: they are memory-mapped, and cannot be written to.
    outputs: Arrays | None = None
    baseline_outputs: Arrays | None = None
    #: What the workload's ``postprocess`` made of both, which metrics of phase ``predictions`` get in their
    #: place; None where it made nothing, so that the outputs are the answers.
    answers: Arrays | None = None
    baseline_answers: Arrays | None = None
    #: Right answers of the evaluated items, by name, and the classes; empty where there are none.
    targets: Arrays = Factory(dict)
    classes: tuple[str, ...] = ()

    def take(self, items: Any) -> Recorded:
        """Return the same with the outputs and targets of some items alone: a slice or an array of indices.

        The recorded samples stay those of all items.
        """

        def take_optional(arrays: Arrays | None) -> Arrays | None:
            return None if arrays is None else taken(arrays, items)

        return evolve(
            self,
            outputs=take_optional(self.outputs),
            baseline_outputs=take_optional(self.baseline_outputs),
            answers=take_optional(self.answers),
            baseline_answers=take_optional(self.baseline_answers),
            targets=taken(self.targets, items),
        )

    def parts(self) -> Iterator[Recorded]:
        """Yield the outputs and targets of all items in their order, some tens of MiB at a time."""
        arrays = (self.outputs, self.baseline_outputs, self.answers, self.baseline_answers)
        slices = _slices((*(part or {} for part in arrays), self.targets))
        return (self.take(items) for items in slices)


#: Types of the argument ``data`` of ``measure``, by the phase of the metric.
MetricData: TypeAlias = Building | Artifact | Fresh | Block | Predictions | Recorded


@frozen
class Samples:
    """Result of ``measure`` with more than values: details are kept in the results, as JSON."""

    #: Values in the metric's unit; for a metric with ``combine`` the statistics of the items, ``[n, k]``.
    values: Sequence[float] | float | Array
    details: JsonMapping = Factory(dict)
    #: Wave of each value, for derived samples per launch or block.
    waves: Sequence[int] | Array | None = None
    #: Round of each value, for derived samples per block.
    rounds: Sequence[int] | Array | None = None
    #: Group of each item (its class), as a position in ``group_names``, for samples per item or per set. qx
    #: then reports value, interval and paired difference of every group too, corrected for their number.
    groups: Sequence[int] | Array | None = None
    group_names: Sequence[str] = ()
