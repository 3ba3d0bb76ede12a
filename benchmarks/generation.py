"""Do the decode calls of qx give the tokens that each runtime gives when a user decodes with it by hand?

    python -m benchmarks.generation

makes three decoders of transformers as folders: a Llama with the trained weights of ``stdlib_lm``, and a
Qwen2 and a GPT-2 with drawn weights. Each config builds each of them, and continues 20 prompts out of as many
modules of the standard library, greedily. Tokens are chosen by qx's calls ``prefill`` and ``decode``, through
qx's loader. They are compared with those that the files of the artifact give without qx: in a loop over
``onnxruntime.InferenceSession``, over a compiled model of ``openvino.Core``, or over the package that torch
loads; and in eager mode with ``generate(do_sample=False)`` of transformers. The results are in
``results/generation.json``. It takes some five minutes, most of them for the compilation by Inductor.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import frozen

from benchmarks.common import keep
from qx import Context

CONFIGS = (
    "fp32_baseline",
    "onnxruntime_fp32",
    "onnxruntime_dynamic_int8",
    "onnxruntime_weight_only",
    "openvino_fp32",
    "openvino_weight_only",
    "inductor_fp32",
)
MODELS = ("llama", "qwen2", "gpt2")
PROMPTS, TOKENS = 20, 32
#: Tokens of the first prompt, and by how many each is longer than the one before.
SHORTEST, LONGER = 16, 3
#: By how much drawn weights are larger than transformers draws them, so that scores differ.
LARGER = 4.0

#: Tokens ``[count]`` that continue a prompt ``[length]``.
Continue = Callable[[np.ndarray, int], np.ndarray]


# Decoders and prompts -----------------------------------------------------------------------------


def save_model(kind: str, folder: Path) -> None:
    """Save a decoder of a kind with its settings, as a user has it."""
    import transformers

    torch.manual_seed(0)
    # Nothing ends a text, so that all are of one length.
    common: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    small: dict[str, Any] = {
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 8,
        "vocab_size": 4_096,
    }
    model: Any
    if kind == "gpt2":
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_positions=512, **small, **common))
    elif kind == "qwen2":
        sizes: dict[str, Any] = {
            "intermediate_size": 256,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
        }
        model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**small, **sizes, **common))
    else:
        _trained_llama(common).save_pretrained(folder)
        return
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(LARGER)
    model.save_pretrained(folder)


def _trained_llama(common: dict[str, Any]) -> Any:
    """Return the decoder of ``stdlib_lm``, which has other names, as one of transformers."""
    import transformers
    from qx_plugins.networks.llama import LlamaShape
    from qx_plugins.workloads import stdlib_lm

    shape = LlamaShape(vocabulary=stdlib_lm.VOCABULARY, positions=stdlib_lm.POSITIONS)
    config = transformers.LlamaConfig(
        vocab_size=shape.vocabulary,
        max_position_embeddings=shape.positions,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        **common,
    )
    names = {
        "decoder.tokens": "model.embed_tokens",
        "decoder.head": "lm_head",
        "decoder.norm": "model.norm",
        "decoder.layers": "model.layers",
        "norm_attention": "input_layernorm",
        "norm_feed_forward": "post_attention_layernorm",
        "feed_forward": "mlp",
        "attention": "self_attn",
        **{name: f"{name[0]}_proj" for name in ("query", "key", "value", "output")},
        **{name: f"{name}_proj" for name in ("gate", "up", "down")},
    }
    state = torch.load(stdlib_lm.weights_folder() / "stdlib_lm.pt", weights_only=True)
    renamed = {}
    for name, tensor in state.items():
        *path, last = name.split(".")
        first = names[".".join(path[:2])]
        renamed[".".join([first, *(names.get(part, part) for part in path[2:]), last])] = tensor.float()
    model = transformers.LlamaForCausalLM(config)
    model.load_state_dict(renamed)
    return model


def read_prompts(count: int = PROMPTS) -> list[np.ndarray]:
    """Return the beginnings of as many modules of the standard library, each longer than the one before."""
    from qx_plugins.workloads import stdlib_lm

    documents = stdlib_lm.read_text().splits["test"][:count]
    return [
        np.asarray(document.tokens[: SHORTEST + LONGER * place], dtype=np.int64)
        for place, document in enumerate(documents)
    ]


# By qx --------------------------------------------------------------------------------------------


def continue_by_qx(subject: Any, *, refills: bool) -> Continue:
    """Return what continues a prompt by the calls that qx measures: one prompt, then single tokens.

    The cache goes from one call to the next. Where it ``refills``, all tokens but the last are read at once
    before each token, as they are where qx measures a token. Eager mode always does so.
    """
    from qx_plugins.language_outputs import DECODE, LOGITS, PREFILL

    def continued(prompt: np.ndarray, count: int) -> np.ndarray:
        text, result = prompt[np.newaxis], None
        for kind in [PREFILL, *[DECODE] * (count - 1)]:
            native = subject.prepare({"tokens": np.ascontiguousarray(text)})
            if kind == DECODE and not refills and hasattr(subject, "continue_from"):
                subject.continue_from(result, native)
            subject.reset(native, kind)
            result = subject.kinds[kind](native)
            scores = subject.outputs(result)[LOGITS]
            text = np.concatenate([text, scores.argmax(axis=-1)[:, np.newaxis]], axis=1)
        return np.asarray(text[0, len(prompt) :])

    return continued


# By hand ------------------------------------------------------------------------------------------

#: One call of a graph: tokens ``[1, new]`` and the cache in, scores ``[1, 1, vocabulary]`` and the cache out.
Step = Callable[[np.ndarray, Sequence[Any]], tuple[np.ndarray, Sequence[Any]]]


def continue_by_hand(config: str, artifact: Path, shape: Sequence[int]) -> Continue:
    """Return what continues a prompt with the runtime alone, from the files of an artifact.

    ``shape`` has the layers, the heads of keys and values in each, and the width of a head.
    """
    runtimes: dict[str, Callable[[Path], Step]] = {
        "onnxruntime": step_of_onnxruntime,
        "openvino": step_of_openvino,
        "inductor": step_of_torch,
    }
    step = runtimes[config.partition("_")[0]](artifact)
    layers, heads, width = shape

    def continued(prompt: np.ndarray, count: int) -> np.ndarray:
        past: Sequence[Any] = [np.zeros((1, heads, 0, width), dtype=np.float32)] * (2 * layers)
        read, chosen = prompt[np.newaxis], []
        for _ in range(count):
            scores, past = step(read, past)
            chosen.append(int(scores[0, -1].argmax()))
            read = np.array([chosen[-1:]])
        return np.array(chosen)

    return continued


def step_of_onnxruntime(artifact: Path) -> Step:
    """Return a call of a session with its defaults."""
    import onnxruntime

    session = onnxruntime.InferenceSession(artifact / "model.onnx", providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def step(tokens: np.ndarray, past: Sequence[Any]) -> tuple[np.ndarray, Sequence[Any]]:
        last = np.array([tokens.shape[1] - 1])
        scores, *present = session.run(None, dict(zip(names, [tokens, last, *past], strict=True)))
        return scores, present

    return step


def step_of_openvino(artifact: Path) -> Step:
    """Return a call of a compiled model, in fp32: OpenVINO would compute in bfloat16 on some CPUs."""
    import openvino

    compiled = openvino.Core().compile_model(
        artifact / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )

    def step(tokens: np.ndarray, past: Sequence[Any]) -> tuple[np.ndarray, Sequence[Any]]:
        last = np.array([tokens.shape[1] - 1])
        answers = compiled([tokens, last, *past])
        scores, *present = (np.array(answers[place]) for place in range(len(past) + 1))
        return scores, present

    return step


def step_of_torch(artifact: Path) -> Step:
    """Return a call of a package."""
    from torch._inductor import aoti_load_package

    model = aoti_load_package(str(artifact / "model.pt2"))

    def step(tokens: np.ndarray, past: Sequence[Any]) -> tuple[np.ndarray, Sequence[Any]]:
        last = torch.tensor([tokens.shape[1] - 1])
        kept = [part if isinstance(part, torch.Tensor) else torch.from_numpy(part) for part in past]
        with torch.inference_mode():
            scores, *present = model(torch.from_numpy(tokens), last, *kept)
        return scores.numpy(), present

    return step


def continue_by_generate(folder: Path) -> Continue:
    """Return what continues a prompt by the generation of transformers."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def continued(prompt: np.ndarray, count: int) -> np.ndarray:
        tokens = torch.from_numpy(prompt).unsqueeze(0)
        mask = torch.ones_like(tokens)
        chosen = model.generate(tokens, attention_mask=mask, do_sample=False, max_new_tokens=count)
        return np.asarray(chosen[0, len(prompt) :].numpy())

    return continued


