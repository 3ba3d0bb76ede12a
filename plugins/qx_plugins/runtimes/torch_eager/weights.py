"""Read the weights in a state dict of torch (``.pt``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qx import Artifact, StoredWeight, Weights

if TYPE_CHECKING:
    from pathlib import Path

    import torch


def read(artifact: Artifact) -> Weights | None:
    """Return the tensors of two or more dimensions; None where a file is no state dict."""
    layers: dict[str, StoredWeight] = {}
    for name in artifact.files:
        weights = _state_dict_weights(artifact.folder / name) if name.endswith(".pt") else None
        if weights is None:
            return None
        layers |= weights
    return Weights(layers=layers)


def _state_dict_weights(path: Path) -> dict[str, StoredWeight] | None:
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        # For other contents (a script module, say) the unpickler may raise anything.
        return None
    if not isinstance(state, Mapping):
        return None
    layers = {}
    for name, value in state.items():
        matrices = [tensor for tensor in _tensors(value) if tensor.dim() >= 2]
        for index, tensor in enumerate(matrices):
            # A recurrent layer packs two matrices, for the input and for the hidden state.
            key = name if len(matrices) == 1 else f"{name}.{index}"
            bits = 8 * tensor.element_size()
            layers[key] = StoredWeight(elements=tensor.numel(), bits=bits, type=str(tensor.dtype))
    return layers


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield every tensor in a value of a state dict; packed weights are in tuples, which may be nested."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
