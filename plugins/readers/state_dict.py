"""``.pt``: a state dict of torch's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx_plugins.readers import Weights, layer

if TYPE_CHECKING:
    import torch


def read(path: Path, details: Mapping[str, Any]) -> Weights | None:
    """The tensors of two or more dimensions; None for a file that is no state dict."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        # Whatever else the file holds (a script module, say), the unpickler raises what it runs into.
        return None
    if not isinstance(state, Mapping):
        return None
    return Weights(
        {
            name: layer(tensor.numel(), 8 * tensor.element_size(), str(tensor.dtype))
            for name, value in state.items()
            for tensor in _tensors(value)
            if tensor.dim() >= 2
        }
    )


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor in a value of a state dict; packed weights lie in tuples, which may be nested."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
