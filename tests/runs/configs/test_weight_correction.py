"""Weights that are rounded with a look at data: GPTQ in ONNX Runtime, and NNCF's corrections in OpenVINO."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from qx_plugins.language_outputs import LOGITS, TOKENS
from qx_plugins.networks.language_models import Scorer
from qx_plugins.networks.llama import LlamaDecoder, LlamaShape
from runtimes import imported_host, ready, served

from qx import Artifact, Batch, Context, Unsupported

# The exporters warn of their own insides.
pytestmark = pytest.mark.filterwarnings("ignore")

#: What each config rounds without data, what it does with data, and the largest share of the error that may
#: be left. AWQ changes little here, where no input of a layer is much larger than the others.
ONNX, OPENVINO = "onnxruntime_weight_only", "openvino_weight_only"
WAYS: dict[str, tuple[dict[str, Any], list[tuple[dict[str, Any], float]]]] = {
    ONNX: ({"method": "rtn", "arithmetic": "fp32"}, [({"method": "gptq"}, 0.5)]),
    OPENVINO: (
        {"correction": "none"},
        [({"correction": "gptq"}, 0.5), ({"correction": "awq+scale_estimation"}, 0.9)],
    ),
}
if os.environ.get("QX_SLOW"):
    WAYS[OPENVINO][1].append(({"correction": "lora_correction"}, 0.5))
#: The embedding stays in float, so that all of the error is that of products.
SHARED = {"bits": 4, "group_size": 32, "float_layers": "decoder.tokens"}


def _decoder() -> Scorer:
    """Return a decoder whose features are alike in many directions, as those of trained ones are.

    Each row of its last matrices has three groups, an odd number.
    """
    torch.manual_seed(0)
    shape = LlamaShape(vocabulary=64, positions=64, width=64, hidden=96, layers=2, heads=4, key_value_heads=2)
    model = Scorer(LlamaDecoder(shape)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
        model.decoder.tokens.weight.copy_(torch.randn(64, 6) @ torch.randn(6, 64) + torch.randn(64, 64) / 20)
    return model


def _tokens(seed: int, texts: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(64, size=(texts, 40))


def _build(config: str, options: dict[str, Any], folder: Path) -> Artifact:
    """Return the artifact that a config makes of the decoder, calibrated with texts."""
    host, folder = imported_host(), folder / "-".join(map(str, options.values()))
    folder.mkdir()
    batches = [Batch(inputs={TOKENS: _tokens(0, 12)}), Batch(inputs={TOKENS: _tokens(1, 4)})]
    model = host.call(config, "calibrate", model=_decoder(), batches=batches, context=Context())
    context = Context(folder=folder, options={**SHARED, **options})
    example = (torch.from_numpy(_tokens(2, 1)),)
    artifact: Artifact = host.call(config, "convert", model=model, example_inputs=example, context=context)
    return artifact


def _error(artifact: Artifact) -> float:
    """Return the mean squared difference of the scores from the model's, on texts that did not calibrate."""
    tokens = _tokens(3, 8)
    with torch.no_grad():
        expected = _decoder()(torch.from_numpy(tokens))[LOGITS].numpy()
    subject = served(artifact)
    outputs = subject.outputs(subject.call(subject.prepare({TOKENS: tokens})))[LOGITS]
    return float(np.square(outputs - expected).mean())


@pytest.mark.parametrize("config", ready(ONNX, OPENVINO))
def test_a_look_at_data_brings_weights_of_4_bits_nearer_to_the_model(config: str, tmp_path: Path) -> None:
    """Scores of other texts are nearer to those of the model than with weights rounded without data."""
    plain, corrections = WAYS[config]
    without = _error(_build(config, plain, tmp_path))
    for changed, largest in corrections:
        artifact = _build(config, {**plain, **changed}, tmp_path)
        assert _error(artifact) < largest * without, changed


@pytest.mark.parametrize("config", ready(ONNX, OPENVINO))
def test_no_weight_of_8_bits_is_corrected(config: str) -> None:
    """Before anything is built, one line says what does not go together and what to choose."""
    plain, ((changed, _), *_) = WAYS[config]
    context = Context(options={**SHARED, **plain, **changed, "bits": 8})
    arguments = {
        "model": _decoder(),
        "example_inputs": (torch.from_numpy(_tokens(0, 1)),),
        "context": context,
    }
    with pytest.raises(Unsupported, match=r"4 bits alone: choose bits=4 or .* with bits=8$"):
        imported_host().call(config, "check_model", **arguments)


