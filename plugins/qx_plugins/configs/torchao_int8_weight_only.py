"""Weights of linear layers in int8 by torchao, all arithmetic in bfloat16; compiled by Inductor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from qx import Artifact, Config, Context, float_layers, hookimpl
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

#: Numbers of inputs that the kernel takes are multiples of it: of others it reads beyond the arrays.
INPUTS = 16


@hookimpl
def describe() -> Config:
    return Config(
        name="torchao_int8_weight_only",
        summary="torchao: weights of linear layers in int8, arithmetic in bfloat16; compiled by Inductor.",
        requires=TORCHAO,
        extra="torchao",
        imports=EXPORTING,
        programs=COMPILERS,
        options=(KERNEL_PROFILE,),
        float_layers=True,
        runtime_baseline="inductor_fp32",
    )


@hookimpl
def check_model(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> None:
    from qx_plugins.recipes.linears import check_linears, multiples

    check_linears(model, multiples(INPUTS))
    prechecks.check_export(model, example_inputs, context)


@hookimpl
def quantized_layers(model: nn.Module) -> list[str]:
    from qx_plugins.recipes.linears import multiples, supported_linears

    return supported_linears(model, multiples(INPUTS))


rounding = roundings.weights_alone


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from torchao.quantization import Int8WeightOnlyConfig

    from qx_plugins.recipes.bfloat16 import Bfloat16
    from qx_plugins.recipes.linears import left_in_float, multiples, quantize_linears

    in_float = float_layers(model, context)
    expected = compute_references(model, example_inputs)
    # torch's kernel for int8 weights takes bfloat16 inputs: with fp32 it would unpack weights at each call.
    notes = left_in_float(model, in_float, multiples(INPUTS))
    model = quantize_linears(Bfloat16(model), Int8WeightOnlyConfig(), in_float, multiples(INPUTS))
    artifact = build_package(model, example_inputs, context, expected, freezing=False)
    return evolve(artifact, notes=[*artifact.notes, *notes])
