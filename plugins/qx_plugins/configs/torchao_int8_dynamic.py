"""Linear layers in int8 by torchao, activations quantized at each call, row by row; compiled by Inductor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, float_layers, hookimpl
from qx_plugins.recipes import layer_names, prechecks
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


@hookimpl
def describe() -> Config:
    return Config(
        name="torchao_int8_dynamic",
        summary="torchao: linear layers in int8, activations quantized at run time; compiled by Inductor.",
        requires=TORCHAO,
        extra="torchao",
        imports=EXPORTING,
        programs=COMPILERS,
        options=(KERNEL_PROFILE,),
        float_layers=True,
        runtime_baseline="inductor_fp32",
    )


check_model = prechecks.check_linears_and_export
quantized_layers = layer_names.linears_and_their_kinds


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig

    from qx_plugins.recipes.linears import quantize_linears

    in_float = float_layers(model, context)
    expected = compute_references(model, example_inputs)
    model = quantize_linears(model, Int8DynamicActivationInt8WeightConfig(), in_float)
    return build_package(model, example_inputs, context, expected)
