"""The configs of llama.cpp: files that it reads, of decoders that it computes as torch does.

Without the runtime most tests are skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from qx_plugins.configs import llama_cpp_fp32, llama_cpp_weight_only
from qx_plugins.language_outputs import DECODE, LOG_LIKELIHOODS, LOGITS, PREFILL
from qx_plugins.networks.hf_decoders import make_decoder
from qx_plugins.networks.language_models import Scorer
from qx_plugins.networks.llama import LlamaDecoder, LlamaShape
from torch import nn

from qx import Batch, Context, Unsupported

VOCABULARY, POSITIONS = 96, 64
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
}


@pytest.fixture
def runtime() -> None:
    """Skip a test where llama.cpp is missing."""
    pytest.importorskip("gguf")
    pytest.importorskip("llama_cpp")


def make_scorer(width: int = 64, hidden: int = 96) -> Scorer:
    """Return a small decoder with weights that are far from each other."""
    torch.manual_seed(0)
    shape = LlamaShape(
        vocabulary=VOCABULARY,
        positions=POSITIONS,
        width=width,
        hidden=hidden,
        layers=3,
        heads=4,
        key_value_heads=2,
    )
    return _spread(Scorer(LlamaDecoder(shape)))


def make_transformers(kind: str, **settings: Any) -> Scorer:
    """Return a small decoder of transformers."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **settings})
    scorer = make_decoder(getattr(transformers, f"{kind}ForCausalLM")(config))
    assert isinstance(scorer, Scorer)
    return _spread(scorer)


def _spread(model: Scorer) -> Scorer:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return model.eval()


def convert(model: nn.Module, folder: Path, batches: Sequence[Batch] = (), **options: object) -> Any:
    """Return the artifact of a type of llama.cpp; without options that in float32."""
    plugin: Any = llama_cpp_weight_only if options else llama_cpp_fp32
    folder.mkdir(exist_ok=True)
    chosen = {option.name: option.default for option in plugin.describe().options}
    context = Context(folder=folder, options={"float_layers": "", **chosen, **options})
    if options:
        model = plugin.calibrate(model, batches, context)
    return plugin.convert(model, (draw(1, 8),), context)


def draw(texts: int, length: int, seed: int = 1) -> torch.Tensor:
    """Return texts of random tokens."""
    return torch.randint(VOCABULARY, (texts, length), generator=torch.Generator().manual_seed(seed))


def serve(artifact: Any) -> Any:
    """Return the subject of an artifact."""
    from qx_plugins.loaders import llama_cpp

    return llama_cpp.load(artifact, Context(threads=1))


