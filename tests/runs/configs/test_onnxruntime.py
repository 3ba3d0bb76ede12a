"""The configs of ONNX Runtime: served by it alone, in 8 bits, with the predictions of torch.

Without the runtime the tests are skipped.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from any_runtime import (  # noqa: F401
    test_a_forward_may_take_any_number_of_inputs,
    test_a_launch_imports_the_runtime_and_not_torch,
    test_a_model_that_cannot_be_exported_is_told_by_layer,
    test_as_many_threads_work_as_are_asked_for,
    test_it_is_measured_like_any_other,
    test_layers_inside_of_an_artifact_are_beside_those_in_float,
    test_one_artifact_serves_every_batch_size,
    test_quantized_models_keep_the_predictions,
    test_serve_py_gives_the_recorded_outputs_without_qx,
    test_several_outputs_have_their_names,
    test_static_int8_stores_all_weights_in_8_bits,
    test_tables_are_weights_and_what_is_added_is_none,
    test_the_runtime_baselines_are_the_model,
    test_the_versions_of_a_runtime_are_recorded,
    test_threads_are_held,
    test_unquantized_weights_count_as_such,
    test_what_is_quantized_runs_in_8_bits,
)
from qx_plugins.loaders import onnxruntime_gpu
from qx_plugins.networks.language_models import Scorer
from qx_plugins.networks.llama import LlamaDecoder, LlamaShape
from runtimes import IMAGES, Net, answer, check_7_bits_without_vnni, check_likelihoods, convert, ready, served
from test_weight_counts import read_by_its_loader
from torch import nn

from qx import Batch, Context, Unsupported

# The exporters warn of their own insides.
pytestmark = pytest.mark.filterwarnings("ignore")

CONFIGS = (
    "onnxruntime_fp32",
    "onnxruntime_dynamic_int8",
    "onnxruntime_static_int8_per_tensor",
    "onnxruntime_static_int8_per_channel",
)


@pytest.mark.parametrize("config", ready(CONFIGS[1]))
def test_dynamic_int8_treats_linear_layers_only(run: Any, config: str) -> None:
    """As in torch, the 1,280 weights of the only linear layer are quantized, with an integer kernel."""
    share = run.measurement(config, "quantized_share")
    assert share["value"] == pytest.approx(1280 / 287_840)
    kernels = share["details"]["kernels"]
    assert sum(count for name, count in kernels.items() if "Quantize" in name or "Integer" in name) == 1
    assert kernels["Conv"] == 6


@pytest.mark.parametrize("config", ready(*CONFIGS[1:]))
def test_a_recipe_in_two_runtimes_is_a_pair_where_both_run(run: Any, config: str) -> None:
    """Only counterparts that take part make pairs: here that of fp32, and none of the others."""
    pairs = {pair["cell"].rpartition("/")[2]: pair for pair in run.results["pairs"]}
    assert pairs[CONFIGS[0]]["counterpart"] == "digits_cnn/fp32_baseline"
    assert pairs[CONFIGS[0]]["agreement"] == 1.0
    assert config not in pairs


@pytest.mark.parametrize("config", ready("onnxruntime_fp32"))
def test_an_operator_that_the_runtime_lacks_is_told_by_layer(config: str, tmp_path: Path) -> None:
    """A layer that ONNX has no operator for is named, with the operator."""

    class Bessel(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(values)

    model = nn.Sequential(nn.Conv2d(3, 4, 1), Bessel()).eval()
    with pytest.raises(Unsupported, match=r"^cannot be exported to ONNX: layer '1': .*bessel_j0"):
        convert(config, model, tmp_path)


@pytest.mark.parametrize("config", ready("onnxruntime_fp32"))
def test_nothing_of_this_machine_is_shipped(built: Callable[..., Any], config: str) -> None:
    """The exporter's notes for debugging, with paths of the sources, are not in the file."""
    artifact, _ = built(config)
    content = (artifact.folder / artifact.files[0]).read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in content
    assert Path(inspect.getfile(Net)).name.encode() not in content


