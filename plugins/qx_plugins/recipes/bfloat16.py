"""Wrappers that run a model in bfloat16, or another type of 16 bits, with float32 inputs and outputs.

They import torch: import them inside functions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """Return the user's model, without its wrapper if it has one."""
    return model.model if isinstance(model, InSixteenBits) else model


class InSixteenBits(nn.Module):
    """Casts floating-point inputs to a type of 16 bits, and floating-point outputs back to float32.

    numpy has no bfloat16, and a deployed model receives the same float32 arrays as before.
    """

    #: Type in which the model computes.
    dtype: torch.dtype

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.to(self.dtype)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Return the outputs of the model, in float32."""
        cast = (tensor.to(self.dtype) if tensor.is_floating_point() else tensor for tensor in inputs)
        outputs = self.model(*cast)
        return (
            self._to_float32(outputs)
            if isinstance(outputs, torch.Tensor)
            else tuple(map(self._to_float32, outputs))
        )

    def _to_float32(self, output: torch.Tensor) -> torch.Tensor:
        return output.float() if output.dtype == self.dtype else output


class Bfloat16(InSixteenBits):
    """Computes in bfloat16: 8 bits of exponent, as float32 has, and 7 of mantissa."""

    dtype = torch.bfloat16
