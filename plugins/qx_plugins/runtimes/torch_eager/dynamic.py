"""Dynamic quantization in eager mode, shared by its configs. It imports torch: import it inside functions."""

from __future__ import annotations

import torch
from torch import nn
from torch.ao.quantization import default_dynamic_qconfig, per_channel_dynamic_qconfig, quantize_dynamic

from qx import Context, float_layers
from qx_plugins.recipes.weight_scales import is_per_channel

#: The layers that torch quantizes dynamically: linear and recurrent ones.
LINEAR_AND_RECURRENT = frozenset({nn.Linear, nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell})


def quantize_weights(model: nn.Module, context: Context, kinds: frozenset[type[nn.Module]]) -> nn.Module:
    """Quantize the weights of layers of these kinds to int8, in place, as the option ``weight_scales`` says.

    The layers of the option ``float_layers`` stay as they are: their inputs and outputs are in float anyway.
    """
    in_float = float_layers(model, context)
    kept = [layer for name, layer in model.named_modules() if name in in_float]
    for layer in kept:
        layer.qconfig = None
    qconfig = per_channel_dynamic_qconfig if is_per_channel(context) else default_dynamic_qconfig
    quantized: nn.Module = quantize_dynamic(
        model, dict.fromkeys(kinds, qconfig), dtype=torch.qint8, inplace=True
    )
    return quantized
