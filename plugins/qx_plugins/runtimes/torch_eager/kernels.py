"""Replacements for 8-bit modules of torch whose kernels compute wrong numbers.

The errors occur with torch 2.15 on a CPU with AVX-512. PReLU multiplies positive values by the slope, too.
Group and instance normalization of channels-last images are wrong for batches of more items than an image has
pixels, from that item on. Transposed convolutions are wrong for most shapes: with oneDNN where inputs and
outputs differ in number, with FBGEMM where kernels are 2 x 2. It imports torch: import it
inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.ao.nn import quantized
from torch.nn import functional

#: Type of torch's own ``forward`` of these layers, which has no annotations.
_Forward = Callable[[torch.Tensor], torch.Tensor]


class PReLU(quantized.PReLU):
    """A PReLU that multiplies in float32; inputs, outputs and weights are in 8 bits."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        outputs = functional.prelu(values.dequantize(), self.weight.dequantize())
        return torch.quantize_per_tensor(outputs, self.scale, self.zero_point, torch.quint8)


class GroupNorm(quantized.GroupNorm):
    """A normalization that lays tensors out in row-major order first."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        normalize: _Forward = super().forward
        return normalize(values.contiguous())


class InstanceNorm1d(quantized.InstanceNorm1d):
    """A normalization that lays tensors out in row-major order first."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        normalize: _Forward = super().forward
        return normalize(values.contiguous())


class InstanceNorm2d(quantized.InstanceNorm2d):
    """A normalization that lays tensors out in row-major order first."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        normalize: _Forward = super().forward
        return normalize(values.contiguous())


class InstanceNorm3d(quantized.InstanceNorm3d):
    """A normalization that lays tensors out in row-major order first."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        normalize: _Forward = super().forward
        return normalize(values.contiguous())


class ConvTranspose1d(quantized.ConvTranspose1d):
    """A transposed convolution in float32; inputs, outputs and weights are in 8 bits."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return _convolved(functional.conv_transpose1d, self, values)


class ConvTranspose2d(quantized.ConvTranspose2d):
    """A transposed convolution in float32; inputs, outputs and weights are in 8 bits."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return _convolved(functional.conv_transpose2d, self, values)


class ConvTranspose3d(quantized.ConvTranspose3d):
    """A transposed convolution in float32; inputs, outputs and weights are in 8 bits."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return _convolved(functional.conv_transpose3d, self, values)


def _convolved(function: Callable[..., torch.Tensor], layer: Any, values: torch.Tensor) -> torch.Tensor:
    weight, bias = layer.weight().dequantize(), layer.bias()
    sizes = (layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)
    outputs = function(values.dequantize(), weight, bias, *sizes)
    return torch.quantize_per_tensor(outputs, layer.scale, layer.zero_point, torch.quint8)


REPLACEMENTS: Mapping[type, type] = {
    quantized.PReLU: PReLU,
    quantized.GroupNorm: GroupNorm,
    quantized.InstanceNorm1d: InstanceNorm1d,
    quantized.InstanceNorm2d: InstanceNorm2d,
    quantized.InstanceNorm3d: InstanceNorm3d,
    quantized.ConvTranspose1d: ConvTranspose1d,
    quantized.ConvTranspose2d: ConvTranspose2d,
    quantized.ConvTranspose3d: ConvTranspose3d,
}
#: Layers and functions that torch.fx leaves in float32 instead. It cannot leave PReLU in float32.
WRONG_KERNELS = (
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, functional.instance_norm),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d),
)


def replace_wrong_kernels(model: nn.Module) -> nn.Module:
    """Replace quantized modules that compute wrong numbers, in place, and return the model."""
    for module in model.modules():
        if (replacement := REPLACEMENTS.get(type(module))) is not None:
            module.__class__ = replacement
    return model