@pytest.mark.parametrize("config", ready(OPENVINO))
def test_corrections_are_those_that_nncf_takes_together(config: str) -> None:
    """Each choice is of NNCF's corrections, and GPTQ and low-rank adapters are in none together."""
    (option,) = (
        option
        for option in imported_host().get("config", config).record.options
        if option.name == "correction"
    )
    chosen = [set(choice.split("+")) for choice in option.choices if choice != "none"]
    assert set().union(*chosen) == {"awq", "scale_estimation", "gptq", "lora_correction"}
    assert not [names for names in chosen if {"gptq", "lora_correction"} <= names]
    assert len(chosen) == 2**4 - 1 - 2**2


@pytest.mark.parametrize("config", ready(ONNX))
def test_gptq_leaves_layers_in_float_and_weights_at_levels_of_4_bits(config: str, tmp_path: Path) -> None:
    """What ``float_layers`` names keeps its matrix, bit for bit; all others have 16 levels in a group."""
    onnx = pytest.importorskip("onnx")
    options = {"method": "gptq", "arithmetic": "fp32", "float_layers": "decoder.head"}
    artifact = _build(config, options, tmp_path)
    graph = onnx.load(artifact.folder / artifact.files[0]).graph
    arrays = [onnx.numpy_helper.to_array(constant) for constant in graph.initializer]
    head = _decoder().decoder.head.weight.detach().numpy().T
    assert any(array.shape == head.shape and np.array_equal(array, head) for array in arrays)
    kinds = [node.op_type for node in graph.node]
    # Four products of attention and three of the feed-forward network in each of two layers.
    assert kinds.count("MatMulNBits") == 14


@pytest.mark.parametrize("config", ready(OPENVINO))
def test_tables_that_are_no_weights_stay_in_float(config: str, tmp_path: Path) -> None:
    """Cosines and sines of rotary positions are looked up as an embedding is, and are not compressed."""
    openvino = pytest.importorskip("openvino")
    artifact = _build(config, {"correction": "none", "float_layers": ""}, tmp_path)
    operators = openvino.Core().read_model(artifact.folder / artifact.files[0]).get_ordered_ops()
    kinds = {
        (tuple(node.get_output_shape(0)), node.get_element_type().get_type_name())
        for node in operators
        if node.get_type_name() == "Constant"
    }
    # 64 positions, heads of 16 numbers; 64 tokens in 2 groups of 32.
    assert ((64, 16), "f32") in kinds
    assert ((64, 2, 32), "u4") in kinds


@pytest.mark.parametrize("config", ready(ONNX, OPENVINO))
def test_a_decoder_without_a_cache_in_its_graph_is_corrected_by_its_tokens_alone(
    config: str, tmp_path: Path
) -> None:
    """Where no graph passes the cache on, the graph takes texts and nothing else, and a note says why."""
    transformers = pytest.importorskip("transformers", reason="the extra hf installs transformers")
    from qx_plugins.networks.hf_decoders import make_decoder

    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "max_position_embeddings": 64, "hidden_size": 64, "num_layers": 1}
    kinds = {"num_heads": 2, "intermediate_size": 64, "attention_types": [[["global"], 1]]}
    model = make_decoder(transformers.GPTNeoForCausalLM(transformers.GPTNeoConfig(**sizes, **kinds))).eval()
    host, ((plain, ((changed, _), *_))) = imported_host(), WAYS[config]
    batches = [Batch(inputs={TOKENS: _tokens(0, 4)})]
    model = host.call(config, "calibrate", model=model, batches=batches, context=Context())
    context = Context(folder=tmp_path, options={**SHARED, "float_layers": "", **plain, **changed})
    example = (torch.from_numpy(_tokens(2, 1)),)
    artifact = host.call(config, "convert", model=model, example_inputs=example, context=context)
    assert "decoder" not in artifact.details
    (note,) = [note for note in artifact.notes if "no cache" in note]
    assert "would hold for single sizes alone" in note
    assert "TORCH_LOGS" not in note
