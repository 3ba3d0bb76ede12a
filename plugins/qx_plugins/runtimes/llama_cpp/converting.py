"""Write a decoder as a GGUF file, and have llama.cpp quantize it.

It imports torch: import it inside functions.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import llama_cpp
import numpy as np
from torch import nn

from qx import Artifact, Context, Unsupported, float_layers
from qx_plugins.recipes.calibration import observe
from qx_plugins.recipes.naming import first_names
from qx_plugins.runtimes.llama_cpp import logs
from qx_plugins.runtimes.llama_cpp.architectures import Description, describe_decoder

if TYPE_CHECKING:
    import torch

    from qx import Batch

FILE = "model.gguf"
#: Number of weights in a block of a K type and of others, which a row must have a multiple of.
K_BLOCK, BLOCK = 256, 32
#: Types of a file, by the names that llama.cpp's users know them by.
TYPES: Mapping[str, int] = {
    "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
    "q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "q5_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "q6_k": llama_cpp.LLAMA_FTYPE_MOSTLY_Q6_K,
    "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
}


def build_artifact(
    model: nn.Module,
    context: Context,
    *,
    kind: str | None,
    cache: str,
    flash_attention: bool = False,
    batches: Sequence[Batch] = (),
) -> Artifact:
    """Write a decoder in float32, or quantized to the type ``kind`` of llama.cpp.

    ``cache`` is the type of the numbers in the cache of keys and values. ``flash_attention`` has llama.cpp
    attend block by block, in 16 bits. With calibration ``batches`` weights
    are rounded by how much the inputs count that they multiply. Raises ``Unsupported``.
    """
    assert context.folder is not None
    logs.silence()
    description = describe_decoder(model)
    target = context.folder / FILE
    notes: list[str] = []
    if kind is None:
        write_file(description, target)
    else:
        in_float = float_layers(model, context)
        plain = context.folder / "float32.gguf"
        write_file(description, plain)
        kept = [
            tensor.name
            for tensor in description.matrices
            if any(layer in in_float for layer in tensor.layers)
        ]
        importance = input_importance(model, description, batches)
        quantize_file(plain, target, kind, kept, importance)
        plain.unlink()
        notes += _other_types(description, target, kind)
    shape = description.shape
    return Artifact(
        folder=context.folder,
        loader="llama_cpp",
        files=(FILE,),
        details={
            "decoder": {
                "cache_shape": [shape.layers, shape.key_value_heads, shape.head_width],
                "cache_type": cache,
            },
            "flash_attention": flash_attention,
            "vocabulary": shape.vocabulary,
        },
        notes=tuple(notes),
    )


def write_file(description: Description, path: Path) -> None:
    """Write a decoder in float32, without a tokenizer: texts are numbers of tokens, as for the model."""
    shape = description.shape
    writer = gguf.GGUFWriter(path, shape.architecture)
    writer.add_context_length(shape.positions)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_value_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rotary_base)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(llama_cpp.LLAMA_FTYPE_ALL_F32)
    writer.add_tokenizer_model("no_vocab")
    for tensor in description.tensors:
        writer.add_tensor(tensor.name, np.ascontiguousarray(tensor.values.numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize_file(
    source: Path,
    target: Path,
    kind: str,
    in_float: Sequence[str] = (),
    importance: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Have llama.cpp write a file with the matrices in a type; those named in ``in_float`` stay in float32.

    ``importance`` has for each matrix, by its name, how much each of its inputs counts. Raises
    ``Unsupported`` where llama.cpp refuses.
    """
    types: dict[str, int] = {}
    if in_float:
        # llama.cpp counts the layers that it chooses a type for, and would give others more bits without
        # those that are named. So it chooses for all of them first.
        quantize_file(source, target, kind, importance=importance)
        types = {
            name: int(gguf.GGMLQuantizationType[chosen.upper()]) for name, chosen in types_of(target).items()
        }
        types |= dict.fromkeys(in_float, int(gguf.GGMLQuantizationType.F32))
        target.unlink()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = TYPES[kind], 1
    if types:
        parameters.token_embedding_type = types["token_embd.weight"]
        parameters.output_tensor_type = types.get("output.weight", types["token_embd.weight"])
        parameters.tt_overrides = _overrides(types)
    if importance:
        parameters.imatrix = _importance_array(importance)
    logs.forget()
    code = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), parameters)
    if code != 0:
        raise Unsupported(f"llama.cpp cannot quantize the decoder to {kind}: {logs.reason()}")


def _overrides(types: Mapping[str, int]) -> Any:
    """Return the array of the types of tensors, which ends with an empty entry."""
    entries = (llama_cpp.llama_model_tensor_override * (len(types) + 1))()
    for entry, (name, kind) in zip(entries, types.items(), strict=False):
        entry.pattern, entry.type = f"^{re.escape(name)}$".encode(), kind
    return entries


def _importance_array(importance: Mapping[str, np.ndarray]) -> Any:
    """Return the array of the importance of inputs, which ends with an empty entry."""
    entries = (llama_cpp.llama_model_imatrix_data * (len(importance) + 1))()
    for entry, (name, values) in zip(entries, importance.items(), strict=False):
        entry.name, entry.size = name.encode(), len(values)
        entry.data = (ctypes.c_float * len(values))(*values.tolist())
    return entries


def input_importance(
    model: nn.Module, description: Description, batches: Sequence[Batch]
) -> dict[str, np.ndarray]:
    """Return the mean square of each input of each linear layer over calibration data, ``[inputs]``.

    Keys are the names of the matrices in llama.cpp, whose tool for the importance matrix computes the same.
    """
    if not batches:
        return {}
    names = {layer: tensor.name for tensor in description.matrices for layer in tensor.layers}
    sums: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}

    def watch(name: str) -> Any:
        def add(_layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            rows = inputs[0].detach().flatten(0, -2).double()
            sums[name] = sums.get(name, 0) + rows.square().sum(dim=0)
            counts[name] = counts.get(name, 0) + len(rows)

        return add

    hooks = [
        layer.register_forward_pre_hook(watch(names[name]))
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and name in names
    ]
    try:
        observe(model, batches)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: (total / counts[name]).float().numpy() for name, total in sums.items()}


def types_of(path: Path) -> dict[str, str]:
    """Return the type of each tensor of a file in small letters, such as ``q4_k``, by its name."""
    return {tensor.name: tensor.tensor_type.name.lower() for tensor in gguf.GGUFReader(path).tensors}


def _other_types(description: Description, path: Path, kind: str) -> list[str]:
    """Return a note about the layers whose rows a type's blocks do not fit, and what they are stored in."""
    types, block = types_of(path), K_BLOCK if "_k" in kind else BLOCK
    other: dict[tuple[int, str], list[str]] = {}
    for tensor in description.matrices:
        inputs = tensor.values.shape[1]
        if inputs % block and types[tensor.name] != "f32":
            other.setdefault((inputs, types[tensor.name]), []).append(tensor.layers[0])
    return [
        f"rows of {inputs} weights are no multiple of {block}, so llama.cpp stores {first_names(layers)} in "
        f"{stored}"
        for (inputs, stored), layers in other.items()
    ]
