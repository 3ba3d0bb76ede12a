"""The compiled configs: Inductor's and torchao's. Compiling is slow: few tests, on tiny nets."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from qx_plugins.recipes.bisecting import first_wrong_layer
from qx_plugins.runtimes.aot_inductor import compiling as inductor
from qx_plugins.runtimes.aot_inductor import pt2e
from qx_plugins.runtimes.aot_inductor import weights as aot_inductor
from runtimes import check_busy_threads
from torch import nn

from qx import Artifact, Context, FloatLayers, Unsupported

needs_compiler = pytest.mark.skipif(
    not any(shutil.which(os.path.expandvars(name)) for name in inductor.COMPILERS),
    reason="needs a C++ compiler",
)
needs_torchao = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="needs torchao")

#: Builds a config as qx's worker does, in a process of its own, and serves it through its loader.
BUILD = """
    import importlib, json, os, pathlib, sys
    import numpy, torch
    from torch import nn
    from qx import Batch, Context
    from qx.worker.once import once_in
    from qx_plugins.loaders import aot_inductor

    name, folder, options = sys.argv[1], pathlib.Path(sys.argv[2]), json.loads(sys.argv[3])
    if flags := options.pop("cpu_flags", None):
        from qx_plugins.recipes import saturation
        saturation.cpu_flags = lambda: frozenset(flags)
    plugin = importlib.import_module(f"qx_plugins.configs.{name}")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if "torchao" in name:
        hidden = options.pop("hidden", 64)
        model = nn.Sequential(nn.Linear(32, hidden), nn.ReLU(), nn.Linear(hidden, 16)).eval()
        inputs = numpy.random.default_rng(0).standard_normal((5, 32), dtype=numpy.float32)
    else:
        model = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
        ).eval()
        inputs = numpy.random.default_rng(0).standard_normal((5, 3, 8, 8), dtype=numpy.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(inputs)).numpy()
    examples = (torch.from_numpy(inputs[:1]),)
    context = Context(folder=folder, options=options, once=once_in(os.environ["COMPILER_ANSWERS"]))
    if hasattr(plugin, "prepare_model"):
        model = plugin.prepare_model(model, examples, context)
        batches = [Batch(inputs={"image": inputs})] * 4
        more = {"context": context} if "qat" in name else {}
        model = plugin.calibrate(model, batches, **more)
    artifact = plugin.convert(model, examples, context)
    subject = aot_inductor.load(artifact, context)
    errors = []
    for size in (1, 5):
        outputs = subject.outputs(subject.call(subject.prepare({"image": inputs[:size]})))["output"]
        assert outputs.dtype == numpy.float32 and outputs.shape == expected[:size].shape
        errors.append(float(abs(outputs - expected[:size]).max() / abs(expected).max()))
    unpacked = [line for line in open("/proc/self/maps") if "wrapper" in line and "(deleted)" not in line]
    report = {"errors": errors, "files": artifact.files, "left": unpacked, "notes": artifact.notes}
    print(json.dumps(report))
"""


def _built(
    name: str, folder: Path, environment: dict[str, str], options: dict[str, Any] | None = None
) -> dict[str, Any]:
    import json

    temporary = folder / "temporary"
    artifact = folder / "artifact"
    for place in (temporary, artifact):
        place.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", dedent(BUILD), name, str(artifact), json.dumps(options or {})],
        env=environment | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    # Nothing of the compilation stays, neither in the artifact nor among the system's temporary files.
    assert sorted(path.name for path in artifact.iterdir()) == report["files"]
    # (torch makes an empty folder when it is imported.)
    assert [path for path in temporary.rglob("*") if path.is_file()] == []
    assert report["left"] == []
    return report | {
        "weights": aot_inductor.read(Artifact(folder=artifact, loader="aot_inductor", files=report["files"]))
    }


@needs_compiler
def test_a_package_serves_any_batch_and_leaves_nothing(tmp_path: Path, compiling: dict[str, str]) -> None:
    """Compiled fp32 gives the model's outputs at batches of 1 and 5; its weights are in 32 bits."""
    report = _built("inductor_fp32", tmp_path, compiling)
    assert max(report["errors"]) < 1e-4
    assert {layer.bits for layer in report["weights"].layers.values()} == {32}


@needs_compiler
@pytest.mark.skipif(
    bool(pt2e.requires()) and importlib.util.find_spec("torchao") is None, reason="needs torchao"
)
@pytest.mark.parametrize(
    "config", ["inductor_int8", pytest.param("inductor_int8_qat", marks=pytest.mark.slow)]
)
def test_inductor_runs_every_layer_in_8_bits(tmp_path: Path, compiling: dict[str, str], config: str) -> None:
    """The generated code holds int8 weights alone, and calls the int8 convolution and the int8 product."""
    options = {"epochs": 1, "learning_rate": 1e-4, "loss": "teacher"}
    report = _built(config, tmp_path, compiling, options)
    assert max(report["errors"]) < 0.1
    weights = report["weights"]
    assert {layer.bits for layer in weights.layers.values()} == {8}
    assert sum(layer.elements for layer in weights.layers.values()) == 16 * 3 * 9 + 16 * 10
    kernels = " ".join(weights.kernels)
    assert "qconv" in kernels and "qlinear" in kernels
    assert "convolution" not in kernels


