"""Decoders as graphs whose cache goes in and comes out, in each runtime that serves them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from qx_plugins.runtimes.aot_inductor.compiling import COMPILERS

SLOW = bool(os.environ.get("QX_SLOW"))
#: Largest difference of a score from that of the fp32 model, relative to the largest score. Weights are
#: random, so that 4 bits change what the model says by much; what its graph says must be the same in parts.
EXACT, IN_8_BITS, IN_4_BITS = 1e-4, 0.1, 0.6
#: Configs that keep the cache, by what they need. A compilation takes seconds: the fast tier has one.
CONFIGS: dict[str, dict[str, float]] = {
    "onnxruntime": {
        "onnxruntime_fp32": EXACT,
        "onnxruntime_dynamic_int8": IN_8_BITS,
        "onnxruntime_weight_only": IN_4_BITS,
    },
    "openvino": {"openvino_fp32": EXACT, "openvino_fp32 cache=state": EXACT},
    "llama_cpp": {"llama_cpp_fp32": EXACT, "llama_cpp_weight_only": IN_4_BITS},
    "inductor": {"inductor_fp32": EXACT},
    "torchao": {},
}
if SLOW:
    CONFIGS["inductor"] |= {"inductor_bf16": IN_8_BITS}
    CONFIGS["torchao"] |= {
        "torchao_int8_weight_only": IN_8_BITS,
        "torchao_int8_dynamic": IN_8_BITS,
        "torchao_int4_weight_only": IN_4_BITS,
    }
#: Largest difference between a text that is read at once and one that is read in parts: activations that are
#: rounded by the range of what is read together are others in parts.
IN_PARTS = {"onnxruntime_dynamic_int8": 0.1, "inductor_bf16": 0.05, "torchao_int8_weight_only": 0.05}
#: Builds a small decoder by a config, and serves it by the loader of the artifact.
BUILD = """
    import json, os, pathlib, sys
    from importlib import import_module
    import numpy, torch
    from qx import Context
    from qx.worker.once import once_in
    from qx_plugins.language_outputs import LOG_LIKELIHOODS, LOGITS
    from qx_plugins.networks.language_models import Scorer
    from qx_plugins.networks.llama import LlamaDecoder, LlamaShape

    (name, *chosen), kind, folder = sys.argv[1].split(), sys.argv[2], pathlib.Path(sys.argv[3])
    torch.manual_seed(0)
    if kind == "plain":
        sizes = {"width": 64, "hidden": 96, "layers": 2, "heads": 4, "key_value_heads": 2}
        model = Scorer(LlamaDecoder(LlamaShape(vocabulary=64, positions=64, **sizes)))
    else:
        import transformers
        from qx_plugins.networks.hf_decoders import make_decoder

        sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
        if kind != "GPT2LMHeadModel":
            sizes |= {"intermediate_size": 96, "num_key_value_heads": 2, "max_position_embeddings": 64}
        else:
            sizes |= {"n_inner": 96, "n_positions": 64}
        settings = json.loads(sys.argv[4])
        kind = getattr(transformers, kind)
        model = make_decoder(kind(kind.config_class(**sizes, **settings)))
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5 if kind == "plain" else 10)
    tokens = torch.randint(64, (3, 40))
    with torch.no_grad():
        expected = {name: tensor.numpy() for name, tensor in model(tokens).items()}
        last = model.decoder(tokens)[:, -1].numpy()
    plugin = import_module(f"qx_plugins.configs.{name}")
    options = {option.name: option.default for option in plugin.describe().options}
    options |= dict(setting.split("=") for setting in chosen)
    context = Context(folder=folder, options=options, once=once_in(os.environ["COMPILER_ANSWERS"]))
    artifact = plugin.convert(model, (tokens[:1],), context)
    subject = import_module(f"qx_plugins.loaders.{artifact.loader}").load(artifact, context)
    report = {"cache_type": artifact.details["decoder"]["cache_type"]}

    def error(outputs, expected):
        assert outputs.shape == expected.shape, (outputs.shape, expected.shape)
        assert outputs.dtype == numpy.float32
        return float(abs(outputs - expected).max() / abs(last).max())

    for size, length in ((3, 40), (1, 33)):
        native = subject.prepare({"tokens": numpy.ascontiguousarray(tokens.numpy()[:size, :length])})
        whole = subject.outputs(subject.call(native))
        if length == 40:
            report["text"] = [error(whole[key], expected[key]) for key in (LOGITS, LOG_LIKELIHOODS)]
            # The last position is one of those whose scores are kept.
            at_end = whole[LOGITS][:, -1].copy()
        for kind in ("prefill", "decode", "decode"):
            subject.reset(native, kind)
            scores = subject.outputs(subject.kinds[kind](native))[LOGITS]
            assert scores.shape == (size, 64)
            if length == 40:
                report[kind] = error(scores, at_end)
        report[f"bytes_{length}"] = subject.cache_bytes
    print(json.dumps(report), flush=True)
