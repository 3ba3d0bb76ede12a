"""Read the weights in a state dict, those of torchao's classes too. It imports torch inside functions."""

from __future__ import annotations

from typing import Any

from qx import Artifact, StoredWeight, Weights

#: Names of classes of torchao whose elements have fewer bits than the tensors that they are packed into.
FOUR_BITS = "Int4"


def read(artifact: Artifact) -> Weights:
    """Return the tensors of two or more dimensions, with the bits of an element as it is stored."""
    import torch

    if artifact.details["torchao"]:
        import torchao.quantization  # noqa: F401
    state = torch.load(artifact.folder / artifact.files[0], map_location="cpu", weights_only=True)
    return Weights(
        layers={
            name: StoredWeight(elements=tensor.numel(), bits=_bits(tensor), type=_type(tensor))
            for name, tensor in state.items()
            if tensor.dim() >= 2
        }
    )


def _bits(tensor: Any) -> int:
    if type(tensor).__name__.startswith(FOUR_BITS):
        return 4
    return 8 * int(getattr(tensor, "qdata", tensor).element_size())


def _type(tensor: Any) -> str:
    data = getattr(tensor, "qdata", None)
    return str(tensor.dtype) if data is None else f"{type(tensor).__name__} ({data.dtype})"
