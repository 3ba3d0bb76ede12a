"""Weights of a decoder in 4 to 8 bits by llama.cpp's types; activations are rounded to 8 at each call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, Option, Rounding, hookimpl
from qx_plugins.recipes import layer_names
from qx_plugins.recipes.calibration import (
    CORRECTION_ITEMS,
    keep_calibration_batches,
    take_calibration_batches,
)
from qx_plugins.runtimes.llama_cpp import CONVERTING, prechecks

if TYPE_CHECKING:
    import torch
    from torch import nn

    from qx import Batch


@hookimpl
def describe() -> Config:
    return Config(
        name="llama_cpp_weight_only",
        summary="Weights of a decoder in 4 to 8 bits, as a GGUF file such as Q4_K_M, in llama.cpp.",
        requires=CONVERTING,
        extra="llama_cpp",
        float_layers=True,
        calibration=True,
        options=(
            Option(
                name="type",
                default="q4_k_m",
                choices=("q4_0", "q4_k_m", "q5_k_m", "q6_k", "q8_0"),
                help="Type of the file; of `q4_k_m` and `q5_k_m` some layers have more bits.",
            ),
            Option(
                name="cache",
                default="float16",
                choices=("float16", "float32"),
                help="Type of the numbers in the cache of keys and values.",
            ),
            Option(
                name="flash_attention",
                default="off",
                choices=("off", "on"),
                help="Whether attention goes block by block, which takes longer for one token on many CPUs.",
            ),
            Option(
                name="correction",
                default="none",
                choices=("none", "importance_matrix"),
                help="By what weights are rounded: each like any other, or by how much its inputs count.",
            ),
            CORRECTION_ITEMS,
        ),
        runtime_baseline="llama_cpp_fp32",
    )


check_model = prechecks.check_decoder
quantized_layers = layer_names.layers_of_graphs


@hookimpl
def calibrate(model: nn.Module, batches: Sequence[Batch], context: Context) -> nn.Module:
    is_used = context.options["correction"] == "importance_matrix"
    return keep_calibration_batches(model, batches) if is_used else model


@hookimpl
def rounding(context: Context) -> Rounding:
    # Types are named after their bits, and have a scale for 32 weights, those that end in `k` for fewer too.
    return Rounding(weight_bits=int(context.options["type"][1]), group_size=32)


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.runtimes.llama_cpp.converting import build_artifact

    return build_artifact(
        model,
        context,
        kind=str(context.options["type"]),
        cache=str(context.options["cache"]),
        flash_attention=context.options["flash_attention"] == "on",
        batches=take_calibration_batches(model),
    )
