"""Read the weights in a GGUF file."""

from __future__ import annotations

import re
from math import prod

from qx import Artifact, StoredWeight, Weights

#: Number of bits in the name of a type, such as ``q4_k`` and ``f16``.
BITS = re.compile(r"^[a-z]+(\d+)")


def read(artifact: Artifact) -> Weights:
    """Return the tensors of two dimensions, with the bits of a weight without those of scales."""
    import gguf

    tensors = gguf.GGUFReader(artifact.folder / artifact.files[0]).tensors
    layers = {}
    for tensor in tensors:
        shape = [int(size) for size in tensor.shape]
        if len(shape) < 2:
            continue
        kind = tensor.tensor_type.name.lower()
        match = BITS.match(kind)
        assert match is not None
        layers[tensor.name] = StoredWeight(elements=prod(shape), bits=int(match[1]), type=kind)
    return Weights(layers=layers, engine="llama.cpp")
