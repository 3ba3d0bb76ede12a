"""Weights of linear layers in groups of 4 or 8 bits, arithmetic in fp32 or int8, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import evolve

from qx import Artifact, Config, Context, Option, Rounding, Unsupported, Weights, float_layers, hookimpl
from qx_plugins.recipes import layer_names, prechecks
from qx_plugins.recipes.calibration import (
    CORRECTION_ITEMS,
    keep_calibration_batches,
    take_calibration_batches,
)
from qx_plugins.runtimes import EXPORTING
from qx_plugins.runtimes.onnxruntime import CONVERTING

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

    from qx import Batch

#: Ways of rounding that ONNX Runtime has for 4 bits alone, in words.
FOR_4_BITS = {"hqq": "half-quadratic optimization", "gptq": "GPTQ"}


@hookimpl
def describe() -> Config:
    return Config(
        name="onnxruntime_weight_only",
        summary="Weights of linear layers in 4 or 8 bits by group (MatMulNBits), in ONNX Runtime.",
        requires=CONVERTING,
        extra="onnxruntime",
        imports=EXPORTING,
        float_layers=True,
        calibration=True,
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
                choices=("rtn", *FOR_4_BITS),
                help="How weights are rounded: to the nearest, by half-quadratic optimization (4 bits), or "
                "so that outputs of a layer for calibration items change least (GPTQ, 4 bits).",
            ),
            Option(
                name="arithmetic",
                default="int8",
                choices=("int8", "fp32"),
                help="Type that activations are multiplied in: rounded at each call, or as they are.",
            ),
            CORRECTION_ITEMS,
        ),
        runtime_baseline="onnxruntime_fp32",
    )


quantized_layers = layer_names.products


@hookimpl
def check_model(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> None:
    _check_method(context)
    prechecks.check_products(model, example_inputs, context)


@hookimpl
def calibrate(model: nn.Module, batches: Sequence[Batch]) -> nn.Module:
    return keep_calibration_batches(model, batches)


@hookimpl
def rounding(context: Context) -> Rounding:
    return Rounding(
        weight_bits=context.options["bits"],
        group_size=context.options["group_size"],
        activation_bits=8 if context.options["arithmetic"] == "int8" else None,
    )


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.networks.decoder_graphs import graph_inputs
    from qx_plugins.recipes.group_sizes import describe_layers, undivided_layers
    from qx_plugins.runtimes.onnxruntime.converting import build_artifact
    from qx_plugins.runtimes.onnxruntime.weight_only import count_inputs, quantize_weights, uneven_groups

    _check_method(context)
    batches = take_calibration_batches(model)
    bits, size = int(context.options["bits"]), int(context.options["group_size"])
    method = str(context.options["method"])
    padded: list[str] = []

    def quantize(source: Path, target: Path, in_float: list[str]) -> None:
        padded.extend(uneven_groups(source, size, in_float))
        quantize_weights(
            source,
            target,
            in_float,
            bits=bits,
            group_size=size,
            method=method,
            items=graph_inputs(model, batches, count_inputs(source)) if method == "gptq" else [],
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


def _check_method(context: Context) -> None:
    """Raise ``Unsupported`` for a way of rounding that ONNX Runtime does not have for so many bits."""
    method, bits = str(context.options.get("method", "rtn")), int(context.options.get("bits", 4))
    if method in FOR_4_BITS and bits != 4:
        raise Unsupported(
            f"ONNX Runtime has {FOR_4_BITS[method]} for 4 bits alone: choose bits=4 or method=rtn, "
            f"not method={method} with bits={bits}"
        )


@hookimpl
def read_weights(artifact: Artifact) -> Weights | None:
    from qx_plugins.runtimes.onnxruntime.weight_only import unpacked

    weights = artifact.read_weights()
    return None if weights is None else evolve(weights, layers=unpacked(weights.layers))
