"""LSTM and linear layers with int8 weights, activations quantized at each call; ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from qx import Artifact, Config, Context, Unsupported, hookimpl
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
        name="onnxruntime_dynamic_int8_recurrent",
        summary="LSTM and linear layers with int8 weights, activations quantized at run time; ONNX Runtime.",
        requires=CONVERTING,
        extra="onnxruntime",
        imports=EXPORTING,
        float_layers=True,
        options=(WEIGHT_SCALES,),
        runtime_baseline="onnxruntime_fp32",
        counterpart="dynamic_int8_recurrent",
    )


@hookimpl
def check_model(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> None:
    from torch import nn

    from qx_plugins.recipes.graphs import OnnxModel
    from qx_plugins.recipes.recurrent import check_recurrent

    if isinstance(model, OnnxModel):
        if "LSTM" not in model.operators():
            raise Unsupported(f"{model.form} without an LSTM, and this config is for it")
        return
    # Cells are exported as the products that they are made of.
    quantized = (nn.LSTM, nn.RNNCellBase)
    limit = "of recurrent layers ONNX Runtime quantizes LSTM alone"
    check_recurrent(model, lambda layer: isinstance(layer, quantized), limit)
    prechecks.check_export(model, example_inputs, context)


quantized_layers = layer_names.products_and_lstm
rounding = roundings.by_weight_scales


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from torch import nn

    from qx_plugins.recipes.recurrent import name_layers, recurrent_layers
    from qx_plugins.runtimes.onnxruntime.converting import build_dynamic_artifact

    in_float = {
        name: layer
        for name, layer in recurrent_layers(model).items()
        if isinstance(layer, nn.RNNBase) and not isinstance(layer, nn.LSTM)
    }
    artifact = build_dynamic_artifact(model, example_inputs, context, ("MatMul", "Gemm", "LSTM"))
    if not in_float:
        return artifact
    note = f"ONNX Runtime quantizes LSTM alone, and leaves in float32: {', '.join(name_layers(in_float))}"
    return evolve(artifact, notes=[*artifact.notes, note])
