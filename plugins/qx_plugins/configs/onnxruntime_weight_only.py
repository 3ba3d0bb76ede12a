"""Weights of linear layers in groups of 4 or 8 bits, arithmetic in fp32 or int8, in ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from qx import Artifact, Config, Context, Option, Weights, float_layers, hookimpl
from qx_plugins.recipes import layer_names, prechecks
from qx_plugins.runtimes import EXPORTING
from qx_plugins.runtimes.onnxruntime import CONVERTING

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="onnxruntime_weight_only",
        summary="Weights of linear layers in 4 or 8 bits by group (MatMulNBits), in ONNX Runtime.",
        requires=CONVERTING,
        extra="onnxruntime",
        imports=EXPORTING,
        float_layers=True,
        options=(
            Option(name="bits", default=4, choices=(4, 8), help="Bits of a weight."),
            Option(
                name="group_size",
                default=32,
                choices=(16, 32, 64, 128, 256),
                help="Weights of a row that share a scale and a zero point.",
            ),
            Option(
                name="method",
                default="rtn",
                choices=("rtn", "hqq"),
                help="How weights are rounded: to the nearest, or by half-quadratic optimization (4 bits).",
            ),
            Option(
                name="arithmetic",
                default="int8",
                choices=("int8", "fp32"),
                help="Type that activations are multiplied in: rounded at each call, or as they are.",
            ),
        ),
        runtime_baseline="onnxruntime_fp32",
    )


check_model = prechecks.check_products
quantized_layers = layer_names.products


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.recipes.group_sizes import describe_layers, undivided_layers
    from qx_plugins.runtimes.onnxruntime.converting import build_artifact
    from qx_plugins.runtimes.onnxruntime.weight_only import quantize_weights, uneven_groups

    bits, size = int(context.options["bits"]), int(context.options["group_size"])
    padded: list[str] = []

    def quantize(source: Path, target: Path, in_float: list[str]) -> None:
        padded.extend(uneven_groups(source, size, in_float))
        quantize_weights(
            source,
            target,
            in_float,
            bits=bits,
            group_size=size,
            method=str(context.options["method"]),
            in_int8=context.options["arithmetic"] == "int8",
        )

    artifact = build_artifact(model, example_inputs, context, quantize, reduces=False)
    if not padded:
        return artifact
    # A graph from a file has no layers with names: there the products are named.
    layers = undivided_layers(model, size, float_layers(model, context))
    shown = f"layer {describe_layers(layers)}" if layers else ", ".join(padded)
    note = f"groups of {size} do not divide the inputs of {shown}: the last group is padded with 0"
    return evolve(artifact, notes=[*artifact.notes, note])


@hookimpl
def read_weights(artifact: Artifact) -> Weights | None:
    from qx_plugins.runtimes.onnxruntime.weight_only import unpacked

    weights = artifact.read_weights()
    return None if weights is None else evolve(weights, layers=unpacked(weights.layers))
