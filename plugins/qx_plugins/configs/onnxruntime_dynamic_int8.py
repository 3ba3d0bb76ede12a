"""Linear layers with int8 weights, activations quantized at each call by their range; ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, hookimpl
from qx_plugins.recipes import layer_names, prechecks, roundings
from qx_plugins.recipes.weight_scales import WEIGHT_SCALES
from qx_plugins.runtimes import EXPORTING
from qx_plugins.runtimes.onnxruntime import CONVERTING

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="onnxruntime_dynamic_int8",
        summary="Linear layers with int8 weights, activations quantized at run time, in ONNX Runtime.",
        requires=CONVERTING,
        extra="onnxruntime",
        imports=EXPORTING,
        float_layers=True,
        options=(WEIGHT_SCALES,),
        runtime_baseline="onnxruntime_fp32",
        counterpart="dynamic_int8",
    )


check_model = prechecks.check_products
quantized_layers = layer_names.products
rounding = roundings.by_weight_scales


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.runtimes.onnxruntime.converting import build_dynamic_artifact

    # As in torch, convolutions are not quantized.
    return build_dynamic_artifact(model, example_inputs, context, ("MatMul", "Gemm"))
