"""Tests that hold for several runtimes: the file of a runtime imports those that hold for it.

What an argument such as ``fp32_config`` stands for is in ``conftest.py``.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from runtimes import (
    BUILDERS,
    RUNTIMES,
    answer,
    check_any_number_of_inputs,
    check_busy_threads,
    check_serving,
    convert,
    imported_host,
    served,
)
from torch import nn

from qx import Context, Unsupported

#: Configs whose serving is tried in the fast tier, one for each runtime.
FIRST = ("onnxruntime_static_int8_per_channel", "openvino_int8", "executorch_int8", "ncnn_fp32")


def test_it_is_measured_like_any_other(run: Any, any_config: str) -> None:
    """Every config of a runtime that is installed ends well, with a latency at each batch size."""
    cell = run.cell(any_config)
    assert (cell["outcome"], cell["cause"]) == ("ok", None)
    latencies = run.measurements(any_config, "latency")
    assert [latency["point"]["batch_size"] for latency in latencies] == [1, 3]
    assert all(latency["vs_baseline"]["value"] > 0 for latency in latencies)


def test_the_versions_of_a_runtime_are_recorded(run: Any, any_config: str) -> None:
    """Whatever a config of the run needs is among the versions of its results."""
    assert any_config.partition("_")[0] in run.results["environment"]["distributions"]


def test_the_runtime_baselines_are_the_model(outputs: dict[str, np.ndarray], fp32_config: str) -> None:
    """In single precision every runtime gives torch's outputs, up to rounding, and the same predictions."""
    np.testing.assert_allclose(outputs[fp32_config], outputs["fp32_baseline"], atol=1e-4)
    assert (outputs[fp32_config].argmax(axis=1) == outputs["fp32_baseline"].argmax(axis=1)).all()


def test_serve_py_gives_the_recorded_outputs_without_qx(
    qx: Callable[..., Any],
    without_qx: Callable[..., Any],
    outputs: dict[str, np.ndarray],
    any_config: str,
) -> None:
    """``serve.py`` gives the recorded outputs bit for bit where qx cannot be imported."""
    if any_config not in FIRST and not os.environ.get("QX_SLOW"):
        pytest.skip("QX_SLOW=1 runs it for every config")
    check_serving(qx, without_qx, any_config, outputs[any_config])


def test_quantized_models_keep_the_predictions(run: Any, reduced_config: str) -> None:
    """Whatever the runtime, a quantized model agrees with the baseline on nearly all images."""
    assert run.measurement(reduced_config, "agreement")["value"] >= 0.97


def test_a_launch_imports_the_runtime_and_not_torch(run: Any, any_config: str) -> None:
    """A config that is served without torch has no torch in its process, nor anything of another runtime."""
    packages = set(run.measurement(any_config, "loaded_modules")["details"]["packages"])
    runtime = any_config.partition("_")[0]
    assert runtime in packages
    assert not packages & ({"torch", "torchvision", "PIL", *BUILDERS, *RUNTIMES} - {runtime})


def test_static_int8_stores_all_weights_in_8_bits(run: Any, static_config: str) -> None:
    """All 287,840 weights of six convolutions and a linear layer are stored in 8 bits, and nothing else."""
    share = run.measurement(static_config, "quantized_share")
    assert share["value"] == 1.0
    layers = share["details"]["layers"].values()
    assert len(layers) == 7
    assert sum(layer["elements"] for layer in layers) == 287_840
    assert {layer["bits"] for layer in layers} == {8}


def test_unquantized_weights_count_as_such(run: Any, unquantized_config: str) -> None:
    """Configs in 32 and 16 bits have no weight in 8 bits, and the same seven weights are counted."""
    share = run.measurement(unquantized_config, "quantized_share")
    assert share["value"] == 0.0
    layers = share["details"]["layers"].values()
    assert {layer["bits"] for layer in layers} == {32 if unquantized_config.endswith("fp32") else 16}
    assert sum(layer["elements"] for layer in layers) == 287_840


def test_what_is_quantized_runs_in_8_bits(run: Any, static_config: str) -> None:
    """The graph that the runtime makes at load has an integer kernel for each of the seven layers."""
    kernels = run.measurement(static_config, "quantized_share")["details"]["kernels"]
    integer = {
        "onnxruntime": ("QLinear", "QGemm"),
        "openvino": ("Convolution u8", "Convolution i8", "FullyConnected u8", "FullyConnected i8"),
        "executorch": ("Conv2d qcint8", "FullyConnected qcint8"),
    }[static_config.partition("_")[0]]
    assert sum(kernels.values()) == 7, kernels
    assert all(name.startswith(integer) for name in kernels), kernels


