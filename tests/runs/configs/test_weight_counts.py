"""``quantized_share`` counts every weight of an artifact, and holds the sum against the fp32 model's own."""

from __future__ import annotations

import os
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from qx_plugins.metrics import quantized_share
from runtimes import READY
from torch import nn
from torch.nn import functional

from qx import Artifact, Batch, Context
from qx.worker.state import complete, save

# The exporters warn of recurrent layers and of their own insides; in a build it goes to the log.
pytestmark = pytest.mark.filterwarnings("ignore")

slow = pytest.mark.skipif(not os.environ.get("QX_SLOW"), reason="QX_SLOW=1 runs it")


class Recurrent(nn.Module):
    """An LSTM that reads in both directions, a GRU behind it, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.LSTM(6, 8, batch_first=True, bidirectional=True)
        self.single, self.head = nn.GRU(16, 5, batch_first=True), nn.Linear(5, 10)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        return self.head(self.single(self.both(series)[0])[0].mean(1))


class Series(nn.Module):
    """Convolutions and transposed ones of one dimension, a product with a parameter, and one output."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv1d(4, 8, 3), nn.ConvTranspose1d(8, 6, 3)
        self.mixture, self.head = nn.Parameter(torch.randn(6, 5)), nn.Linear(5, 2)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        mixed = torch.einsum("bct,cd->btd", self.up(self.down(series)), self.mixture)
        return self.head(mixed.mean(1))


class Functions(nn.Module):
    """A convolution and a linear layer that are functions of parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.filters, self.matrix = nn.Parameter(torch.randn(8, 4, 3)), nn.Parameter(torch.randn(5, 8))

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        return functional.linear(functional.conv1d(series, self.filters).mean(2), self.matrix)


class Words(nn.Module):
    """A table, places that are added to what is looked up, and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(30, 16), nn.Parameter(torch.randn(1, 12, 16))
        self.attention, self.head = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 4)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        rows = self.table(words) + self.places
        return self.head(self.attention(rows, rows, rows, need_weights=False)[0].mean(1))


NETWORKS: dict[str, tuple[type[nn.Module], torch.Tensor]] = {
    "recurrent": (Recurrent, torch.zeros(1, 4, 6)),
    "series": (Series, torch.zeros(1, 4, 9)),
    "functions": (Functions, torch.zeros(1, 4, 9)),
    "words": (Words, torch.arange(12).reshape(1, 12)),
}


def call(config: str, hook: str, **arguments: Any) -> Any:
    """Call a hook of a config with the arguments that it takes, or return the model if it has none."""
    function = getattr(import_module(f"qx_plugins.configs.{config}"), hook, None)
    if function is None:
        return arguments["model"]
    return function(
        **{name: value for name, value in arguments.items() if name in signature(function).parameters}
    )


def read_by_its_loader(artifact: Artifact) -> Artifact:
    """Return the artifact as a metric has it: its loader reads its weights."""
    reader = import_module(f"qx_plugins.loaders.{artifact.loader}").read_weights
    return evolve(artifact, weight_reader=reader)


def measured(config: str, network: str, folder: Path) -> tuple[float, dict[str, Any]]:
    """Return the share of the artifact that a config makes of a network, and its details."""
    if config not in READY:
        pytest.skip(f"{config} cannot be used here")
    kind, example = NETWORKS[network]
    torch.manual_seed(0)
    model = kind().eval()
    matrices = [weight.numel() for weight in model.parameters() if weight.numel() > max(weight.shape)]
    context = Context(folder=folder, engine=torch.backends.quantized.engine, options={})
    noise = np.random.default_rng(0).standard_normal((8, *example.shape[1:]), dtype=np.float32)
    model = call(config, "prepare_model", model=model, example_inputs=(example,), context=context)
    model = call(config, "calibrate", model=model, batches=[Batch(inputs={"x": noise})], context=context)
    artifact = call(config, "convert", model=model, example_inputs=(example,), context=context)
    if isinstance(artifact, nn.Module):
        save(complete(artifact), folder / "model.pt")
        artifact = Artifact(folder=folder, loader="torch_eager", files=["model.pt"])
    samples = quantized_share.measure(
        evolve(read_by_its_loader(artifact), weight_elements=sum(matrices)), context
    )
    assert samples is not None
    return samples.values, dict(samples.details)


@pytest.mark.parametrize("network", ["recurrent", "series"])
@pytest.mark.parametrize("config", ["fp32_baseline", "onnxruntime_fp32", "openvino_fp32", "ncnn_fp32"])
def test_every_weight_is_counted_once(config: str, network: str, tmp_path: Path) -> None:
    """Of recurrent and transposed layers, and of products with a parameter, all weights are counted once."""
    share, details = measured(config, network, tmp_path)
    assert share == 0
    assert details["elements"] == details["elements_of_model"]
    assert details["elements_missing"] == 0
    assert not any("operator" in layer for layer in details["layers"].values())


