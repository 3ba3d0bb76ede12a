"""The configs of OpenVINO: served by it alone, in 8 bits, with the predictions of torch.

Without the runtime the tests are skipped.
"""

from __future__ import annotations

from collections.abc import Callable
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
from runtimes import Net, answer, check_7_bits_without_vnni, check_likelihoods, convert, ready, served
from test_weight_counts import read_by_its_loader

# The exporters warn of their own insides.
pytestmark = pytest.mark.filterwarnings("ignore")

CONFIGS = ("openvino_fp32", "openvino_bf16", "openvino_int8")
BF16 = "<Type: 'bfloat16'>"


@pytest.mark.parametrize("config", ready("openvino_bf16"))
def test_bf16_runs_in_bf16(run: Any, config: str) -> None:
    """Every layer of the bf16 config is computed in bfloat16, and its weights take half the bytes."""
    kernels = run.measurement(config, "quantized_share")["details"]["kernels"]
    assert {name.rpartition(" ")[2] for name in kernels} == {"bf16"}
    sizes = {name: run.cell(name)["artifact"]["model.bin"] for name in (config, "openvino_fp32")}
    assert 0.49 < sizes[config] / sizes["openvino_fp32"] < 0.52


def test_weights_are_rounded_to_the_nearest_bfloat16() -> None:
    """Weights are rounded as torch does, bit for bit: ties to even, and too large values to infinity."""
    pytest.importorskip("openvino")
    from qx_plugins.runtimes.openvino.converting import bfloat16_bits

    generator = np.random.default_rng(0)
    any_bits = generator.integers(0, 2**32, 100_000, dtype=np.uint32)
    ties = (any_bits & 0xFFFF0000) | 0x8000
    few = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 3.4e38, 1e-40], dtype=np.float32)
    values = np.concatenate([any_bits.view(np.float32), ties.view(np.float32), few]).reshape(-1, 1)
    expected = torch.from_numpy(values).to(torch.bfloat16)
    rounded = torch.from_numpy(bfloat16_bits(values).view(np.int16)).view(torch.bfloat16)
    assert rounded.shape == expected.shape
    is_number = ~torch.isnan(expected)
    assert torch.equal(torch.isnan(rounded), ~is_number)
    assert torch.equal(rounded.view(torch.int16)[is_number], expected.view(torch.int16)[is_number])


@pytest.mark.parametrize("config", ready("openvino_bf16"))
def test_what_is_stored_in_bfloat16_is_what_was_rounded(built: Callable[..., Any], config: str) -> None:
    """The weights are stored as torch rounds them, and nothing else is in bfloat16: no bias is."""
    import openvino

    artifact, net = built(config)
    nodes = openvino.Core().read_model(artifact.folder / artifact.files[0]).get_ordered_ops()
    stored = [node.get_data(dtype=np.float32) for node in nodes if str(node.get_element_type()) == BF16]
    weights = [layer.weight.detach().to(torch.bfloat16).float() for layer in (net.head, net.body[0])]
    assert len(stored) == len(weights)
    for expected in (weight.numpy().ravel() for weight in weights):
        assert any(np.array_equal(array.ravel(), expected) for array in stored)


@pytest.mark.parametrize("config", ready("openvino_int8"))
def test_without_vnni_weights_have_7_bits_and_it_is_told(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without VNNI, 8-bit products are added in 16 bits: the range is halved, and the notes say so."""
    check_7_bits_without_vnni(config, tmp_path, monkeypatch)


@pytest.mark.parametrize("config", ready("openvino_fp32"))
def test_nothing_is_reported_to_anybody(config: str) -> None:
    """OpenVINO's telemetry is off in a build, where it would be sent unasked."""
    import subprocess
    import sys

    program = (
        "from qx_plugins.runtimes.openvino.converting import silence_telemetry; silence_telemetry();"
        "import openvino.tools.ovc.telemetry_utils as u; print(u.tm.__name__)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip().endswith("telemetry_stub")


@pytest.mark.parametrize("config", ready("openvino_int8"))
def test_activations_of_16_bits_are_rounded_as_such(config: str, tmp_path: Path) -> None:
    """Activations have 65,536 levels, weights still 8 bits, and the error is smaller."""
    import openvino

    torch.manual_seed(0)
    net = Net().eval()
    images = np.random.default_rng(1).standard_normal((16, 3, 16, 16), dtype=np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(images)).numpy()
    errors = {}
    for bits in (8, 16):
        folder = tmp_path / str(bits)
        folder.mkdir()
        artifact = convert(config, net, folder, options={"activation_bits": bits})
        nodes = openvino.Core().read_model(folder / "model.xml").get_ordered_ops()
        rounding = [node for node in nodes if node.get_type_name() == "FakeQuantize"]
        assert {node.get_attributes()["levels"] for node in rounding} == {2**bits}
        weights = read_by_its_loader(artifact).read_weights().layers.values()
        assert {weight.bits for weight in weights} == {8}
        assert any("computes in float" in note for note in artifact.notes) == (bits == 16)
        errors[bits] = float(np.square(answer(served(artifact), images) - expected).sum())
    assert errors[16] < errors[8]


@pytest.mark.parametrize("config", ready("openvino_int8"))
def test_no_quantizer_rounds_the_likelihoods_of_a_decoder(config: str, tmp_path: Path) -> None:
    """What makes likelihoods of scores is no part of the network."""
    check_likelihoods(config, tmp_path)
