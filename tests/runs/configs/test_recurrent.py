"""Dynamic int8 of recurrent networks, in torch and in ONNX Runtime: what is quantized, and what it costs.

The networks read scikit-learn's digits as series of eight rows, and are trained here, in seconds.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from PIL import Image
from qx_plugins.configs import dynamic_int8, dynamic_int8_recurrent, onnxruntime_dynamic_int8_recurrent
from qx_plugins.recipes.weight_scales import WEIGHT_SCALES
from qx_plugins.workloads.digits_cnn import split_indices
from runtimes import READY, ready
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from qx import Context, Unsupported, import_file
from qx.worker.state import complete, save

# The exporters warn of recurrent layers and of their own insides.
pytestmark = pytest.mark.filterwarnings("ignore")

TORCH, ONNX = "dynamic_int8_recurrent", "onnxruntime_dynamic_int8_recurrent"
NETS = """
    from torch import nn

    class Rows(nn.Module):
        def __init__(self, recurrent):
            super().__init__()
            self.body = recurrent(8, 64, num_layers=2, batch_first=True)
            self.head = nn.Linear(64, 10)

        def forward(self, images):
            return self.head(self.body(images[:, 0])[0][:, -1])

    def lstm():
        return Rows(nn.LSTM)

    def gru():
        return Rows(nn.GRU)
"""


def _train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(12):
        for part in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[part]), labels[part]).backward()
            optimizer.step()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with both networks, their weights, and the digits as images in class folders."""
    folder = tmp_path_factory.mktemp("recurrent")
    (folder / "nets.py").write_text(textwrap.dedent(NETS))
    digits = load_digits()
    for split, chosen in split_indices(digits.target).items():
        for index in chosen:
            path = folder / "images" / split / str(digits.target[index]) / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((digits.images[index] * 15).astype(np.uint8)).save(path)
    chosen = split_indices(digits.target)["train"]
    images = torch.from_numpy(digits.images[chosen][:, None] * 15 / 255).float()
    nets = import_file("nets_of_recurrent", folder / "nets.py")
    threads = torch.get_num_threads()
    # Several threads that wait for each other are slow where other tests run beside them.
    torch.set_num_threads(1)
    for name in ("lstm", "gru"):
        torch.manual_seed(0)
        model = getattr(nets, name)()
        _train(model, images, torch.from_numpy(digits.target[chosen]))
        torch.save(model.state_dict(), folder / f"{name}.pt")
    torch.set_num_threads(threads)
    return folder


def _run(qx: Callable[..., Any], place: Path, network: str, *names: str) -> Any:
    configs = [word for name in names if name in READY for word in ("-c", name)]
    metrics = [word for name in ("accuracy", "file_size", "quantized_share") for word in ("-m", name)]
    return qx(
        *("run", "--model", f"./nets.py:{network}", "--weights", f"{network}.pt", "--data", "images"),
        *("--input-shape", "1,8,8", "--mean", 0, "--std", 1, "--set", "own_model.crop=1"),
        *(*configs, *metrics, "--out", network),
        cwd=place,
    )


@pytest.fixture(scope="module")
def lstm(qx: Callable[..., Any], place: Path) -> Any:
    """Run these configs on the network with an LSTM, without launches."""
    return _run(qx, place, "lstm", TORCH, ONNX)


@pytest.fixture(scope="module")
def gru(qx: Callable[..., Any], place: Path) -> Any:
    """Run torch's config on the network with a GRU, without launches."""
    return _run(qx, place, "gru", TORCH)


@pytest.mark.slow
@pytest.mark.parametrize("config", [TORCH, *ready(ONNX)])
def test_an_lstm_is_small_and_as_accurate_as_before(lstm: Any, config: str) -> None:
    """All weights are in 8 bits, the file takes a third, and accuracy stays within a point."""
    assert lstm.cell(config)["outcome"] == "ok", lstm.cell(config)["cause"]
    assert lstm.measurement("fp32_baseline", "accuracy")["value"] > 0.93
    assert abs(lstm.measurement(config, "accuracy")["vs_baseline"]["value"]) <= 0.01
    assert lstm.measurement(config, "quantized_share")["value"] == 1.0
    assert lstm.measurement(config, "file_size")["vs_baseline"]["value"] < 0.36


@pytest.mark.slow
def test_a_gru_is_quantized_in_torch(gru: Any) -> None:
    """A GRU is as an LSTM."""
    assert gru.cell(TORCH)["outcome"] == "ok", gru.cell(TORCH)["cause"]
    assert gru.measurement("fp32_baseline", "accuracy")["value"] > 0.93
    assert abs(gru.measurement(TORCH, "accuracy")["vs_baseline"]["value"]) <= 0.01
    assert gru.measurement(TORCH, "quantized_share")["value"] == 1.0
    assert gru.measurement(TORCH, "file_size")["vs_baseline"]["value"] < 0.38


@pytest.mark.slow
@pytest.mark.parametrize("config", ready(ONNX))
def test_both_runtimes_are_a_pair(lstm: Any, config: str) -> None:
    """The same recipe in two runtimes gives the same answers to nearly all images."""
    pairs = {pair["cell"].rpartition("/")[2]: pair for pair in lstm.results["pairs"]}
    assert pairs[config]["counterpart"].endswith(f"/{TORCH}")
    assert pairs[config]["agreement"] > 0.98


# Single layers ------------------------------------------------------------------------------------


class Tagger(nn.Module):
    """A recurrent layer and a linear one."""

    def __init__(self, body: nn.Module, features: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(features, 64)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(series)[0][:, -1])