@pytest.mark.parametrize(
    "config", ["onnxruntime_fp32", "openvino_fp32", pytest.param("executorch_fp32", marks=slow)]
)
def test_what_is_added_is_no_weight_and_is_not_missed(config: str, tmp_path: Path) -> None:
    """Places that are added to words are parameters of the model, and no layer multiplies by them."""
    _, details = measured(config, "words", tmp_path)
    added = 12 * 16
    assert details["elements_of_model"] - details["elements"] in (0, added)
    assert details["elements_missing"] == 0


def test_a_recurrent_layer_in_float_is_not_called_quantized(tmp_path: Path) -> None:
    """ONNX Runtime's static int8 leaves LSTM and GRU as they are, so only the head is in 8 bits."""
    share, details = measured("onnxruntime_static_int8_per_channel", "recurrent", tmp_path)
    head = 5 * 10
    assert share == pytest.approx(head / details["elements_of_model"])


def test_packed_weights_of_recurrent_layers_are_counted(tmp_path: Path) -> None:
    """Both matrices of a direction are in one C++ object of torch: each of them is counted once."""
    share, details = measured("dynamic_int8_recurrent", "recurrent", tmp_path)
    assert share == 1
    assert details["elements"] == details["elements_of_model"]
    # Two of the LSTM's directions, two of the GRU, and the head.
    assert len(details["layers"]) == 2 * 2 + 2 + 1


def test_scales_of_recurrent_layers_are_no_weights(tmp_path: Path) -> None:
    """ONNX Runtime's LSTM has its weights in 8 bits beside biases and scales; its GRU stays in float."""
    share, details = measured("onnxruntime_dynamic_int8_recurrent", "recurrent", tmp_path)
    gru = 3 * 5 * (16 + 5)
    assert share == pytest.approx(1 - gru / details["elements_of_model"])
    assert details["elements"] == details["elements_of_model"]
    assert details["kernels"]["DynamicQuantizeLSTM"] == 1
    assert not any("operator" in layer for layer in details["layers"].values())


def test_packed_weights_of_functions_are_counted(tmp_path: Path) -> None:
    """torch.fx packs weights of functions into C++ objects, which are stored as nested tuples and counted."""
    share, details = measured("fx_static_int8", "functions", tmp_path)
    assert share == 1
    assert details["elements"] == details["elements_of_model"] == 8 * 4 * 3 + 5 * 8


def onnx_graph(operator: str, domain: str, folder: Path) -> Artifact:
    """Return a graph of one operator of an unknown domain that takes a constant ``[6, 5]``."""
    onnx = pytest.importorskip("onnx")
    weight = onnx.numpy_helper.from_array(np.ones((6, 5), np.float32), "weight")
    value = onnx.helper.make_tensor_value_info
    float_type = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, ["x", "weight"], ["y"], domain=domain)],
        "graph",
        [value("x", float_type, ["n", 6])],
        [value("y", float_type, ["n", 5])],
        [weight],
    )
    onnx.save(onnx.helper.make_model(graph), folder / "model.onnx")
    return Artifact(folder=folder, loader="onnxruntime", files=["model.onnx"], weight_elements=30)


def test_a_weight_of_an_unknown_operator_is_counted_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight that no reader knows is counted as it is stored, with the operator that takes it."""
    artifact = onnx_graph("SomebodysOwn", "example.org", tmp_path)
    reader = import_module("qx_plugins.runtimes.onnxruntime.weights")
    # ONNX Runtime does not know the operator, so it cannot say which kernels it would run.
    monkeypatch.setattr(reader, "_kernels", lambda path, disabled_optimizers: {})
    samples = quantized_share.measure(read_by_its_loader(artifact), Context())
    assert samples is not None
    assert samples.details["layers"] == {
        "weight": {"elements": 30, "bits": 32, "type": "float", "operator": "SomebodysOwn"}
    }


def test_weights_that_no_file_holds_count_as_not_quantized(tmp_path: Path) -> None:
    """A sum that does not add up to the model's is seen in the details, and never makes the share larger."""
    torch.save({"weight": torch.ones(4, 5, dtype=torch.int8)}, tmp_path / "model.pt")
    artifact = Artifact(folder=tmp_path, loader="torch_eager", files=["model.pt"], weight_elements=80)
    samples = quantized_share.measure(read_by_its_loader(artifact), Context())
    assert samples is not None
    assert samples.values == 20 / 80
    assert (samples.details["elements"], samples.details["elements_missing"]) == (20, 60)
