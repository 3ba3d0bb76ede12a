"""Name a model by its content, so that what is exported of it is found again, and layers in messages.

It imports torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import torch
from torch import nn

from qx import Lengths

#: Most layers that a message names.
SHOWN = 4


def first_names(layers: Sequence[str]) -> str:
    """Return the first names of layers as words, and how many there are more."""
    more = f" and {len(layers) - SHOWN} more" if len(layers) > SHOWN else ""
    return ", ".join(layers[:SHOWN]) + more


def name_of_model(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], lengths: Lengths | None = None
) -> str:
    """Return a hash of all that decides an export of a workload's model.

    These are its modules with their settings, its parameters and buffers, and what inputs are like. It is
    for models as their workload makes them: what a config has changed in a plain attribute is not seen.
    """
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    described = [
        [(name, type(module).__qualname__, module.training) for name, module in model.named_modules()],
        repr(model),
        [(name, str(tensor.dtype), list(tensor.shape)) for name, tensor in tensors.items()],
        [(str(tensor.dtype), list(tensor.shape)) for tensor in example_inputs],
        repr(lengths),
    ]
    digest = hashlib.sha256(json.dumps(described).encode())
    for tensor in tensors.values():
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
