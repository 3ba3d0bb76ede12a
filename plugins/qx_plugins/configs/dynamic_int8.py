"""Linear layers with int8 weights; activations are quantized at each call by the range of the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Config, Unsupported, hookimpl

if TYPE_CHECKING:
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="dynamic_int8",
        summary="Linear layers with int8 weights, activations quantized at run time; no calibration.",
    )


@hookimpl
def check_model(model: nn.Module) -> None:
    import torch

    from qx_plugins.recipes.tracing import check_layers

    if not any(type(layer) is torch.nn.Linear for layer in model.modules()):
        check_layers(model)
        raise Unsupported(f"{type(model).__name__} has no linear layer, and this config quantizes no other")


@hookimpl
def convert(model: nn.Module) -> nn.Module:
    import torch
    from torch.ao.quantization import quantize_dynamic

    from qx_plugins.recipes.transformers import avoid_fused_kernels

    avoid_fused_kernels(model)
    quantized: nn.Module = quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)
    return quantized