@needs_compiler
@pytest.mark.skipif(
    bool(pt2e.requires()) and importlib.util.find_spec("torchao") is None, reason="needs torchao"
)
@pytest.mark.parametrize(
    "config", ["inductor_int8", pytest.param("inductor_int8_qat", marks=pytest.mark.slow)]
)
def test_without_vnni_activations_have_7_bits_and_it_is_told(
    tmp_path: Path, compiling: dict[str, str], config: str
) -> None:
    """Without VNNI, 8-bit products are added in 16 bits: the range is halved, and the notes say so."""
    options = {"epochs": 1, "learning_rate": 1e-4, "loss": "teacher", "cpu_flags": ["avx2"]}
    report = _built(config, tmp_path, compiling, options)
    assert max(report["errors"]) < 0.1
    assert [note for note in report["notes"] if "activations have 7 bits" in note]


@pytest.mark.skipif(
    bool(pt2e.requires()) and importlib.util.find_spec("torchao") is None, reason="needs torchao"
)
@pytest.mark.parametrize("training", [False, True])
def test_the_range_of_activations_goes_by_the_cpu(training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Activations have 128 levels without VNNI, and 256 with it."""
    from qx_plugins.recipes import saturation

    seen = []
    for flags in ({"avx2"}, {"avx2", "avx512_vnni"}):
        monkeypatch.setattr(saturation, "cpu_flags", lambda flags=flags: frozenset(flags))
        linear = nn.Sequential(nn.Linear(4, 4))
        model = pt2e.prepare_graph(linear, (torch.zeros(1, 4),), training=training, in_float=FloatLayers())
        observers = [module for module in model.modules() if getattr(module, "dtype", None) is torch.uint8]
        seen.append({observer.quant_max for observer in observers})
    assert seen == [{127}, {255}]


@needs_compiler
@needs_torchao
@pytest.mark.parametrize(
    ("config", "bits", "kernel", "error"),
    [
        ("torchao_int8_dynamic", 8, "int_mm", 0.05),
        ("torchao_int8_weight_only", 8, "int8pack", 0.05),
        ("torchao_int4_weight_only", 4, "int4pack", 0.3),
    ],
)
def test_torchao_runs_linear_layers_in_few_bits(
    tmp_path: Path, compiling: dict[str, str], config: str, bits: int, kernel: str, error: float
) -> None:
    """The generated code holds the weights in 8 or 4 bits, and calls the kernel that multiplies by them."""
    if pt2e.requires() == ():
        pytest.skip("torchao of this age needs a later torch")
    report = _built(config, tmp_path, compiling, {"group_size": 32})
    assert max(report["errors"]) < error
    weights = report["weights"]
    assert {layer.bits for layer in weights.layers.values()} == {bits}
    assert sum(layer.elements for layer in weights.layers.values()) == 32 * 64 + 64 * 16
    assert any(kernel in name for name in weights.kernels)


@needs_compiler
@needs_torchao
def test_int8_weights_are_of_layers_that_the_kernel_takes(tmp_path: Path, compiling: dict[str, str]) -> None:
    """Layers whose inputs are no multiple of 16, beyond which the kernel would read, stay in bfloat16."""
    if pt2e.requires() == ():
        pytest.skip("torchao of this age needs a later torch")
    from qx_plugins.configs import torchao_int8_weight_only as config

    model = nn.Sequential(nn.Linear(32, 60), nn.ReLU(), nn.Linear(60, 16))
    assert config.quantized_layers(model) == ["0"]
    with pytest.raises(Unsupported, match=r"no nn\.Linear with inputs in multiples of 16: .* has 60 inputs"):
        config.check_model(model[2], (torch.zeros(1, 60),), Context())
    report = _built("torchao_int8_weight_only", tmp_path, compiling, {"hidden": 60})
    assert max(report["errors"]) < 0.05
    bits = sorted((layer.bits, layer.elements) for layer in report["weights"].layers.values())
    assert bits == [(8, 32 * 60), (16, 60 * 16)]


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_a_model_that_cannot_be_exported_is_unsupported() -> None:
    """The layer whose code depends on data is named, with its kind and its line."""
    from qx_plugins.recipes.bfloat16 import Bfloat16

    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(Branching()))
    # The layer has its author's name also where the model was put into bfloat16.
    for form in (model, Bfloat16(model)):
        with pytest.raises(
            Unsupported, match=r"torch\.export: layer '1\.0' \(Branching\), test_inductor\.py:\d+: "
        ):
            inductor.export_for_inductor(form, (torch.zeros(1, 4),))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("features.0.conv", "features.0.conv"),
        ("L['fn']", ""),
        ("L['self'].head", "head"),
        ("getattr(getattr(L['fn'], '1'), '0')", "1.0"),
        ("getattr(L['self'].wrapped.features, '12').conv", "wrapped.features.12.conv"),
    ],
)
def test_layers_have_the_names_that_their_author_gave(path: str, name: str) -> None:
    """Layers that an early torch names by an expression are named by their path in the model."""
    from qx_plugins.recipes import exporting

    assert exporting._dotted_name(path) == name


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_inductor_cannot_lower_is_unsupported(wrapped: bool) -> None:
    """The layer is named; a compiler that fails is not the model's fault, and its error stays as it is."""
    from qx_plugins.recipes.bfloat16 import Bfloat16
    from torch._inductor import exc

    model: nn.Module = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    program = inductor.export_for_inductor(Bfloat16(model) if wrapped else model, (torch.zeros(1, 4),))
    cause = exc.LoweringException(ValueError("no such loop"), torch.ops.aten.relu.default, [], {})
    words = r"cannot be lowered by Inductor: layer '1': LoweringException: ValueError: no such loop"
    with pytest.raises(Unsupported, match=words), inductor._explain_lowering(program):
        raise cause
    with pytest.raises(exc.CppCompileError), inductor._explain_lowering(program):
        raise exc.CppCompileError(["g++"], "internal compiler error")


def test_a_summary_of_frames_is_enough_to_name_the_layer() -> None:
    """Without a frame of the layer (torch before 2.7) its class is named, and how many layers have it."""
    import inspect
    from traceback import FrameSummary

    from qx_plugins.recipes.tracing import name_layer

    lines, start = inspect.getsourcelines(Branching.forward)
    error = RuntimeError("no branches")
    error.real_stack = [FrameSummary(__file__, start + len(lines) - 1, "forward")]  # type: ignore[attr-defined]
    single = nn.Sequential(nn.Linear(4, 4), nn.Sequential(Branching()))
    assert name_layer(error, single).startswith("layer '1.0' (Branching), test_inductor.py:")
    assert name_layer(error, nn.Sequential(Branching(), Branching())).startswith(
        "one of 2 Branching, test_inductor.py:"
    )
    assert name_layer(error, nn.Sequential(nn.ReLU())) == "Sequential: no branches"


def test_without_a_compiler_the_row_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no C++ compiler is on the PATH the config is unavailable, and the reason names the compilers."""
    from qx_plugins.configs import inductor_fp32

    from qx.contract.requirements import missing_on_machine

    monkeypatch.setenv("PATH", "/nowhere")
    assert missing_on_machine(inductor_fp32.describe()).endswith("g++, clang++")


@needs_torchao
def test_torchao_says_which_layers_it_cannot_take() -> None:
    """A model without linear layers, or without one that the kernel takes, is unsupported, with its shape."""
    if pt2e.requires() == ():
        pytest.skip("torchao of this age needs a later torch")
    from qx_plugins.recipes.bfloat16 import Bfloat16
    from qx_plugins.recipes.linears import Kernel, quantize_linears

    with pytest.raises(Unsupported, match=r"only nn\.Linear, and Conv2d has none"):
        quantize_linears(nn.Conv2d(1, 1, 1), None, FloatLayers())
    model = nn.Module()
    model.head = nn.Linear(8, 10)
    kernel = Kernel(lambda layer: layer.out_features % 16 == 0, "of 16")
    # The layer has its author's name also where the model was put into bfloat16.
    for form in (model, Bfloat16(model)):
        with pytest.raises(
            Unsupported, match=r"no nn\.Linear of 16: the first of \d+, 'head', has 8 inputs and 10 outputs"
        ):
            quantize_linears(form, None, FloatLayers(), kernel)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("config", [pytest.param("inductor_fp32", marks=pytest.mark.slow)])
def test_as_many_threads_work_as_are_asked_for(
    qx: Callable[..., Any], config: str, threads: int, tmp_path: Path
) -> None:
    """In a process like a launch, with two threads both compute, and no third, whatever the build had."""
    check_busy_threads(qx, config, threads, tmp_path)


class Layers(nn.Module):
    """A network of three layers, with operators between them that belong to none."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.body(torch.sigmoid(self.stem(images))))
        return self.head(features.mean((2, 3)))


@pytest.mark.parametrize("wrong", ["stem", "body", "head", ""])
def test_the_first_layer_that_is_wrong_once_compiled_is_found(wrong: str) -> None:
    """The layer is named whose outputs are the first wrong ones, and none where no part of the graph is."""
    operators = {"stem": "conv2d", "body": "conv2d_1", "head": "linear"}
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    program = inductor.export_for_inductor(Layers().eval(), (images[:1],))

    def compile_wrongly(part: Any) -> Callable[..., torch.Tensor]:
        module = part.module()
        is_wrong = any(node.name == operators.get(wrong) for node in part.graph.nodes)
        return lambda *inputs: -module(*inputs) if is_wrong else module(*inputs)

    assert first_wrong_layer(program, compile_wrongly, (images,), max_batch=64) == wrong
