"""Layers that stay in float within a model in 8 bits. It imports torch: import it inside functions.

In eager mode a layer in 8 bits takes and gives tensors in 8 bits. So a layer in float gets hooks: one that
dequantizes what comes in, and one that quantizes what goes out, by a range that was observed in calibration.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from qx import FloatLayers

#: Attribute of a layer in float that holds its border.
_BORDER = "qx_border"
#: Names of the buffers of a layer in float: how what it gives is quantized.
SCALE, ZERO_POINT = "qx_output_scale", "qx_output_zero_point"


class Border:
    """The border between a layer in float and what is around it, in the form of two hooks of the layer.

    While the model is prepared it observes what the layer gives. Once it is closed, the layer gives tensors
    in 8 bits wherever it gets some: a layer within another layer in float, or behind the end of the part that
    is quantized, gets none.
    """

    def __init__(self, observer: Any) -> None:
        self.observer = observer
        self.is_closed = self.is_quantized = False

    def enter(self, _layer: nn.Module, arguments: Any, named: Any) -> Any:
        """Dequantize the inputs of the layer."""
        tensors = [value for value in pytree.tree_leaves((arguments, named)) if _is_tensor(value)]
        self.is_quantized = any(tensor.is_quantized for tensor in tensors)
        if not self.is_quantized:
            return None
        return pytree.tree_map(_dequantized, (arguments, named))

    def leave(self, layer: nn.Module, _arguments: Any, outputs: Any) -> Any:
        """Observe the outputs of the layer, or quantize them where its inputs were quantized."""
        if not self.is_closed:
            for value in pytree.tree_leaves(outputs):
                if _is_float(value):
                    self.observer(value.detach())
            return None
        if not self.is_quantized:
            return None
        scale, zero_point = getattr(layer, SCALE), getattr(layer, ZERO_POINT)

        def quantized(value: Any) -> Any:
            if not _is_float(value):
                return value
            return torch.quantize_per_tensor(value, scale, zero_point, torch.quint8)

        return pytree.tree_map(quantized, outputs)


def keep_in_float(model: nn.Module, layers: FloatLayers, observer: Any) -> None:
    """Leave layers of a model in float, before it is prepared; ``observer`` makes what observes outputs.

    The names are those before the model was fused: a layer that was fused with what follows has kept its own.
    """
    for name, layer in model.named_modules():
        if name in layers:
            layer.qconfig = None
            border = Border(observer())
            setattr(layer, _BORDER, border)
            layer.register_forward_pre_hook(border.enter, with_kwargs=True)
            layer.register_forward_hook(border.leave)


def close_borders(model: nn.Module) -> None:
    """Have the layers in float of a converted model quantize their outputs, by the ranges that were seen."""
    for layer in model.modules():
        border = getattr(layer, _BORDER, None)
        if border is None:
            continue
        # Of a layer that is never called by itself nothing was seen, and torch has a default for that.
        scale, zero_point = border.observer.calculate_qparams()
        layer.register_buffer(SCALE, scale.float().reshape(()))
        layer.register_buffer(ZERO_POINT, zero_point.long().reshape(()))
        border.is_closed, border.observer = True, None


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def _is_float(value: Any) -> bool:
    return _is_tensor(value) and not value.is_quantized and value.is_floating_point()


def _dequantized(value: Any) -> Any:
    return value.dequantize() if _is_tensor(value) and value.is_quantized else value