# The comparison -----------------------------------------------------------------------------------


@frozen
class Built:
    """A decoder of a folder as a config has built it."""

    config: str
    #: The decoder in eager mode, with what qx reads texts by.
    model: Any
    #: What the config has made; None for eager mode, which serves the model itself.
    artifact: Any

    @property
    def by_hand(self) -> Continue:
        """What continues a prompt with the runtime alone."""
        shape = self.artifact.details["decoder"]["cache_shape"]
        return continue_by_hand(self.config, self.artifact.folder, shape)

    @property
    def subject(self) -> Any:
        """What qx's loader serves, made after all builds: it changes how torch records operations."""
        from qx_plugins.language_outputs import LOG_LIKELIHOODS, LOGITS
        from qx_plugins.loaders.torch_eager import subject_of

        if self.artifact is None:
            return subject_of(self.model, (LOGITS, LOG_LIKELIHOODS))
        loader = import_module(f"qx_plugins.loaders.{self.artifact.loader}")
        return loader.load(self.artifact, Context(folder=self.artifact.folder))


def build(folder: Path, config: str, place: Path) -> Built:
    """Build the decoder of a folder by a config, into a new folder."""
    from qx_plugins.networks.hf_models import make_transformers_model

    model: Any = make_transformers_model(f"hf:{folder}", Context(offline=True), {}).eval()
    if config == "fp32_baseline":
        return Built(config, model, None)
    place.mkdir(parents=True)
    plugin = import_module(f"qx_plugins.configs.{config}")
    options = {option.name: option.default for option in plugin.describe().options}
    tokens = torch.arange(64).unsqueeze(0) % model.decoder.model.config.vocab_size
    return Built(config, model, plugin.convert(model, (tokens,), Context(folder=place, options=options)))


