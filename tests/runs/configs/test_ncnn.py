"""The configs of ncnn: served by it alone, with the predictions of torch.

Without the runtime the tests are skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from any_runtime import (  # noqa: F401
    test_a_forward_may_take_any_number_of_inputs,
    test_a_launch_imports_the_runtime_and_not_torch,
    test_as_many_threads_work_as_are_asked_for,
    test_it_is_measured_like_any_other,
    test_one_artifact_serves_every_batch_size,
    test_quantized_models_keep_the_predictions,
    test_serve_py_gives_the_recorded_outputs_without_qx,
    test_several_outputs_have_their_names,
    test_the_runtime_baselines_are_the_model,
    test_the_versions_of_a_runtime_are_recorded,
    test_threads_are_held,
    test_unquantized_weights_count_as_such,
)
from attrs import evolve
from runtimes import Net, convert, imported_host, ready, served
from torch import nn

from qx import Context, Unsupported

# The exporters warn of their own insides.
pytestmark = pytest.mark.filterwarnings("ignore")

CONFIGS = ("ncnn_fp32", "ncnn_fp16")


@pytest.mark.parametrize("config", ready(*CONFIGS))
def test_weights_of_ncnn_are_stored_as_the_config_says(built: Callable[..., Any], config: str) -> None:
    """Weights are in 32 bits or in 16, and a note says that the items of a batch are served one by one."""
    artifact, net = built(config)
    weights = net.body[0].weight.numel() + net.head.weight.numel()
    assert (artifact.folder / "model.bin").stat().st_size // weights == (4 if config == "ncnn_fp32" else 2)
    assert "one after another" in artifact.notes[0]


@pytest.mark.parametrize("config", ready(CONFIGS[0]))
def test_what_ncnn_has_no_layer_for_is_refused_at_once(config: str) -> None:
    """A model is refused before anything is built, and the layer that pnnx left as it was is named."""

    class Heads(nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            query, key, value = rows.reshape(-1, 8, 3, 2, 4, 2).permute(2, 0, 3, 4, 1, 5).unbind(0)
            return (query * key + value).flatten(1)

    arguments = {"model": Heads().eval(), "example_inputs": (torch.zeros(1, 8, 48),), "context": Context()}
    for _ in range(2):
        with pytest.raises(Unsupported, match=r"for ncnn, which has no \w+"):
            imported_host().call(config, "check_model", **arguments)


class Tied(nn.Module):
    """Two linear layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.second.weight = self.first.weight

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(rows).relu()).relu())


@pytest.mark.parametrize("config", ready(CONFIGS[0]))
def test_layers_with_one_weight_are_converted(config: str, tmp_path: Path) -> None:
    """Each layer has the weight in ncnn, and the user's model keeps it shared."""
    torch.manual_seed(0)
    model, rows = Tied().eval(), torch.randn(5, 16)
    subject = served(convert(config, model, tmp_path, (rows[:1],)))
    outputs = subject.outputs(subject.call(subject.prepare({"rows": rows.numpy()})))["output"]
    assert np.allclose(outputs, model(rows).detach().numpy(), atol=1e-4)
    assert model.second.weight is model.first.weight


