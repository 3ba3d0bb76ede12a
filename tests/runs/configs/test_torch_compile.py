"""The recipes for GPUs, as far as the CPU can try them: quantizing, storing, loading, refusing."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from qx_plugins.loaders import torch_compile, torch_eager
from qx_plugins.recipes.fidelity import signal_to_noise_db
from qx_plugins.runtimes.torch_compile import compiling, serving
from torch import nn

from qx import Artifact, Context, Unsupported
from qx.contract.records import FLOAT_LAYERS

torchao = pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("torchao") is None, reason="torchao is missing"
)


class Net(nn.Module):
    """A convolution, and linear layers whose sizes suit all kernels but that of the last."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.hidden = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 64))
        self.head = nn.Linear(64, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.hidden(self.body(images)))
        return scores


IMAGES = torch.randn(20, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def net() -> nn.Module:
    """The network, with the same weights each time."""
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the compiler, which another test tries: what is compiled is served as it is."""
    for module in (compiling, serving):
        monkeypatch.setattr(module, "compile_model", lambda model, mode: model)


def config(name: str) -> Any:
    """Return the module of a config."""
    return import_module(f"qx_plugins.configs.{name}")


def convert(name: str, net: nn.Module, folder: Path, **options: Any) -> Artifact:
    """Return the artifact that a config makes of a network on the CPU."""
    plugin = config(name)
    values = {option.name: option.default for option in plugin.describe().options}
    context = Context(folder=folder, device="cpu", options={**values, **options})
    artifact: Artifact = plugin.convert(net, (IMAGES[:1],), context)
    return artifact


def serve(artifact: Artifact, folder: Path) -> np.ndarray:
    """Return the outputs of an artifact that the loader loads into a network with other weights."""
    torch.manual_seed(7)
    context = Context(folder=folder, device="cpu", cache=folder, make_model=lambda: Net().eval())
    subject = torch_compile.load(artifact, context)
    try:
        outputs = subject.outputs(subject.call(subject.prepare({"image": IMAGES.numpy()})))
    finally:
        subject._guard.__exit__(None, None, None)
    return outputs["output"]


def decibels(net: nn.Module, outputs: np.ndarray) -> float:
    """Return how near outputs are to those of a network in fp32."""
    with torch.no_grad():
        return signal_to_noise_db([net(IMAGES)], [torch.from_numpy(outputs)])


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("compile_fp32", 100.0, np.inf),
        ("compile_bf16", 30.0, 70.0),
        pytest.param("compile_int8_weight_only", 25.0, 60.0, marks=torchao),
        pytest.param("compile_int8_dynamic", 20.0, 50.0, marks=torchao),
        pytest.param("compile_fp8_dynamic", 15.0, 45.0, marks=torchao),
    ],
)
def test_what_is_stored_is_served(
    name: str, least: float, most: float, net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of each recipe give its outputs in a network that had other weights, in float32."""
    if "fp8" in name:
        # The CPU multiplies 8-bit floats too, slowly, and torchao refuses that.
        monkeypatch.setattr(
            "torchao.quantization.quant_api._check_hardware_support", lambda granularities: None
        )
    reference = Net().eval()
    reference.load_state_dict(net.state_dict())
    outputs = serve(convert(name, net, tmp_path), tmp_path)
    assert outputs.dtype == np.float32
    assert least < decibels(reference, outputs) <= most


@torchao
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", ["compile_int8_weight_only", "compile_int8_dynamic"])
def test_weights_are_read_with_their_bits(name: str, net: nn.Module, tmp_path: Path) -> None:
    """Linear layers have 8 bits, those left in float and the convolution 16, and no element is lost."""
    artifact = convert(name, net, tmp_path, **{FLOAT_LAYERS.name: "hidden.2"})
    layers = torch_compile.read_weights(artifact).layers
    bits = {key.removeprefix("model.").removesuffix(".weight"): entry.bits for key, entry in layers.items()}
    # The product of int8 matrices does not take the five outputs of the head.
    head = 8 if "weight_only" in name else 16
    assert bits == {"body.0": 16, "hidden.0": 8, "hidden.2": 16, "head": head}
    assert sum(entry.elements for entry in layers.values()) == 16 * 27 + 256 * 128 + 128 * 64 + 64 * 5


@torchao
@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("compile_int8_dynamic", ["hidden.0", "hidden.2"]),
        ("compile_int8_weight_only", ["hidden.0", "hidden.2", "head"]),
        ("compile_fp8_dynamic", ["hidden.0", "hidden.2"]),
        ("compile_int4_weight_only", ["hidden.0", "hidden.2"]),
    ],
)
def test_layers_that_a_kernel_takes_are_named(name: str, layers: list[str], net: nn.Module) -> None:
    """What is quantized is what the kernel on the device takes, by the sizes of the layer."""
    plugin = config(name)
    options = {option.name: option.default for option in plugin.describe().options}
    arguments = {"context": Context(options=options)} if "int4" in name else {}
    assert plugin.quantized_layers(net, **arguments) == layers


