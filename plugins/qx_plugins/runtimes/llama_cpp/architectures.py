"""Describe decoders in the terms of llama.cpp: an architecture, its sizes, and tensors by their names there.

It imports torch: import it inside functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from attrs import frozen
from torch import nn

from qx import Unsupported
from qx_plugins.networks.hf_decoders import TransformersDecoder
from qx_plugins.networks.language_models import Scorer
from qx_plugins.networks.llama import LlamaDecoder

#: Architectures of llama.cpp by those of transformers; all are built like Llama.
ARCHITECTURES: Mapping[str, str] = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
}
#: Ends of names of layers of the three families in transformers, and in the decoder of ``stdlib_lm``.
TRANSFORMERS_LAYERS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OWN_LAYERS = {
    "attention.query": "attn_q",
    "attention.key": "attn_k",
    "attention.value": "attn_v",
    "attention.output": "attn_output",
    "feed_forward.gate": "ffn_gate",
    "feed_forward.up": "ffn_up",
    "feed_forward.down": "ffn_down",
    "norm_attention": "attn_norm",
    "norm_feed_forward": "ffn_norm",
}
#: Names of the layers before the first block and after the last one.
TRANSFORMERS_ENDS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
OWN_ENDS = {"tokens": "token_embd", "norm": "output_norm", "head": "output"}


@frozen(kw_only=True)
class Shape:
    """The sizes of a decoder, as the metadata of a file names them."""

    architecture: str
    vocabulary: int
    positions: int
    width: int
    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    head_width: int
    epsilon: float
    rotary_base: float


@frozen(kw_only=True)
class Tensor:
    """A tensor of a decoder."""

    #: Name in llama.cpp, such as ``blk.0.attn_q.weight``.
    name: str
    #: Names of the model's modules that it belongs to: several where they share it.
    layers: tuple[str, ...]
    values: torch.Tensor


@frozen(kw_only=True)
class Description:
    """A decoder in the terms of llama.cpp."""

    shape: Shape
    tensors: Sequence[Tensor]

    @property
    def matrices(self) -> list[Tensor]:
        """The tensors that are quantized: those of two dimensions."""
        return [tensor for tensor in self.tensors if tensor.values.dim() == 2]


def describe_decoder(model: nn.Module) -> Description:
    """Describe the decoder within a model. Raises ``Unsupported`` for what llama.cpp does not compute."""
    decoder = model.decoder if isinstance(model, Scorer) else None
    if isinstance(decoder, LlamaDecoder):
        return _describe_own(decoder)
    if isinstance(decoder, TransformersDecoder):
        return _describe_transformers(decoder.model)
    raise Unsupported(
        f"llama.cpp serves decoders of language models, and {type(model).__name__} is none that it knows: "
        f"stdlib_lm, or of transformers {', '.join(ARCHITECTURES)}"
    )


def _describe_own(decoder: LlamaDecoder) -> Description:
    own = decoder.shape
    shape = Shape(
        architecture="llama",
        vocabulary=own.vocabulary,
        positions=own.positions,
        width=own.width,
        hidden=own.hidden,
        layers=own.layers,
        heads=own.heads,
        key_value_heads=own.key_value_heads,
        head_width=own.head_width,
        epsilon=float(decoder.norm.eps or 0),
        rotary_base=10_000.0,
    )
    names = _names(OWN_ENDS, "layers", OWN_LAYERS, own.layers)
    return Description(shape=shape, tensors=tuple(_tensors(decoder, "decoder", names, shape)))


def _describe_transformers(model: nn.Module) -> Description:
    config: Any = model.config
    kind = type(model).__name__
    if kind not in ARCHITECTURES:
        raise Unsupported(f"qx writes {', '.join(ARCHITECTURES)} for llama.cpp, and this is {kind}")
    rotary = getattr(config, "rope_parameters", None) or {}
    found = {
        "positions are scaled": rotary.get("rope_type", "default") != "default",
        "attention has a window": _has_window(config),
        f"the activation function is {config.hidden_act}": config.hidden_act not in ("silu", "swish"),
    }
    if reasons := [reason for reason, applies in found.items() if applies]:
        raise Unsupported(f"{kind} is not written for llama.cpp, since {' and '.join(reasons)}")
    heads = config.num_attention_heads
    head_width = getattr(config, "head_dim", None) or config.hidden_size // heads
    if ARCHITECTURES[kind] == "qwen2" and head_width * heads != config.hidden_size:
        raise Unsupported(
            f"llama.cpp wants heads of {kind} to share its width, and {heads} of {head_width} are not "
            f"{config.hidden_size}"
        )
    shape = Shape(
        architecture=ARCHITECTURES[kind],
        vocabulary=config.vocab_size,
        positions=config.max_position_embeddings,
        width=config.hidden_size,
        hidden=config.intermediate_size,
        layers=config.num_hidden_layers,
        heads=heads,
        key_value_heads=config.num_key_value_heads,
        head_width=head_width,
        epsilon=config.rms_norm_eps,
        rotary_base=float(rotary.get("rope_theta") or 10_000.0),
    )
    names = _names(TRANSFORMERS_ENDS, "model.layers", TRANSFORMERS_LAYERS, shape.layers)
    return Description(shape=shape, tensors=tuple(_tensors(model, "decoder.model", names, shape)))


def _has_window(config: Any) -> bool:
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ()
    return "sliding_attention" in kinds or (
        not kinds and window is not None and window < config.max_position_embeddings
    )


def _names(ends: Mapping[str, str], blocks: str, layers: Mapping[str, str], count: int) -> dict[str, str]:
    """Return the names in llama.cpp by those of the modules of a decoder."""
    return dict(ends) | {
        f"{blocks}.{number}.{own}": f"blk.{number}.{other}"
        for number in range(count)
        for own, other in layers.items()
    }


def _tensors(model: nn.Module, prefix: str, names: Mapping[str, str], shape: Shape) -> Iterator[Tensor]:
    """Yield the parameters of a decoder, in float32. Raises ``Unsupported`` for one without a name."""
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        layer = name.rpartition(".")[0]
        if layer not in names:
            raise Unsupported(f"llama.cpp has no place for {prefix}.{name}")
        owners.setdefault(id(parameter), []).append(f"{prefix}.{layer}")
    # A last layer that shares the table of the first has no tensor of its own in a file.
    for name, parameter in model.named_parameters():
        layer, _, kind = name.rpartition(".")
        values = parameter.detach().float()
        other = names[layer]
        if shape.architecture == "llama" and other.endswith(("attn_q", "attn_k")):
            values = _with_pairs_side_by_side(values, shape.head_width)
        yield Tensor(name=f"{other}.{kind}", layers=tuple(owners[id(parameter)]), values=values)


def _with_pairs_side_by_side(rows: torch.Tensor, head_width: int) -> torch.Tensor:
    """Reorder the rows of each head, whose rotation turns number i with i + width / 2, for neighbours.

    llama.cpp's architecture ``llama`` turns neighbours, as the first Llama did.
    """
    heads = rows.unflatten(0, (-1, 2, head_width // 2))
    reordered: torch.Tensor = heads.transpose(1, 2)
    return reordered.reshape(rows.shape)
