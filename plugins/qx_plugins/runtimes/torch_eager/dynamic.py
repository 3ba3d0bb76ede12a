"""Dynamic quantization in eager mode, shared by its configs. It imports torch: import it inside functions."""

from __future__ import annotations

import torch
from torch import nn
from torch.ao.quantization import quantize_dynamic

from qx import Context, float_layers


def quantize_weights(model: nn.Module, context: Context, kinds: set[type[nn.Module]] | None) -> nn.Module:
    """Quantize the weights of layers of these kinds to int8, in place; None: all kinds that torch knows.

    The layers of the option ``float_layers`` stay as they are: their inputs and outputs are in float anyway.
    """
    in_float = float_layers(model, context)
    kept = [layer for name, layer in model.named_modules() if name in in_float]
    for layer in kept:
        layer.qconfig = None
    quantized: nn.Module = quantize_dynamic(model, kinds, dtype=torch.qint8, inplace=True)
    return quantized
