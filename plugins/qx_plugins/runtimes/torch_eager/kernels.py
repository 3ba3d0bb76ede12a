"""8-bit modules of torch whose kernels give wrong numbers, and what is computed in their place.

Seen with torch 2.15 on a CPU with AVX-512. PReLU: positive values are multiplied by the slope, too. Group and
instance normalization of images whose channels lie together in memory: of a batch of more items than an image
has pixels, the items past that many are wrong. Transposed convolutions: most shapes are wrong, with oneDNN
where inputs and outputs differ in number, with FBGEMM where kernels are 2 x 2. It imports torch: import it
inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.ao.nn import quantized
from torch.nn import functional

#: What torch's own ``forward`` of these layers is; it has no annotations.
_Forward = Callable[[torch.Tensor], torch.Tensor]


class PReLU(quantized.PReLU):
    """Multiplies in float32; inputs, outputs and weights are in 8 bits."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        outputs = functional.prelu(values.dequantize(), self.weight.dequantize())
        return torch.quantize_per_tensor(outputs, self.scale, self.zero_point, torch.quint8)


class GroupNorm(quantized.GroupNorm):
    """Normalizes tensors in row-major order."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        normalize: _Forward = super().forward
        return normalize(values.contiguous())


class InstanceNorm1d(quantized.InstanceNorm1d):
    """Normalizes tensors in row-major order."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        normalize: _Forward = super().forward
        return normalize(values.contiguous())


class InstanceNorm2d(quantized.InstanceNorm2d):
    """Normalizes tensors in row-major order."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        normalize: _Forward = super().forward
        return normalize(values.contiguous())


class InstanceNorm3d(quantized.InstanceNorm3d):
    """Normalizes tensors in row-major order."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        normalize: _Forward = super().forward
        return normalize(values.contiguous())


class ConvTranspose1d(quantized.ConvTranspose1d):
    """Convolves in float32; inputs, outputs and weights are in 8 bits."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return _convolved(functional.conv_transpose1d, self, values)


class ConvTranspose2d(quantized.ConvTranspose2d):
    """Convolves in float32; inputs, outputs and weights are in 8 bits."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return _convolved(functional.conv_transpose2d, self, values)


class ConvTranspose3d(quantized.ConvTranspose3d):
    """Convolves in float32; inputs, outputs and weights are in 8 bits."""

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
#: Layers and functions that torch.fx can leave in float32 altogether. It cannot with PReLU.
WRONG_KERNELS = (
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, functional.instance_norm),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d),
)


def replace_wrong_kernels(model: nn.Module) -> nn.Module:
    """Have the quantized modules of a model compute what they are for. Changes the model in place."""
    for module in model.modules():
        if (replacement := REPLACEMENTS.get(type(module))) is not None:
            module.__class__ = replacement
    return model
