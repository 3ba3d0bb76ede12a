"""The public API as plugins and programs use it: read by the type checker, run by nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qx
from qx import (
    CONTRACT,
    LABELS,
    OUTPUT,
    Arrays,
    Artifact,
    Batch,
    Block,
    Building,
    BuildStep,
    Config,
    Context,
    Converted,
    Data,
    DataError,
    Figure,
    FloatLayers,
    Fresh,
    LayerRow,
    Lengths,
    Loader,
    Mark,
    Metric,
    Option,
    PluginError,
    Point,
    Predictions,
    QxError,
    Recipe,
    Recorded,
    Result,
    Rounding,
    Samples,
    StoredWeight,
    Subject,
    Unsupported,
    UsageError,
    Weights,
    Workload,
    cpu_flags,
    draw_items,
    float_layers,
    hookimpl,
    import_file,
    one_line,
    session_object,
    signal_and_noise,
    unfinished_folder,
)
from qx.results.recording import Recording
from qx.results.results_file import schema
from qx.testing import Conformance, Failed, NotApplicable, Verdict, conformance_test
from qx.testing.worse import HUNGRY, LATE, NOISY, PADDED, SLOW

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch.utils.data import Dataset

version: str = CONTRACT
same: str = qx.CONTRACT
flags: frozenset[str] = frozenset(cpu_flags())
drawn: int = int(draw_items([0, 1], 2, 1)[0])
text: str = one_line(ValueError("bad"))
name: str = import_file("_name", Path("name.py")).__name__
errors: tuple[type[QxError], ...] = (DataError, PluginError, Unsupported, UsageError)

option = Option(name="bits", default=8, help="Bits.", choices=[4, 8], minimum=2, maximum=8)
flaw: str = option.flaw(5)
kind: type = option.type

config = Config(
    name="half",
    summary="Half.",
    requires=["torchao>=0.5"],
    extra="torchao",
    instruction_sets=["avx512_vnni"],
    devices=["cpu", "cuda"],
    compute_capability="8.9",
    imports=("torch.onnx",),
    options=[option],
    calibration=True,
    training=False,
    quantizable=True,
    reference=False,
    runtime_baseline="fp32_there",
)
metric = Metric(
    name="delay",
    summary="Delay.",
    unit="ms",
    better="lower",
    samples="per_block",
    compare="speedup",
    phase="block",
    margin=0.02,
    per_point=True,
    axis=True,
    pick="the quickest",
    alone=False,
    requires=(),
    options=(option,),
)
whole_set = Metric(
    name="f1",
    summary="F1.",
    unit="fraction",
    better="higher",
    samples="per_set",
    compare="difference",
    phase="predictions",
)
workload = Workload(name="cats", summary="Cats.", weights="cats:cats.pt", default=False, fallback="digits")
loader = Loader(name="there", summary="There.", imports=["numpy"], rebuilds=False)


conformance = Conformance(
    expected_failures={"deterministic": "seeded by the clock"},
    worse="qx.testing.worse:NOISY",
    subject="half",
    workload="cats",
    bad_options={"bits": [5]},
)
test_conformance: Callable[..., None] = conformance_test("my_package.half", conformance)
reasons: tuple[type[Exception], ...] = (Failed, NotApplicable)
verdict = Verdict("deterministic", "failed", "two builds differ")
worse: tuple[object, ...] = (NOISY, SLOW, PADDED, HUNGRY, LATE)

recording = Recording.read(Path("samples.npz"))
times: NDArray[np.float64] = recording.series["cats/half"][Figure("delay", Point(1))].values
scores: Any = recording.outputs["cats/half"][OUTPUT]
fields: Mapping[str, Any] = schema()["properties"]


@hookimpl
def describe() -> Config:
    return config


@hookimpl
def make_model(context: Context) -> torch.nn.Module:
    raise Unsupported("layer norm: no int8 kernel")


@hookimpl
def load_data(split: str, context: Context) -> Data:
    if context.data is None or context.offline:
        raise DataError(f"{split} is not there")
    with unfinished_folder(context.cache or Path()) as folder:
        (folder / "images").replace(folder.parent / "images")
    inputs = {"image": [[0.0]]}
    return Data(inputs=inputs, targets={LABELS: [0]}, classes=["cat"], source=str(context.cache))


@hookimpl
def example_inputs(batch_size: int) -> tuple[torch.Tensor, ...]:
    import torch

    return (torch.zeros(batch_size, 1),)


@hookimpl
def input_lengths(context: Context) -> tuple[int, int] | None:
    lengths: Lengths | None = context.lengths
    return None if lengths is None else (lengths.lowest, lengths.highest)


@hookimpl
def train(model: torch.nn.Module, context: Context) -> torch.nn.Module:
    context.progress(0.5, f"seed {context.seed}, {context.options['epochs']} epochs")
    return model


@hookimpl
def prepare_model(
    model: torch.nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context
) -> torch.nn.Module:
    return model


@hookimpl
def calibrate(model: torch.nn.Module, batches: Sequence[Batch]) -> torch.nn.Module:
    for batch in batches:
        model(*batch.inputs.values(), batch.targets.get(LABELS))
    return model


@hookimpl
def convert(model: torch.nn.Module, float_model: torch.nn.Module, context: Context) -> Artifact | Converted:
    folder: Path | None = context.folder
    in_float: FloatLayers = float_layers(model, context)
    assert in_float.names or "fc" not in in_float
    rows = [LayerRow(name=name, bits=8, error=0.1) for name, _ in float_model.named_modules()]
    recipe: Recipe = context.recipe("half", bits=4)
    assert recipe.options
    if folder is None:
        return Converted(module=model, notes=["a note"], layers=rows)
    assert folder is not None
    return Artifact(folder=folder, loader="there", files=["model.npz"], details={"threads": context.threads})


class Served:
    """A subject, by its shape alone."""

    def prepare(self, arrays: Arrays) -> Any:
        return arrays["image"]

    def call(self, native: Any) -> Any:
        return native

    def outputs(self, native: Any) -> Arrays:
        return {OUTPUT: native}


@hookimpl
def load(artifact: Artifact, context: Context) -> Subject:
    rebuilt = context.rebuild() if context.rebuild is not None else None
    assert rebuilt is None, (artifact.folder, artifact.files, artifact.details, artifact.loader)
    return Served()


@hookimpl
def rounding(context: Context) -> Rounding | None:
    return Rounding(weight_bits=4, group_size=32, activation_bits=None) if context.options else None


@hookimpl
def read_weights(artifact: Artifact) -> Weights:
    return Weights(layers={"fc": StoredWeight(elements=10, bits=8, type="int8")}, kernels={"fc": 1})


@hookimpl
def measure(
    subject: Subject | None, data: Building | Block | Fresh | Predictions | Recorded
) -> Samples | None:
    if isinstance(data, Fresh):
        mark: Mark = data.mark("now")
        return Samples([mark.peak - data.marks[0].rss, mark.seconds], details={"stage": mark.stage})
    if isinstance(data, Block) and data.reset is not None:
        data.reset()
        return Samples([float(data.call(data.native))])
    if isinstance(data, Block) and subject is not None:
        return Samples([float(subject.call(data.native)) / data.point.batch_size for _ in range(data.calls)])
    if isinstance(data, Predictions):
        highest = data.outputs[OUTPUT].max(axis=1)
        return Samples(highest, groups=data.targets[LABELS], group_names=data.classes)
    if isinstance(data, Building):
        steps: tuple[BuildStep, ...] = data.steps
        return Samples(max(step.peak_of_all - step.peak + step.seconds for step in steps))
    if isinstance(data, Recorded):
        delay = Figure("delay", data.point)
        return Samples(data.samples[delay], waves=data.waves[delay])
    return None


def compare(net: torch.nn.Module, images: torch.Tensor, labels: NDArray[np.int64]) -> Result:
    """Compare configs on a model and on data of a session, in every form that they may have."""
    first: Result = qx.run(model=net, data=(images, labels), configs=["half"], budget=60, quick=False)
    data: Dataset[Any] = torch.utils.data.TensorDataset(images)
    qx.run(model=torch.nn.Flatten, model_args={"start_dim": 1}, data=data, trained=True, batch_sizes=1)
    qx.run(model="nets.py:make", data=Path("images"), input_shape=(3, 32, 32), mean=[0.5] * 3, std="1,1,1")
    test = Data(inputs={"image": images})
    qx.run(model=net, data={"train": images, "test": test}, metrics="delay", settings={"half.bits": [4, 8]})
    qx.run(workloads=["cats"], all=True, plugins=["cats.py"], out="here", progress=False, cpus=[0])
    qx.run(model=net, data=({"left": images, "right": images}, labels), seed=1, yes=True, timeout=60.0)
    return first


result: Result = qx.load("artifacts/results")
rows: list[dict[str, Any]] = [dict(row) for row in result.table]
on_front: list[str] = result.front.names
picked: dict[str, str | None] = {pick.aim: pick.config for pick in result.picks}
sentences: list[str] = [str(pick) for pick in result.picks if not pick.tied_with and pick.batch_size == 1]
records: list[dict[str, Any]] = result.to_records()
frames: list[DataFrame] = [result.to_pandas(), result.comparisons_to_pandas(), result.samples_to_pandas()]
raw: Recording = result.samples
plots: list[Axes] = [result.plot.pareto("delay", "hits"), result.plot.waves("delay", 1)]
saved: Path | None = result.save(Path("there")).folder
whole: bool = result.ended_well or not result.failures
squares: tuple[NDArray[np.float64], NDArray[np.float64]] = signal_and_noise(
    raw.outputs["cats/half"]["output"], raw.outputs["cats/base"]["output"]
)
handed: object = session_object("session:Net:0123")