def test_one_artifact_serves_every_batch_size(built: Callable[..., Any], fp32_config: str) -> None:
    """The batch size is open, in whatever order sizes come; ExecuTorch takes large batches in parts."""
    artifact, net = built(fp32_config)
    subject = served(artifact)
    for size in (5, 1, 32, 300, 1):
        images = np.random.default_rng(size).standard_normal((size, 3, 16, 16), dtype=np.float32)
        with torch.no_grad():
            expected = net(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(answer(subject, images), expected, atol=1e-4)


def test_layers_inside_of_an_artifact_are_beside_those_in_float(
    built: Callable[..., Any], static_config: str
) -> None:
    """Values of the artifact in float are those of the module; those in 8 bits are near, as served."""
    runtime = static_config.partition("_")[0]
    (artifact, net), (reference, _) = built(static_config), built(f"{runtime}_fp32")
    images = np.random.default_rng(1).standard_normal((4, 3, 16, 16), dtype=np.float32)
    pairs = imported_host().call(
        artifact.loader,
        "layer_outputs",
        artifact=artifact,
        reference=reference,
        inputs={"image": images},
        context=Context(folder=artifact.folder),
    )
    assert set(pairs) == {"body.0", "head"}
    with torch.no_grad():
        rectified = net.body[:2](torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(pairs["body.0"][1], rectified, atol=1e-4)
    for position, one in enumerate((artifact, reference)):
        np.testing.assert_allclose(pairs["head"][position], answer(served(one), images), atol=1e-5)
    for ours, expected in pairs.values():
        assert 0 < np.square(ours - expected).sum() < 0.01 * np.square(expected).sum()


class TwoHeads(nn.Module):
    """Scores of classes, and a map; in this order in its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = torch.relu(self.body(images))
        return self.head(maps.mean((2, 3))), maps


def test_several_outputs_have_their_names(fp32_config: str, tmp_path: Path) -> None:
    """Outputs come in the model's order, under the names that qx gave them, at every batch size."""
    torch.manual_seed(0)
    net = TwoHeads().eval()
    artifact = evolve(convert(fp32_config, copy.deepcopy(net), tmp_path), outputs=("scores", "maps"))
    subject = served(artifact)
    for size in (3, 1):
        images = np.random.default_rng(size).standard_normal((size, 3, 16, 16), dtype=np.float32)
        with torch.no_grad():
            expected = net(torch.from_numpy(images))
        outputs = subject.outputs(subject.call(subject.prepare({"image": images})))
        assert list(outputs) == ["scores", "maps"]
        for own, right in zip(outputs.values(), expected, strict=True):
            np.testing.assert_allclose(own, right.numpy(), atol=1e-4)


def test_threads_are_held(built: Callable[..., Any], fp32_config: str) -> None:
    """With one thread a call takes no more processor time than wall time."""
    subject = served(built(fp32_config)[0])
    native = subject.prepare({"image": np.zeros((128, 3, 16, 16), dtype=np.float32)})
    subject.call(native)
    processor_start, start = process_time(), perf_counter()
    while perf_counter() - start < 0.3:
        subject.call(native)
    assert (process_time() - processor_start) / (perf_counter() - start) < 1.15


@pytest.mark.parametrize("threads", [1, 2])
def test_as_many_threads_work_as_are_asked_for(
    qx: Callable[..., Any], fp32_config: str, threads: int, tmp_path: Path
) -> None:
    """In a process like a launch, with two threads both compute, and no third, whatever the build had."""
    check_busy_threads(qx, fp32_config, threads, tmp_path)


def test_a_forward_may_take_any_number_of_inputs(fp32_config: str, tmp_path: Path) -> None:
    """``forward(self, *inputs)`` is exported as any other, and the batch is left open."""
    check_any_number_of_inputs(fp32_config, tmp_path)


def test_a_model_that_cannot_be_exported_is_told_by_layer(fp32_config: str, tmp_path: Path) -> None:
    """The layer where the export fails and the reason stand in one line."""

    class Choosy(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return values if values.sum() > 0 else 2 * values

    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.ReLU(), Choosy())).eval()
    with pytest.raises(
        Unsupported, match=r"^cannot be exported: layer '1\.1' \(Choosy\), .*data-dependent"
    ) as error:
        convert(fp32_config, model, tmp_path)
    assert "\n" not in str(error.value)


def test_tables_are_weights_and_what_is_added_is_none(fp32_config: str, tmp_path: Path) -> None:
    """An embedding counts by its elements; a constant that is added does not, whatever its shape."""
    from qx_plugins.metrics import quantized_share

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(7, 6), nn.Linear(6, 3)
            self.places = nn.Parameter(torch.randn(4, 6))

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head((self.table(tokens) + self.places).mean(1))

    artifact = convert(fp32_config, Words().eval(), tmp_path, (torch.zeros(1, 4, dtype=torch.long),))
    artifact = evolve(
        artifact, weight_reader=import_module(f"qx_plugins.loaders.{artifact.loader}").read_weights
    )
    samples = quantized_share.measure(artifact, Context())
    assert sorted(layer["elements"] for layer in samples.details["layers"].values()) == [18, 42]
    assert {layer["bits"] for layer in samples.details["layers"].values()} == {32}
