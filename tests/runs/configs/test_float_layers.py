"""Every config with the option ``float_layers`` leaves the named layers in float, and no others."""

from __future__ import annotations

import copy
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runtimes import READY, answer, served
from test_weight_counts import call, read_by_its_loader
from torch import nn

from qx import Artifact, Batch, Context, FloatLayers, Rounding, UsageError
from qx.contract.float_layers import layers_with_weights, match_layers, weight_elements
from qx.worker.state import complete, save

# The exporters warn of their own insides; in a build it goes to the log.
pytestmark = pytest.mark.filterwarnings("ignore")


class Block(nn.Module):
    """Two convolutions with normalization, the second one by channel, and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.narrow = nn.Sequential(nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.sum = torch.ao.nn.quantized.FloatFunctional()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.sum.add_relu(self.narrow(self.wide(images)), images)


class Net(nn.Module):
    """A network that every config takes, whose layers have different numbers of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.quant = torch.ao.quantization.QuantStub()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.block = Block()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.flatten = nn.Flatten()
        self.head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 48))
        self.dequant = torch.ao.quantization.DeQuantStub()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.flatten(self.pool(self.block(self.stem(self.quant(images)))))
        return self.dequant(self.head(features))

    def fuse_model(self) -> None:
        """Fold normalization into the layers before it."""
        torch.ao.quantization.fuse_modules(self.stem, ["0", "1", "2"], inplace=True)
        torch.ao.quantization.fuse_modules(self.block.wide, ["0", "1", "2"], inplace=True)
        torch.ao.quantization.fuse_modules(self.block.narrow, ["0", "1"], inplace=True)
        torch.ao.quantization.fuse_modules(self.head, ["0", "1"], inplace=True)


IMAGES = np.random.default_rng(0).standard_normal((8, 3, 12, 12), dtype=np.float32)
#: Configs that compile, and take minutes together.
COMPILED = ("inductor_int8", "torchao_int8_weight_only", "torchao_int8_dynamic", "torchao_int4_weight_only")
QUICK = (
    *("static_int8_per_channel", "dynamic_int8", "fx_static_int8"),
    *("onnxruntime_static_int8_per_channel", "openvino_int8"),
)
SLOW = (
    *("static_int8_per_tensor", "static_int8_histogram", "onnxruntime_static_int8_per_tensor"),
    *("onnxruntime_dynamic_int8", "executorch_int8", *COMPILED),
)
CONFIGS = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def made(config: str, text: str, folder: Path, network: nn.Module | None = None) -> Artifact:
    """Return the artifact that a config makes of a network with these layers in float."""
    if config not in READY:
        pytest.skip(f"{config} cannot be used here")
    torch.manual_seed(0)
    folder.mkdir()
    model = Net().eval() if network is None else copy.deepcopy(network)
    record = import_module(f"qx_plugins.configs.{config}").describe()
    options = {option.name: option.default for option in record.options} | {"float_layers": text}
    context = Context(folder=folder, engine=torch.backends.quantized.engine, options=options)
    arguments = {"example_inputs": (torch.from_numpy(IMAGES[:1]),), "context": context}
    model = call(config, "prepare_model", model=model, **arguments)
    model = call(config, "calibrate", model=model, batches=[Batch(inputs={"image": IMAGES})], context=context)
    artifact = call(config, "convert", model=model, **arguments)
    if isinstance(artifact, nn.Module):
        save(complete(artifact), folder / "model.pt")
        artifact = Artifact(folder=folder, loader="torch_eager", files=["model.pt"])
    return read_by_its_loader(artifact)


def stored(artifact: Artifact) -> Counter[tuple[int, int]]:
    """Return how many weights have these numbers of elements and bits."""
    weights = artifact.read_weights()
    assert weights is not None
    return Counter((layer.elements, layer.bits) for layer in weights.layers.values())


def narrow_elements(counts: Counter[tuple[int, int]]) -> int:
    """Return the number of weights in fewer than 16 bits."""
    return sum(elements for elements, bits in counts.elements() if bits < 16)


def quantized_names(config: str, text: str = "*") -> list[str]:
    """Return the names of the layers that a config quantizes, of those that match."""
    module: Any = import_module(f"qx_plugins.configs.{config}")
    options = {option.name: option.default for option in module.describe().options}
    names = call(config, "quantized_layers", model=Net(), context=Context(options=options))
    names = layers_with_weights(Net()) if isinstance(names, nn.Module) else names
    return [name for name in names if name in match_layers(Net(), text)]


