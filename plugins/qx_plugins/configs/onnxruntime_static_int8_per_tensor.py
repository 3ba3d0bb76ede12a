"""Convolutions and linear layers in int8, one scale for all weights of a layer; ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, Rounding, hookimpl
from qx_plugins.recipes import layer_names, prechecks
from qx_plugins.recipes.bit_widths import ACTIVATION_BITS, WEIGHT_BITS, activation_bits, weight_bits
from qx_plugins.recipes.calibration import keep_calibration_batches
from qx_plugins.runtimes import EXPORTING
from qx_plugins.runtimes.onnxruntime import CONVERTING

if TYPE_CHECKING:
    import torch
    from torch import nn

    from qx import Batch


@hookimpl
def describe() -> Config:
    return Config(
        name="onnxruntime_static_int8_per_tensor",
        summary="Static int8, calibrated, in ONNX Runtime; one scale for each weight tensor.",
        requires=CONVERTING,
        extra="onnxruntime",
        imports=EXPORTING,
        float_layers=True,
        calibration=True,
        options=[WEIGHT_BITS, ACTIVATION_BITS],
        runtime_baseline="onnxruntime_fp32",
        counterpart="static_int8_per_tensor",
    )


check_model = prechecks.check_onnx_or_export
quantized_layers = layer_names.layers_of_graphs


@hookimpl
def calibrate(model: nn.Module, batches: Sequence[Batch]) -> nn.Module:
    return keep_calibration_batches(model, batches)


@hookimpl
def rounding(context: Context) -> Rounding:
    return Rounding(
        weight_bits=weight_bits(context), per_channel=False, activation_bits=activation_bits(context)
    )


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.runtimes.onnxruntime.converting import build_static_artifact

    return build_static_artifact(model, example_inputs, context, per_channel=False)