@pytest.mark.parametrize("config", ready(CONFIGS[0]))
def test_an_input_or_a_layer_that_ncnn_lacks_is_named(config: str) -> None:
    """The reason has the name of the argument, or of the layer in the user's model."""

    class Choosing(nn.Module):
        def forward(self, rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return rows * mask

    examples = (torch.zeros(1, 8), torch.ones(1, 8, dtype=torch.bool))
    arguments = {"model": Choosing().eval(), "example_inputs": examples, "context": Context()}
    with pytest.raises(Unsupported, match=r"input 'mask' is torch\.bool"):
        imported_host().call(config, "check_model", **arguments)
    from qx_plugins.runtimes.ncnn.converting import _layer_names

    model = nn.Sequential(nn.Linear(2, 2), nn.Threshold(0.0, 0.0))
    assert _layer_names(["nn.Threshold", "aten::roll"], model) == "Threshold (layer '1'), roll"


@pytest.mark.parametrize("config", ready(CONFIGS[0]))
def test_a_network_that_ncnn_computes_wrongly_is_refused(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A converter that goes wrong silently is noticed by running its output: here it is another network's."""
    from qx_plugins.runtimes.ncnn import converting as ncnn

    convert_ncnn = ncnn.convert_with_pnnx

    def convert_other(model: nn.Module, *rest: Any) -> Any:
        torch.manual_seed(1)
        return convert_ncnn(Net().eval(), *rest)

    torch.manual_seed(0)
    monkeypatch.setattr(ncnn, "convert_with_pnnx", convert_other)
    with pytest.raises(Unsupported, match="the outputs of ncnn differ"):
        convert(config, Net().eval(), tmp_path)


@pytest.mark.parametrize("config", ready(*CONFIGS))
def test_ncnn_takes_rows_and_planes_of_any_size(config: str, tmp_path: Path) -> None:
    """Planes of 15 by 13, which ncnn pads in memory, two inputs, and outputs that are no vector work."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3)

        def forward(self, planes: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return self.conv(planes) * rows[:, :5, None, None]

    net = Both().eval()
    inputs = (torch.zeros(1, 3, 15, 13), torch.zeros(1, 5))
    subject = served(convert(config, net, tmp_path, inputs))
    generator = torch.Generator().manual_seed(0)
    planes, rows = (torch.randn(4, *example.shape[1:], generator=generator) for example in inputs)
    arrays = {"planes": planes.numpy(), "rows": rows.numpy()}
    outputs = subject.outputs(subject.call(subject.prepare(arrays)))["output"]
    with torch.no_grad():
        expected = net(planes, rows).numpy()
    assert outputs.shape == expected.shape
    np.testing.assert_allclose(outputs, expected, atol=2e-3)


class Attention(nn.Module):
    """Attention over rows, with a layer after it that ncnn turns into a matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 7)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.head(self.attention(rows, rows, rows, need_weights=False)[0])


class Words(nn.Module):
    """A table, and the mean of the rows that are looked up in it."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(30, 8), nn.Linear(8, 4)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(words).mean(1))


WEIGHTED = {
    "attention": (Attention(), torch.zeros(1, 9, 16)),
    "words": (Words(), torch.arange(12).reshape(1, 12)),
    "grouped and transposed": (
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, groups=6), nn.ConvTranspose2d(6, 4, 3)),
        torch.zeros(1, 3, 9, 9),
    ),
    "one dimension": (
        nn.Sequential(nn.Conv1d(3, 6, 3), nn.Flatten(), nn.Linear(42, 3)),
        torch.zeros(1, 3, 9),
    ),
}


@pytest.mark.parametrize("kind", WEIGHTED)
@pytest.mark.parametrize("config", ready(*CONFIGS))
def test_every_weight_of_ncnn_is_counted(config: str, kind: str, tmp_path: Path) -> None:
    """Every weight of every kind of layer is counted, in the bits that the config stores."""
    net, example = WEIGHTED[kind]
    artifact = convert(config, net.eval(), tmp_path, (example,))
    artifact = evolve(artifact, weight_reader=import_module("qx_plugins.loaders.ncnn").read_weights)
    share = imported_host().call("quantized_share", "measure", data=artifact, context=Context())
    layers = share.details["layers"].values()
    assert sum(layer["elements"] for layer in layers) == sum(
        weight.numel() for weight in net.parameters() if weight.dim() > 1
    )
    assert {layer["bits"] for layer in layers} == {32 if config == "ncnn_fp32" else 16}
    assert share.values == 0.0


class WithLayer(nn.Module):
    """A linear layer of eight, with something before and after it."""

    def __init__(self, forward: Callable[..., torch.Tensor], width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.how = nn.Linear(width, 4), forward

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.how(self.layer, *inputs)


ROWS, TOKENS = torch.zeros(1, 8), torch.zeros(1, 8, dtype=torch.long)


ROWS, TOKENS = torch.zeros(1, 8), torch.zeros(1, 8, dtype=torch.long)
#: Models that ncnn gets wrong, each with an example that hides it from a glance.
MISUNDERSTOOD = {
    "integers": (lambda layer, x: layer(x * 0.5), (TOKENS,)),
    "two inputs, alike": (
        lambda layer, x, y: (nn.functional.normalize(layer(x)) - nn.functional.normalize(layer(y))).abs(),
        (ROWS, ROWS),
    ),
    "items that know of each other": (lambda layer, x: layer(x / x.norm()), (ROWS,)),
    "a constant on top": (
        lambda layer, x: layer(nn.functional.normalize(layer(x).repeat(1, 2))) + 290,
        (ROWS,),
    ),
    "infinity": (lambda layer, x: torch.exp(layer(x) * 1000 + 5000), (ROWS,)),
    "no batch": (lambda layer, x: layer(x).mean(), (ROWS,)),
}


@pytest.mark.parametrize("kind", MISUNDERSTOOD)
@pytest.mark.parametrize("config", ready(CONFIGS[0]))
def test_what_ncnn_would_get_wrong_is_refused(config: str, kind: str, tmp_path: Path) -> None:
    """A model is tried on two items, with other noise in each input, and judged by how answers differ."""
    forward, inputs = MISUNDERSTOOD[kind]
    with pytest.raises(Unsupported):
        convert(config, WithLayer(forward).eval(), tmp_path, inputs)


#: Models that ncnn gets right, with something in them that must not confuse the check.
UNDERSTOOD = {
    "a part that nobody takes": (lambda layer, x: layer(x.chunk(2, 1)[0]), (torch.zeros(1, 16),)),
    "an input that nobody takes": (lambda layer, x, y: layer(x), (ROWS, ROWS)),
    "in place": (lambda layer, x: layer(x.add_(1).relu_()), (ROWS,)),
    "no answer to noise": (lambda layer, x: layer(torch.log(x)), (torch.ones(1, 8),)),
    "answers of nothing": (lambda layer, x: layer(x) * 0.0, (ROWS,)),
}


@pytest.mark.parametrize("kind", UNDERSTOOD)
@pytest.mark.parametrize("config", ready(CONFIGS[0]))
def test_what_ncnn_gets_right_is_taken(config: str, kind: str, tmp_path: Path) -> None:
    """Its answers to other items are the model's, in whatever order an array lies in memory."""
    forward, inputs = UNDERSTOOD[kind]
    model = WithLayer(forward).eval()
    subject = served(convert(config, model, tmp_path, inputs))
    generator = np.random.default_rng(3)
    values = [generator.random((3, example.shape[1]), dtype=np.float32) + 0.5 for example in inputs]
    with torch.no_grad():
        expected = model(*(torch.from_numpy(array.copy()) for array in values)).numpy()
    arrays = {str(index): np.asfortranarray(array) for index, array in enumerate(values)}
    answer = subject.outputs(subject.call(subject.prepare(arrays)))["output"]
    np.testing.assert_allclose(answer, expected, atol=1e-4)
    with pytest.raises(ValueError, match="takes items of"):
        subject.prepare({name: array[:, :3] for name, array in arrays.items()})


@pytest.mark.parametrize("config", ready(CONFIGS[0]))
def test_whether_ncnn_can_treat_a_model_leaves_all_alone(config: str) -> None:
    """``check_model`` changes neither the example inputs nor the buffers of the model."""

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(10, 4)
            self.register_buffer("count", torch.zeros(1))

        def forward(self, words: torch.Tensor) -> torch.Tensor:
            self.count += 1
            return self.table(words.clamp_(1, 9)).mean(1)

    model, words = Counting().eval(), torch.zeros(1, 8, dtype=torch.long)
    ncnn = pytest.importorskip("qx_plugins.runtimes.ncnn.converting")
    inputs, _ = ncnn.run_two_items(model, (words,))
    kept = [tensor.clone() for tensor in inputs]
    with TemporaryDirectory() as folder:
        ncnn.convert_with_pnnx(model, inputs, Path(folder))
    assert model.count == 0
    assert words.sum() == 0
    assert all(torch.equal(after, before) for after, before in zip(inputs, kept, strict=True))


@pytest.mark.parametrize(
    ("script", "raised", "words"),
    [
        ("kill -9 $$", MemoryError, "killed"),
        (
            "echo one; echo two; exit 3",
            Unsupported,
            "ended with exit status 3; its last line of output: two",
        ),
        ("kill -11 $$", Unsupported, "was killed by SIGSEGV"),
        ("exit 0", Unsupported, "ended with exit status 0"),
    ],
)
@pytest.mark.parametrize("config", ready(CONFIGS[0]))
def test_however_pnnx_ends_it_is_told(
    config: str,
    script: str,
    raised: type[Exception],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A converter that is killed for want of memory is not the model's fault, and one that crashes may be."""
    pnnx = pytest.importorskip("pnnx")
    program = tmp_path / "pnnx"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(pnnx, "EXEC_PATH", str(program))
    with pytest.raises(raised, match=words):
        convert(config, Net().eval(), tmp_path)


@pytest.mark.parametrize("config", ready(*CONFIGS))
def test_items_that_differ_by_little_are_told_from_rounding(config: str, tmp_path: Path) -> None:
    """Where all answers are nearly the same, half precision rounds more than what tells them apart."""
    model = WithLayer(lambda layer, x: layer(x * 1e-3 + 1)).eval()
    assert convert(config, model, tmp_path, (ROWS,)).loader == "ncnn"
