"""Linear layers with int8 weights; activations are quantized at each call by the range of the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Config, Context, Unsupported, hookimpl
from qx_plugins.recipes import layer_names
from qx_plugins.recipes.weight_scales import WEIGHT_SCALES

if TYPE_CHECKING:
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="dynamic_int8",
        summary="Linear layers with int8 weights, activations quantized at run time; no calibration.",
        float_layers=True,
        options=(WEIGHT_SCALES,),
    )


@hookimpl
def check_model(model: nn.Module) -> None:
    import torch

    from qx_plugins.recipes.tracing import check_layers

    if not any(type(layer) is torch.nn.Linear for layer in model.modules()):
        check_layers(model)
        raise Unsupported(f"{type(model).__name__} has no linear layer, and this config quantizes no other")


quantized_layers = layer_names.linear_layers


@hookimpl
def convert(model: nn.Module, context: Context) -> nn.Module:
    import torch

    from qx_plugins.recipes.transformers import avoid_fused_kernels
    from qx_plugins.runtimes.torch_eager.dynamic import quantize_weights

    avoid_fused_kernels(model)
    return quantize_weights(model, context, frozenset({torch.nn.Linear}))
