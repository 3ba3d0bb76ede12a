"""Have torch's transformer layers call their own layers. Light: torch is imported inside functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def avoid_fused_kernels(model: nn.Module) -> nn.Module:
    """Have ``nn.TransformerEncoderLayer`` call its linear layers in eval mode, in place; return the model.

    Otherwise it passes their weights to a fused kernel, which takes no quantized ones, and a whole encoder
    leaves out steps that a mask excludes.
    """
    from torch import nn

    for layer in model.modules():
        if isinstance(layer, nn.TransformerEncoderLayer):
            # By 0 torch says that the activation is one that the kernel lacks.
            layer.activation_relu_or_gelu = 0
        elif isinstance(layer, nn.TransformerEncoder):
            layer.use_nested_tensor = False
    return model
