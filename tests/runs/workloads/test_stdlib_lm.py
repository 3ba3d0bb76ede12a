"""Runs of the decoder: what is measured of it, and that the figures are those of a loop by hand."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from qx_plugins.language_outputs import COUNTED
from qx_plugins.networks.language_models import continue_greedily, find_decoder
from qx_plugins.workloads import stdlib_lm

from qx import UNITS, Context

CONTEXT = Context(options={option.name: option.default for option in stdlib_lm.describe().options})
#: Number of windows, among which two are of one document.
ITEMS = 20
HAS_ONNX = importlib.util.find_spec("onnxruntime") is not None and importlib.util.find_spec("onnxscript")
#: Configs that keep the cache: one in the fast tier.
EAGER = ("dynamic_int8", "bf16") if os.environ.get("QX_SLOW") else ("dynamic_int8",)
GRAPHS = ("onnxruntime_fp32",) if HAS_ONNX and os.environ.get("QX_SLOW") else ()


@pytest.fixture(scope="module")
def model() -> Any:
    """Return the model with its committed weights."""
    made = stdlib_lm.make_model(CONTEXT)
    state = torch.load(stdlib_lm.weights_folder() / "stdlib_lm.pt", weights_only=True)
    made.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return made.eval()


@pytest.fixture(scope="module")
def run(qx: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run the decoder with few items, of two lengths."""
    configs = [*EAGER, "static_int8_per_channel", *GRAPHS]
    chosen = [word for name in configs for word in ("-c", name)]
    return qx(
        *("run", "--workload", "stdlib_lm", *chosen, "--eval-n", ITEMS, "--length", 48),
        *("--quick", "--budget", 0.01, "--out", "out"),
        cwd=tmp_path_factory.mktemp("lm"),
    )


def test_perplexity_is_that_of_a_loop_by_hand(run: Any, model: Any) -> None:
    """Over the same windows, token by token, to 1e-4."""
    from qx import draw_items

    assert run.results["run"]["failures"] == ["static_int8_per_channel: unsupported"], run.err
    data = stdlib_lm.load_data("test", CONTEXT)
    items = draw_items(None, len(data.inputs["tokens"]), ITEMS)
    total, count = 0.0, 0
    with torch.inference_mode():
        for item in items:
            tokens = torch.from_numpy(data.inputs["tokens"][item])
            scores = model.decoder(tokens[None])[0]
            for place in np.flatnonzero(data.targets[COUNTED][item]):
                total -= float(torch.log_softmax(scores[place].double(), dim=0)[tokens[place + 1]])
                count += 1
    measured = run.measurement("fp32_baseline", "perplexity")
    assert measured["value"] == pytest.approx(math.exp(total / count), rel=1e-4)
    assert measured["details"]["tokens"] == count
    documents = len(np.unique(data.targets[UNITS][items]))
    assert [run.measurement("dynamic_int8", name)["n"] for name in ("perplexity", "kl_divergence")] == [
        documents
    ] * 2


def test_prompts_and_tokens_have_their_own_times(run: Any) -> None:
    """Of each config that keeps the cache, at the length that was asked for; and its memory."""
    for config in ("fp32_baseline", *EAGER, *GRAPHS):
        first = run.measurement(config, "time_to_first_token")
        further = run.measurement(config, "decode_latency")
        assert first["point"] == {"batch_size": 1, "length": 48, "call": "prefill"}
        assert further["point"] == {"batch_size": 1, "length": 48, "call": "decode"}
        assert further["value"] > 0
        rate = run.measurement(config, "tokens_per_second")["value"]
        assert rate == pytest.approx(1000 / further["value"], rel=0.2)
        memory = run.measurement(config, "context_memory")["details"]
        # Six layers, four heads of 32 numbers, keys and values of 48 tokens.
        bytes_of_number = 2 if config == "bf16" else 4
        tokens = 47 if config.startswith("onnx") else 48
        assert memory["cache"] * 2**20 == 6 * 4 * 32 * 2 * tokens * bytes_of_number
    assert {axis["metric"] for axis in run.results["axes"]} >= {"perplexity", "decode_latency"}


def test_what_changed_is_measured_against_the_baseline(run: Any) -> None:
    """Near it, but not equal; in ONNX Runtime the same up to rounding; and what cannot work says why."""
    for config in EAGER:
        assert 0 < run.measurement(config, "kl_divergence")["value"] < 0.1
        assert 0.8 < run.measurement(config, "top_token_agreement")["value"] < 1
        compared = run.measurement(config, "perplexity")["vs_baseline"]
        assert compared["value"] == pytest.approx(1, abs=0.1)
    if GRAPHS:
        assert run.measurement("onnxruntime_fp32", "kl_divergence")["value"] < 1e-6
        assert run.measurement("onnxruntime_fp32", "perplexity")["vs_baseline"]["value"] == pytest.approx(1)
    refused = run.cell("static_int8_per_channel")
    assert refused["outcome"] == "unsupported"
    assert "no static 8-bit normalisation" in refused["cause"]


def test_it_has_learnt_more_than_counts_say(model: Any) -> None:
    """Its perplexity on some documents is below that of three tokens in a row on all."""
    text, data = stdlib_lm.read_text(), stdlib_lm.load_data("test", CONTEXT)
    tokens = torch.from_numpy(data.inputs["tokens"][::16])
    with torch.inference_mode():
        losses = -model(tokens)["log_likelihoods"].numpy()[data.targets[COUNTED][::16] > 0]
    assert text.baselines["unigram"] > text.baselines["bigram"] > text.baselines["trigram"]
    assert math.exp(losses.mean()) < text.baselines["trigram"] / 1.5


def test_decoding_gives_the_tokens_of_whole_texts(model: Any) -> None:
    """Greedily, after 20 prompts out of as many modules."""
    data = stdlib_lm.load_data("test", CONTEXT)
    prompts = torch.from_numpy(data.inputs["tokens"][::2][:20, :64])
    decoder = find_decoder(model)
    assert decoder is not None
    with torch.inference_mode():
        chosen = continue_greedily(decoder, prompts, 16)
        text = prompts
        for _ in range(16):
            text = torch.cat([text, model.decoder(text)[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    assert torch.equal(chosen, text[:, 64:])


def test_a_prompt_longer_than_the_positions_is_one_line(qx: Callable[..., Any], tmp_path: Any) -> None:
    """Before anything is built, with the lengths that there are."""
    done = qx("run", "--workload", "stdlib_lm", "-c", "bf16", "--length", 513, cwd=tmp_path)
    assert done.code == 2
    assert "--length 513: inputs of the model have lengths from 32 to 512" in done.err
