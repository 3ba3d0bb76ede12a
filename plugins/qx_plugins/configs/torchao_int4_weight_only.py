"""Weights of linear layers in 4 bits by torchao, all arithmetic in bfloat16; compiled by Inductor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from qx import Artifact, Config, Context, Option, Unsupported, float_layers, hookimpl
from qx_plugins.recipes import prechecks, roundings
from qx_plugins.runtimes import EXPORTING
from qx_plugins.runtimes.aot_inductor.compiling import (
    COMPILERS,
    KERNEL_PROFILE,
    build_package,
    compute_references,
)
from qx_plugins.runtimes.aot_inductor.pt2e import TORCHAO

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Number of outputs that the kernel computes at once.
OUTPUTS = 16
#: Group sizes, all multiples of the first: a row that it does not divide is not divided by any other.
GROUP_SIZES = (32, 64, 128, 256)


@hookimpl
def describe() -> Config:
    return Config(
        name="torchao_int4_weight_only",
        summary="torchao: weights of linear layers in 4 bits, arithmetic in bfloat16; compiled by Inductor.",
        requires=TORCHAO,
        extra="torchao",
        imports=EXPORTING,
        programs=COMPILERS,
        float_layers=True,
        options=(
            Option(
                name="group_size",
                default=GROUP_SIZES[0],
                choices=GROUP_SIZES,
                help="Weights of a row that share a scale and a zero point.",
            ),
            KERNEL_PROFILE,
        ),
        runtime_baseline="inductor_fp32",
    )


@hookimpl
def check_model(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> None:
    from qx_plugins.recipes.linears import check_linears, multiples

    check_linears(model, multiples(GROUP_SIZES[0], OUTPUTS))
    prechecks.check_export(model, example_inputs, context)


@hookimpl
def quantized_layers(model: nn.Module, context: Context) -> list[str]:
    from qx_plugins.recipes.linears import multiples, supported_linears

    return supported_linears(model, multiples(context.options["group_size"], OUTPUTS))


rounding = roundings.four_bits_by_group


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.recipes.bfloat16 import Bfloat16
    from qx_plugins.recipes.linears import left_in_float, multiples, quantize_linears

    in_float = float_layers(model, context)
    expected = compute_references(model, example_inputs)
    try:
        from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig
    except ImportError as error:
        raise Unsupported(f"this version of torchao has no 4-bit weights for CPUs: {error}") from error
    size = context.options["group_size"]
    recipe = PrototypeInt4WeightOnlyConfig(group_size=size)
    notes = left_in_float(model, in_float, multiples(size, OUTPUTS))
    model = quantize_linears(Bfloat16(model), recipe, in_float, multiples(size, OUTPUTS))
    artifact = build_package(model, example_inputs, context, expected)
    return evolve(artifact, notes=[*artifact.notes, *notes])