"""


def _ready() -> list[Any]:
    """Return all configs, marked to be skipped where what they need is missing."""
    has_compiler = any(shutil.which(os.path.expandvars(name)) for name in COMPILERS)
    present = {
        "onnxruntime": find_spec("onnxruntime") and find_spec("onnxscript"),
        "openvino": find_spec("openvino"),
        "llama_cpp": find_spec("llama_cpp") and find_spec("gguf"),
        "inductor": has_compiler,
        "torchao": has_compiler and find_spec("torchao"),
    }
    return [
        pytest.param(name, error, marks=pytest.mark.skipif(not present[need], reason=f"needs {need}"))
        for need, errors in CONFIGS.items()
        for name, error in errors.items()
    ]


def build(name: str, kind: str, folder: Path, environment: dict[str, str], **settings: Any) -> dict[str, Any]:
    """Build a small decoder of a kind by a config in a process of its own, and return what it reports."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", dedent(BUILD), name, kind, str(folder), json.dumps(settings)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


@pytest.mark.parametrize(("name", "largest"), _ready())
def test_a_graph_with_a_cache_says_what_the_model_says(
    name: str, largest: float, compiling: dict[str, str], tmp_path: Path
) -> None:
    """Of a whole text, after a prompt, and after a token more; for several texts, and one of other length."""
    report = build(name, "plain", tmp_path, compiling)
    assert max(report["text"]) < largest
    assert max(report["prefill"], report["decode"]) < IN_PARTS.get(name, 1e-4)
    # Two layers, keys and values, two heads of 16 numbers; the token that is decoded is not in it yet.
    numbers = {length: size * 2 * 2 * 2 * 16 * (length - 1) for size, length in ((3, 40), (1, 33))}
    width = 4 if report["cache_type"] == "float32" else 2
    assert [report[f"bytes_{length}"] for length in numbers] == [width * count for count in numbers.values()]


#: Decoders of transformers by their class and settings, with the heads of keys and values of a layer.
TRANSFORMERS: dict[str, tuple[str, dict[str, Any], int]] = {
    "llama": ("LlamaForCausalLM", {}, 2),
    "qwen2": ("Qwen2ForCausalLM", {}, 2),
    "gpt2": ("GPT2LMHeadModel", {}, 4),
    # Half of the layers see no more than eight tokens.
    "windows": (
        "Qwen2ForCausalLM",
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
        2,
    ),
}


#: Configs that make graphs, whatever the architecture; those of llama.cpp have tests of their own.
GRAPHS = [config for config in _ready() if not str(config.values[0]).startswith("llama_cpp")]


@pytest.mark.parametrize("kind", [*TRANSFORMERS] if SLOW else ["gpt2"])
@pytest.mark.parametrize(("name", "largest"), GRAPHS if SLOW else GRAPHS[:1])
def test_a_decoder_of_transformers_keeps_its_cache(
    name: str, largest: float, kind: str, compiling: dict[str, str], tmp_path: Path
) -> None:
    """In each runtime, where positions are turned or learnt, heads shared, and windows slide."""
    pytest.importorskip("transformers", reason="the extra hf installs transformers")
    architecture, settings, heads = TRANSFORMERS[kind]
    report = build(name, architecture, tmp_path, compiling, **settings)
    assert max(report["text"]) < largest
    assert max(report["prefill"], report["decode"]) < IN_PARTS.get(name, 1e-3)
    width = 2 if report["cache_type"] == "bfloat16" else 4
    assert report["bytes_33"] == width * 2 * 2 * heads * 16 * 32
