"""A module in bfloat16 behind a float32 face. It imports torch: import it inside functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """The model as the user knows it: without the face."""
    return model.model if isinstance(model, Bfloat16) else model


class Bfloat16(nn.Module):
    """Casts floating-point inputs to bfloat16, and floating-point outputs back to float32.

    numpy has no bfloat16, and whoever deploys the model feeds it what he fed it before.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.to(torch.bfloat16)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """What the model gives, in float32."""
        cast = (one.to(torch.bfloat16) if one.is_floating_point() else one for one in inputs)
        outputs = self.model(*cast)
        return outputs.float() if isinstance(outputs, torch.Tensor) else outputs