def simulated(config: str) -> int:
    """Return the bits of the weights with which ``qx layers`` simulates the layers of a config."""
    module: Any = import_module(f"qx_plugins.configs.{config}")
    if not hasattr(module, "rounding"):
        return Rounding().weight_bits
    options = {option.name: option.default for option in module.describe().options}
    bits: int = call(config, "rounding", model=None, context=Context(options=options)).weight_bits
    return bits


@pytest.mark.parametrize("config", CONFIGS)
def test_named_layers_are_in_float_and_all_others_as_before(config: str, tmp_path: Path) -> None:
    """Of a layer, and of a container, the weights are in float; all others have the bits that they had."""
    before = stored(made(config, "", tmp_path / "plain"))
    quantized = quantized_names(config)
    assert narrow_elements(before) == sum(weight_elements(Net(), name) for name in quantized)
    # 7 bits are stored in 8, where sums could overflow.
    assert {bits for _, bits in before if bits < 16} <= {simulated(config), simulated(config) + 1}
    for text in ("block", "head.[2-9]"):
        expected = sum(weight_elements(Net(), name) for name in quantized_names(config, text))
        if not expected:
            continue
        after = stored(made(config, text, tmp_path / text[:5]))
        removed, added = before - after, after - before
        assert narrow_elements(removed) == narrow_elements(before) - narrow_elements(after) == expected, text
        assert Counter(elements for elements, _ in removed.elements()) == Counter(
            elements for elements, _ in added.elements()
        )


@pytest.mark.parametrize("config", CONFIGS)
def test_an_unknown_layer_is_refused_by_every_config(config: str, tmp_path: Path) -> None:
    """No config builds anything where a name matches no layer."""
    with pytest.raises(UsageError, match=r"float_layers: the model has no layer 'head\.3' \(nearest: head"):
        made(config, "head.3", tmp_path / "wrong")


def test_every_config_that_quantizes_has_the_option() -> None:
    """All built-in configs that store weights in 8 bits or fewer have it; those in float have not."""
    names = [path.stem for path in Path(import_module("qx_plugins.configs").__path__[0]).glob("*.py")]
    records = [import_module(f"qx_plugins.configs.{name}").describe() for name in names if name != "__init__"]
    narrow = ("int8", "int4", "fp8", "weight_only")
    assert {record.name for record in records if record.float_layers} == {
        record.name for record in records if any(word in record.name for word in narrow)
    }


def test_an_empty_choice_is_false() -> None:
    """Without the option nothing is left in float."""
    assert not FloatLayers()
    assert "head" not in FloatLayers()


class Shared(nn.Module):
    """A container that is in the model under two names, and is called by both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(24, 16)
        self.box = nn.Sequential(nn.Linear(16, 16), nn.ReLU())
        self.again = self.box

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.box(self.again(self.stem(values.flatten(1)[:, :24])))


@pytest.mark.parametrize(
    "config", ["onnxruntime_static_int8_per_channel", pytest.param("openvino_int8", marks=pytest.mark.slow)]
)
def test_a_shared_layer_is_in_float_at_each_of_its_calls(config: str, tmp_path: Path) -> None:
    """A graph may know a shared layer by its second name: no call of it stays in 8 bits."""
    network = Shared().eval()
    assert narrow_elements(stored(made(config, "", tmp_path / "plain", network))) == 24 * 16 + 16 * 16
    assert narrow_elements(stored(made(config, "box", tmp_path / "box", network))) == 24 * 16


@pytest.mark.parametrize(
    "config", ["onnxruntime_static_int8_per_channel", pytest.param("openvino_int8", marks=pytest.mark.slow)]
)
def test_a_runtime_does_not_quantize_again_what_is_in_float(config: str, tmp_path: Path) -> None:
    """A layer in float is computed in float: its weights, which 8 bits cannot hold, keep their precision.

    ONNX Runtime would quantize weights between layers in 8 bits as it loads them.
    """
    torch.manual_seed(0)
    model = Net().eval()
    with torch.no_grad():
        # A channel that is always 0, and large weights that it is multiplied by.
        model.block.wide[1].weight[0] = model.block.wide[1].bias[0] = 0
        model.block.narrow[0].weight[:, 0] = 500.0
        expected = model(torch.from_numpy(IMAGES)).numpy()

    def error(text: str) -> float:
        artifact = made(config, text, tmp_path / f"x{text}", model)
        outputs = answer(served(artifact), IMAGES)
        return float(np.square(outputs - expected).sum() / np.square(expected - expected.mean(0)).sum())

    in_8_bits = error("")
    assert in_8_bits > 0.1
    assert error("block.narrow.0") < in_8_bits / 3