def error(outputs: np.ndarray, expected: torch.Tensor) -> float:
    """Return the largest difference, relative to the largest value expected."""
    assert outputs.shape == expected.shape
    return float(np.abs(outputs - expected.numpy()).max() / expected.abs().max())


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Llama", {}),
        ("Llama", {"tie_word_embeddings": True, "attention_bias": True}),
        ("Llama", {"head_dim": 32, "rope_theta": 500.0}),
        ("Mistral", {"sliding_window": None}),
        ("Qwen2", {}),
    ],
)
def test_decoders_of_transformers_give_the_scores_of_torch(
    kind: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Of a text as a whole, of the token after a prompt, and of one that is decoded."""
    model, tokens = make_transformers(kind, **settings), draw(2, 40)
    with torch.no_grad():
        expected, last = model(tokens), model.decoder(tokens)[:, -1]
    subject = serve(convert(model, tmp_path))
    native = subject.prepare({"tokens": tokens.numpy()})
    whole = subject.outputs(subject.call(native))
    assert error(whole[LOGITS], expected[LOGITS]) < 1e-4
    assert error(whole[LOG_LIKELIHOODS], expected[LOG_LIKELIHOODS]) < 1e-4
    for call in (PREFILL, DECODE, DECODE, PREFILL, DECODE):
        subject.reset(native, call)
        assert error(subject.outputs(subject.kinds[call](native))[LOGITS], last) < 1e-4


@pytest.mark.usefixtures("runtime")
def test_layers_in_float_leave_the_others_as_they_are(tmp_path: Path) -> None:
    """llama.cpp gives some layers more bits by counting them, which must not change."""
    from qx_plugins.runtimes.llama_cpp.converting import types_of

    model = make_scorer(width=256, hidden=256)
    plain = types_of(tmp_path / "plain" / convert(model, tmp_path / "plain", type="q4_k_m").files[0])
    assert {"q4_k", "q6_k"} <= set(plain.values())
    names = "decoder.layers.0.attention.value+decoder.head+decoder.tokens"
    artifact = convert(model, tmp_path / "partly", type="q4_k_m", float_layers=names)
    changed = {"blk.0.attn_v.weight", "output.weight", "token_embd.weight"}
    types = types_of(artifact.folder / artifact.files[0])
    assert {name for name, kind in types.items() if kind != plain[name]} == changed
    assert {types[name] for name in changed} == {"f32"}


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("name", ["lm_head", "model.embed_tokens"])
def test_a_shared_table_stays_in_float_by_either_name(name: str, tmp_path: Path) -> None:
    """The last layer of a tied model is the table of tokens, and the file has it once."""
    from qx_plugins.runtimes.llama_cpp.converting import types_of

    model = make_transformers("Llama", tie_word_embeddings=True)
    artifact = convert(model, tmp_path, type="q8_0", float_layers=f"decoder.model.{name}")
    types = types_of(artifact.folder / artifact.files[0])
    assert "output.weight" not in types
    assert (types["token_embd.weight"], types["blk.0.attn_q.weight"]) == ("f32", "q8_0")


@pytest.mark.usefixtures("runtime")
def test_a_context_is_as_long_as_what_is_read(tmp_path: Path) -> None:
    """And grows where needed: a cache for all positions of a model may take gigabytes for each text."""
    model = make_transformers("Qwen2", max_position_embeddings=1 << 20)
    subject = serve(convert(model, tmp_path))
    for length in (33, 40, 34):
        tokens = draw(2, length)
        with torch.no_grad():
            last = model.decoder(tokens)[:, -1]
        native = subject.prepare({"tokens": tokens.numpy()})
        for call in (DECODE, PREFILL, DECODE):
            subject.reset(native, call)
            assert error(subject.outputs(subject.kinds[call](native))[LOGITS], last) < 1e-4
    assert [(texts, length) for texts, (_, length) in subject._contexts.items()] == [(2, 40)]
    many = subject.prepare({"tokens": draw(1000, 8).numpy()})
    with pytest.raises(RuntimeError, match="reads at most 256 texts at once, not 1000"):
        subject.reset(many, PREFILL)


@pytest.mark.usefixtures("runtime")
def test_rows_that_no_block_divides_are_stored_in_another_type_and_named(tmp_path: Path) -> None:
    """A K type has blocks of 256 weights, and others have blocks of 32."""
    artifact = convert(make_scorer(width=256, hidden=96), tmp_path, type="q4_k_m")
    layers = ", ".join(f"decoder.layers.{number}.feed_forward.down" for number in range(3))
    assert all(note.startswith("rows of 96 weights are no multiple of 256") for note in artifact.notes)
    assert {name for name in layers.split(", ") if name in " ".join(artifact.notes)} == set(
        layers.split(", ")
    )
    assert not convert(make_scorer(width=64), tmp_path / "other", type="q8_0").notes
    (note,) = convert(make_scorer(hidden=80), tmp_path / "uneven", type="q8_0").notes
    assert note.startswith("rows of 80 weights are no multiple of 32") and note.endswith(" in f16")


@pytest.mark.usefixtures("runtime")
def test_more_bits_are_nearer(tmp_path: Path) -> None:
    """To the scores of the model in float."""
    model, tokens = make_scorer(width=256, hidden=256), draw(4, 60)
    with torch.no_grad():
        expected = model(tokens)[LOGITS].numpy()
    deviations = []
    for kind in ("q4_0", "q6_k", "q8_0"):
        subject = serve(convert(model, tmp_path / kind, type=kind))
        outputs = subject.outputs(subject.call(subject.prepare({"tokens": tokens.numpy()})))[LOGITS]
        deviations.append(float(np.sqrt(np.mean((outputs - expected) ** 2))))
    assert deviations == sorted(deviations, reverse=True)
    assert deviations[0] > 3 * deviations[-1]


@pytest.mark.usefixtures("runtime")
def test_weights_of_large_inputs_are_rounded_with_more_care(tmp_path: Path) -> None:
    """The importance matrix has the mean squares of inputs, and errors that these weigh become smaller."""
    import gguf
    from qx_plugins.runtimes.llama_cpp.architectures import describe_decoder
    from qx_plugins.runtimes.llama_cpp.converting import input_importance

    model = make_scorer(width=256, hidden=256)
    with torch.no_grad():
        for layer in model.decoder.layers:
            layer.norm_attention.weight[::8] *= 30
    batches = [Batch(inputs={"tokens": draw(8, 60, seed=2).numpy()}, targets={})]
    importance = input_importance(model, describe_decoder(model), batches)["blk.1.attn_v.weight"]
    assert importance.shape == (256,)
    assert importance[::8].min() > 10 * np.delete(importance, np.s_[::8]).max()

    def weighted_error(name: str, **options: object) -> float:
        artifact = convert(model, tmp_path / name, batches, type="q4_0", **options)
        tensors = gguf.GGUFReader(artifact.folder / artifact.files[0]).tensors
        (stored,) = (tensor for tensor in tensors if tensor.name == "blk.1.attn_v.weight")
        weights = gguf.quants.dequantize(stored.data, stored.tensor_type)
        errors = weights - model.decoder.layers[1].attention.value.weight.detach().numpy()
        return float((errors**2 * importance).sum())

    assert weighted_error("corrected", correction="importance_matrix") < 0.8 * weighted_error("plain")


def test_what_llama_cpp_does_not_compute_is_refused_before_anything_is_built() -> None:
    """With the reason, and with the models that can be written."""

    def refusal(model: nn.Module) -> str:
        with pytest.raises(Unsupported) as refused:
            llama_cpp_fp32.check_model(model)
        return str(refused.value)

    known = "stdlib_lm, or of transformers LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM"
    assert refusal(nn.Linear(2, 2)).endswith(f"Linear is none that it knows: {known}")
    assert refusal(make_transformers("Mistral", sliding_window=16)).endswith("since attention has a window")
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}
    assert refusal(make_transformers("Llama", rope_parameters=scaled)).endswith("since positions are scaled")
    assert "the activation function is gelu" in refusal(make_transformers("Llama", hidden_act="gelu"))
    wide = make_transformers("Qwen2", head_dim=32)
    assert refusal(wide).endswith("share its width, and 4 of 32 are not 64")
    assert "this is Gemma" in refusal(make_transformers("Gemma", head_dim=16))
    llama_cpp_fp32.check_model(make_scorer())