@pytest.mark.parametrize("name", ["compile_int8_dynamic", "compile_int4_weight_only", "compile_fp8_dynamic"])
def test_models_without_such_a_layer_are_refused(name: str) -> None:
    """A model whose layers no kernel takes is unsupported before anything is built, with the sizes."""
    with pytest.raises(Unsupported, match=r"no nn\.Linear with inputs .* has 7 inputs and 3 outputs"):
        config(name).check_model(nn.Sequential(nn.Linear(7, 3)))
    with pytest.raises(Unsupported, match="has none"):
        config(name).check_model(nn.Sequential(nn.Conv2d(3, 3, 3)))


def test_a_compiled_model_that_computes_something_else_is_refused(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build compares the compiled model with the same one in eager mode."""
    monkeypatch.setattr(compiling, "compile_model", lambda model, mode: lambda images: -model(images))
    with pytest.raises(Unsupported, match="the compiled model gives wrong outputs"):
        convert("compile_fp32", net, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_model_that_cannot_be_compiled_is_refused(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the compiler raises becomes the reason."""

    def fail(model: nn.Module, mode: str) -> Any:
        def call(*_: object) -> None:
            raise TypeError("no such kernel")

        return call

    monkeypatch.setattr(compiling, "compile_model", fail)
    with pytest.raises(
        Unsupported, match=r"^torch\.compile cannot compile the model: TypeError: no such kernel$"
    ):
        convert("compile_bf16", net, tmp_path)


@pytest.mark.slow
def test_the_compiler_compiles_each_batch_size(net: nn.Module, tmp_path: Path) -> None:
    """With the real compiler, on the CPU: built, verified, stored, loaded and called at two batch sizes."""
    reference = Net().eval()
    reference.load_state_dict(net.state_dict())
    outputs = serve(convert("compile_fp32", net, tmp_path), tmp_path)
    assert decibels(reference, outputs) > 100


def test_float16_is_served_in_eager_mode(net: nn.Module) -> None:
    """``fp16`` gives a module in float16 whose inputs and outputs are in float32."""
    reference = Net().eval()
    reference.load_state_dict(net.state_dict())
    module = config("fp16").convert(net)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float16}
    with torch.no_grad():
        outputs = module(IMAGES)
    assert outputs.dtype == torch.float32
    assert 40 < decibels(reference, outputs.numpy()) < 90


def test_the_eager_loader_rounds_nothing_more_on_a_device(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module on a device is served in IEEE single precision; on the CPU nothing is switched."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch_eager.ModuleSubject(net)._guard.__exit__(None, None, None)
    assert torch.backends.cudnn.allow_tf32
    # A device that every torch has, and that computes nothing.
    torch_eager.ModuleSubject(net, device="meta")._guard.__exit__(None, None, None)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