@pytest.mark.parametrize("config", ready("onnxruntime_static_int8_per_channel"))
def test_without_vnni_weights_have_7_bits_and_it_is_told(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without VNNI, 8-bit products are added in 16 bits: the range is halved, and the notes say so."""
    check_7_bits_without_vnni(config, tmp_path, monkeypatch)


@pytest.mark.parametrize("config", ready("onnxruntime_fp32"))
@pytest.mark.parametrize(
    ("name", "provider", "fp16"),
    [
        ("onnxruntime_cuda_fp32", "CUDAExecutionProvider", False),
        pytest.param("onnxruntime_tensorrt_fp32", "TensorrtExecutionProvider", False, marks=pytest.mark.slow),
        ("onnxruntime_tensorrt_fp16", "TensorrtExecutionProvider", True),
    ],
)
def test_a_graph_for_gpus_names_what_serves_it(
    config: str, name: str, provider: str, fp16: bool, tmp_path: Path
) -> None:
    """The loader finds the provider in the details, and reads the weights of the file."""
    artifact = import_module(f"qx_plugins.configs.{name}").convert(Net(), IMAGES, Context(folder=tmp_path))
    assert artifact.loader == "onnxruntime_gpu"
    assert (artifact.details["provider"], artifact.details["fp16"]) == (provider, fp16)
    weights = onnxruntime_gpu.read_weights(artifact)
    assert weights is not None
    layers = sorted((layer.elements, layer.bits) for layer in weights.layers.values())
    assert layers == [(64 * 5, 32), (16 * 27, 32)]


@pytest.mark.parametrize("config", ready("onnxruntime_fp32"))
def test_a_decoder_has_no_cache_on_a_gpu(config: str, tmp_path: Path) -> None:
    """A session on a device keeps no cache, so the graph takes tokens alone, as the model does."""
    import onnx

    shape = LlamaShape(vocabulary=50, positions=64, width=32, hidden=48, layers=1, heads=4, key_value_heads=2)
    plugin = import_module("qx_plugins.configs.onnxruntime_cuda_fp32")
    tokens = (torch.zeros(1, 32, dtype=torch.int64),)
    artifact = plugin.convert(Scorer(LlamaDecoder(shape)).eval(), tokens, Context(folder=tmp_path))
    assert "decoder" not in artifact.details
    assert len(onnx.load(tmp_path / artifact.files[0]).graph.input) == 1


def narrow_types(artifact: Any) -> tuple[set[str], set[str]]:
    """Return the types of the weights in a graph, and of the activations that are rounded in it."""
    import onnx

    graph = onnx.load(artifact.folder / artifact.files[0]).graph
    kinds = onnx.TensorProto.DataType.Name
    types = {constant.name: kinds(constant.data_type) for constant in graph.initializer}
    weights = artifact.read_weights().layers.values()
    rounded = {types[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"}
    return {weight.type for weight in weights}, rounded


@pytest.mark.parametrize("config", ready(*CONFIGS[2:]))
def test_other_widths_are_in_the_file(config: str, tmp_path: Path) -> None:
    """Weights of 4 bits and activations of 16 are stored and rounded as such, and the errors show it."""
    torch.manual_seed(0)
    net = Net().eval()
    images = np.random.default_rng(1).standard_normal((16, 3, 16, 16), dtype=np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(images)).numpy()
    errors = {}
    for weights, activations in ((8, 8), (4, 8), (8, 16)):
        folder = tmp_path / f"{weights}-{activations}"
        folder.mkdir()
        options = {"weight_bits": weights, "activation_bits": activations}
        artifact = read_by_its_loader(convert(config, net, folder, options=options))
        stored, rounded = narrow_types(artifact)
        assert stored == {f"int{weights}"}
        assert rounded == {f"UINT{activations}"}
        is_usual = (weights, activations) == (8, 8)
        assert any("computes in float" in note for note in artifact.notes) == (not is_usual)
        errors[weights, activations] = float(np.square(answer(served(artifact), images) - expected).sum())
    assert errors[8, 16] < errors[8, 8] < errors[4, 8]


def test_calibration_reads_a_few_items_at_a_time() -> None:
    """All items, in their order, by the names of the graph, in calls that are small."""
    pytest.importorskip("onnx")
    from qx_plugins.runtimes.onnxruntime.converting import READ_ITEMS, CalibrationReader

    batches = [
        Batch(inputs={"x": np.arange(6.0)[:, None], "y": np.arange(6)}),
        Batch(inputs={"x": np.arange(6.0, 7.0)[:, None], "y": np.arange(6, 7)}),
    ]
    reader = CalibrationReader(["first", "second"], batches)
    calls = list(iter(reader.get_next, None))
    assert [len(call["first"]) for call in calls] == [READ_ITEMS, 6 - READ_ITEMS, 1]
    for name, dimensions in (("first", 2), ("second", 1)):
        joined = np.concatenate([call[name] for call in calls])
        assert joined.ndim == dimensions
        assert joined.ravel().tolist() == [*range(7)]


@pytest.mark.parametrize("config", ready("onnxruntime_static_int8_per_channel"))
def test_no_quantizer_rounds_the_likelihoods_of_a_decoder(config: str, tmp_path: Path) -> None:
    """What makes likelihoods of scores is no part of the network."""
    check_likelihoods(config, tmp_path)