class Cells(nn.Module):
    """A cell that is called for each step."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.body, self.head = cell, nn.Linear(24, 16)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        state = None
        for step in series.unbind(1):
            state = self.body(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: Tagger(nn.LSTM(12, 24, num_layers=2, batch_first=True, bidirectional=True), 48),
    "gru": lambda: Tagger(nn.GRU(12, 24, num_layers=2, batch_first=True, bidirectional=True), 48),
    "time_major": lambda: Tagger(nn.LSTM(12, 24), 24),
    "lstm_cell": lambda: Cells(nn.LSTMCell(12, 24)),
    "gru_cell": lambda: Cells(nn.GRUCell(12, 24)),
    "rnn_cell": lambda: Cells(nn.RNNCell(12, 24)),
}
SERIES = (torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(0)),)


@pytest.mark.parametrize("weight_scales", WEIGHT_SCALES.choices)
@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_of_the_default_set_is_served_as_it_was_built(
    layer: str, weight_scales: str, tmp_path: Path
) -> None:
    """Outputs are within 5 % of the fp32 model's, and those of a module with the saved state bit for bit."""
    torch.manual_seed(0)
    model = LAYERS[layer]().eval()
    dynamic_int8_recurrent.check_model(model)
    context = Context(folder=tmp_path, options={"weight_scales": weight_scales})
    with torch.no_grad():
        expected = model(*SERIES)
        built = complete(dynamic_int8_recurrent.convert(model, SERIES, context))
        outputs = built(*SERIES)
        save(built, tmp_path / "model.pt")
        again = evolve(context, folder=None)
        rebuilt = complete(dynamic_int8_recurrent.convert(LAYERS[layer]().eval(), SERIES, again))
        rebuilt.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
        assert torch.equal(rebuilt(*SERIES), outputs)
    assert not torch.equal(outputs, expected)
    assert (outputs - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("layer", ["lstm", "gru", "lstm_cell"])
def test_a_scale_for_each_channel_withstands_channels_of_different_sizes(layer: str) -> None:
    """Where rows of weights differ by powers of ten, the error is at most half of that of one scale."""
    errors = {}
    for weight_scales in WEIGHT_SCALES.choices:
        model = _with_uneven_channels(LAYERS[layer]().eval())
        with torch.no_grad():
            expected = model(*SERIES)
            context = Context(options={"weight_scales": weight_scales})
            outputs = dynamic_int8_recurrent.convert(model, SERIES, context)(*SERIES)
        errors[weight_scales] = float((outputs - expected).square().mean().sqrt())
    assert errors["per_channel"] < errors["per_tensor"] / 2


def _with_uneven_channels(model: nn.Module) -> nn.Module:
    """Scale the rows of all weight matrices by log-normal factors, which differ by powers of ten."""
    random = torch.Generator().manual_seed(0)
    for weights in model.parameters():
        if weights.dim() == 2:
            weights.data *= 0.3 * torch.exp(2 * torch.randn(len(weights), 1, generator=random))
    return model


def test_the_default_set_makes_a_quarter_of_it(tmp_path: Path) -> None:
    """Of three LSTM layers of 256 units a quarter is left, where linear layers alone leave nearly all."""
    sizes = {}
    for config in (None, dynamic_int8, dynamic_int8_recurrent):
        model: nn.Module = Tagger(nn.LSTM(40, 256, num_layers=3, batch_first=True), 256).eval()
        if config is dynamic_int8:
            model = dynamic_int8.convert(model, Context())
        elif config is dynamic_int8_recurrent:
            model = dynamic_int8_recurrent.convert(model, (torch.zeros(1, 4, 40),), Context())
        save(complete(model), tmp_path / "model.pt")
        sizes[config] = (tmp_path / "model.pt").stat().st_size
    assert sizes[dynamic_int8_recurrent] / sizes[None] == pytest.approx(0.26, abs=0.01)
    assert 0.97 < sizes[dynamic_int8] / sizes[None] < 1


@pytest.mark.parametrize("config", [dynamic_int8_recurrent, onnxruntime_dynamic_int8_recurrent])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (nn.Identity(), "Tagger has no recurrent layer, which this config is for"),
        (nn.RNN(12, 24), r"layer 'body' \(RNN\): .* LSTM"),
    ],
)
def test_a_model_without_such_a_layer_is_unsupported(config: Any, body: nn.Module, words: str) -> None:
    """The layers that are there are named, with those that are quantized."""
    arguments = {"example_inputs": SERIES, "context": Context()}
    if config is dynamic_int8_recurrent:
        arguments = {}
    with pytest.raises(Unsupported, match=words):
        config.check_model(Tagger(body, 24), **arguments)


def test_a_gru_is_unsupported_where_there_is_no_kernel() -> None:
    """ONNX Runtime has none for GRU, which is said with the layer before anything is built."""
    words = r"^layer 'body' \(GRU\): of recurrent layers ONNX Runtime quantizes LSTM alone$"
    with pytest.raises(Unsupported, match=words):
        onnxruntime_dynamic_int8_recurrent.check_model(Tagger(nn.GRU(12, 24), 24), SERIES, Context())


class Own(nn.LSTM):
    """A layer of somebody's own."""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (nn.LSTM(12, 24, bias=False), r"layer 'body' \(LSTM\) has no biases"),
        (nn.GRUCell(12, 24, bias=False), r"layer 'body' \(GRUCell\) has no biases"),
        (nn.LSTM(12, 24, proj_size=4), r"layer 'body' \(LSTM\) has proj_size=4"),
        (Own(12, 24), r"layer 'body' \(Own\): torch quantizes LSTM, .* no subclasses"),
    ],
)
def test_a_layer_that_the_kernel_does_not_take_is_named(body: nn.Module, words: str) -> None:
    """Without that, torch would fail for want of biases, and ignore the projection."""
    with pytest.raises(Unsupported, match=words):
        dynamic_int8_recurrent.check_model(Tagger(body, 24))