def compare(
    built: Built, generated: np.ndarray, prompts: Sequence[np.ndarray], count: int = TOKENS
) -> dict[str, Any]:
    """Return for how many prompts the tokens by qx are those without it.

    ``generated`` ``[prompts, count]`` are the tokens by transformers.
    """
    by_hand = generated if built.artifact is None else continue_all(built.by_hand, prompts, count)
    subject = built.subject
    by_qx = continue_all(continue_by_qx(subject, refills=True), prompts, count)
    carried = continue_all(continue_by_qx(subject, refills=False), prompts, count)
    return {
        "config": built.config,
        "prompts": len(prompts),
        "tokens": count,
        "same": _same(by_qx, by_hand),
        "same_carried": _same(carried, by_hand),
        "same_as_generate": _same(by_qx, generated),
        "first_difference": min(_differences(by_qx, by_hand), default=None),
        "different_tokens": len(np.unique(by_qx)),
        "largest_error": largest_error(subject, built.model.decoder, prompts),
    }


def largest_error(subject: Any, decoder: Any, prompts: Sequence[np.ndarray]) -> dict[str, float]:
    """Return by how much scores differ from those of eager mode, as a share of the largest, by kind of call.

    Eager mode reads each text as a whole, without a cache.
    """
    from qx_plugins.language_outputs import DECODE, LOGITS, PREFILL

    errors = {PREFILL: 0.0, DECODE: 0.0}
    for prompt in prompts:
        with torch.inference_mode():
            expected = decoder(torch.from_numpy(prompt).unsqueeze(0))[:, -1].numpy()
        native = subject.prepare({"tokens": prompt[np.newaxis]})
        for kind, largest in errors.items():
            subject.reset(native, kind)
            scores = subject.outputs(subject.kinds[kind](native))[LOGITS]
            errors[kind] = max(largest, float(np.abs(scores - expected).max() / np.abs(expected).max()))
    return errors


def continue_all(continued: Continue, prompts: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Return the tokens ``[prompts, count]`` that continue each prompt."""
    return np.stack([continued(prompt, count) for prompt in prompts])


def _same(ours: np.ndarray, theirs: np.ndarray) -> int:
    """Return the number of prompts after which all tokens are the same."""
    return int((ours == theirs).all(axis=1).sum())


def _differences(ours: np.ndarray, theirs: np.ndarray) -> Iterator[int]:
    """Yield the place of the first other token after each prompt that has one."""
    for row in ours != theirs:
        if row.any():
            yield int(row.argmax())


def main() -> None:
    """Build all, compare, print a table, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", choices=MODELS, help="a decoder, in place of all")
    parser.add_argument("--config", action="append", choices=CONFIGS, help="a config, in place of all")
    arguments = parser.parse_args()
    prompts, rows = read_prompts(), []
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        built: dict[str, list[Built]] = {}
        for kind in arguments.model or MODELS:
            save_model(kind, top / kind)
            built[kind] = []
            for config in arguments.config or CONFIGS:
                print(f"{kind}: building {config}", file=sys.stderr)
                built[kind].append(build(top / kind, config, top / "artifacts" / kind / config))
        for kind, entries in built.items():
            generated = continue_all(continue_by_generate(top / kind), prompts, TOKENS)
            for entry in entries:
                row = compare(entry, generated, prompts)
                rows.append({"model": kind, **row})
                print(
                    f"{kind:8}{entry.config:28}{row['same']:3} of {row['prompts']} prompts as by hand, "
                    f"{row['same_carried']:3} with a cache that is carried on, "
                    f"{row['same_as_generate']:3} as generate(), errors {row['largest_error']}",
                    file=sys.stderr,
                )
    keep("generation", {"rows": rows})


if __name__ == "__main__":
    main()
