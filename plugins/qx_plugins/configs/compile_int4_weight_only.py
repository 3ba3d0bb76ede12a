"""Weights of linear layers in 4 bits by torchao on a GPU, all arithmetic in bfloat16; by torch.compile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, Option, hookimpl
from qx_plugins.recipes import roundings
from qx_plugins.runtimes.torch_compile import COMPILERS, MODE, TORCHAO

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Number of outputs that the kernel computes at once.
OUTPUTS = 8
#: Group sizes, all multiples of the first: a row that it does not divide is not divided by any other.
GROUP_SIZES = (32, 64, 128, 256)


@hookimpl
def describe() -> Config:
    return Config(
        name="compile_int4_weight_only",
        summary="torchao on a GPU: weights of linear layers in 4 bits, arithmetic in bfloat16; compiled.",
        requires=TORCHAO,
        extra="torchao",
        programs=COMPILERS,
        devices=("cuda",),
        compute_capability="8.0",
        float_layers=True,
        options=(
            Option(
                name="group_size",
                default=128,
                choices=GROUP_SIZES,
                help="Weights of a row that share a scale and a zero point.",
            ),
            MODE,
        ),
        runtime_baseline="compile_fp32",
    )


@hookimpl
def check_model(model: nn.Module) -> None:
    from qx_plugins.recipes.graphs import check_not_onnx
    from qx_plugins.recipes.linears import check_linears, multiples

    check_not_onnx(model)
    check_linears(model, multiples(GROUP_SIZES[0], OUTPUTS))


@hookimpl
def quantized_layers(model: nn.Module, context: Context) -> list[str]:
    from qx_plugins.recipes.linears import multiples, supported_linears

    return supported_linears(model, multiples(context.options["group_size"], OUTPUTS))


rounding = roundings.four_bits_by_group


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from torchao.quantization import Int4WeightOnlyConfig
    from torchao.quantization.quantize_.workflows import Int4PackingFormat

    from qx_plugins.recipes.linears import multiples
    from qx_plugins.runtimes.torch_compile.compiling import build_torchao_artifact

    size = int(context.options["group_size"])
    recipe = Int4WeightOnlyConfig(
        # The kernel that torch itself has: other formats need further packages.
        group_size=size,
        int4_packing_format=Int4PackingFormat.TILE_PACKED_TO_4D,
    )
    return build_torchao_artifact(model, example_inputs, context, recipe, multiples(size, OUTPUTS))
