"""A wrapper that runs a model in bfloat16 with float32 inputs and outputs.

It imports torch: import it inside functions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """Return the user's model, without the ``Bfloat16`` wrapper if it has one."""
    return model.model if isinstance(model, Bfloat16) else model


class Bfloat16(nn.Module):
    """Casts floating-point inputs to bfloat16, and floating-point outputs back to float32.

    numpy has no bfloat16, and a deployed model receives the same float32 arrays as before.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.to(torch.bfloat16)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Return the outputs of the model, in float32."""
        cast = (tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor for tensor in inputs)
        outputs = self.model(*cast)
        return _to_float32(outputs) if isinstance(outputs, torch.Tensor) else tuple(map(_to_float32, outputs))


def _to_float32(output: torch.Tensor) -> torch.Tensor:
    return output.float() if output.dtype == torch.bfloat16 else output
