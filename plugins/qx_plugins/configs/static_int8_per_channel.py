"""Convolutions and linear layers in int8, with one scale for each output channel of a layer's weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qx import Config, Context, hookimpl
from qx_plugins.recipes import layer_names
from qx_plugins.recipes.calibration import keep_calibration_batches, observe

if TYPE_CHECKING:
    import torch
    from torch import nn

    from qx import Batch


@hookimpl
def describe() -> Config:
    return Config(
        name="static_int8_per_channel",
        summary="Static int8, calibrated; one scale for each output channel of the weights.",
        calibration=True,
        quantizable=True,
        float_layers=True,
    )


quantized_layers = layer_names.static_layers


@hookimpl
def prepare_model(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> nn.Module:
    from torch.ao.quantization import default_per_channel_weight_observer

    from qx_plugins.runtimes.torch_eager.converting import prepare_static

    return prepare_static(model, example_inputs, context, default_per_channel_weight_observer)


@hookimpl
def calibrate(model: nn.Module, batches: Sequence[Batch]) -> nn.Module:
    return keep_calibration_batches(observe(model, batches), batches)


@hookimpl
def convert(model: nn.Module) -> nn.Module:
    from qx_plugins.runtimes.torch_eager.converting import convert_to_int8

    return convert_to_int8(model)
