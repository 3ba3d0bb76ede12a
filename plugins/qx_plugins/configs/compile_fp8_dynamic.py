"""Linear layers in 8-bit floats by torchao on a GPU, activations scaled row by row at each call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, hookimpl
from qx_plugins.runtimes.torch_compile import COMPILERS, MODE, TORCHAO

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Numbers of inputs and outputs that the product of 8-bit floats takes are multiples of it.
SIZE = 16


@hookimpl
def describe() -> Config:
    return Config(
        name="compile_fp8_dynamic",
        summary="torchao on a GPU: linear layers in 8-bit floats, activations scaled at run time; compiled.",
        requires=TORCHAO,
        extra="torchao",
        programs=COMPILERS,
        devices=("cuda",),
        compute_capability="8.9",
        float_layers=True,
        options=(MODE,),
        runtime_baseline="compile_fp32",
    )


@hookimpl
def check_model(model: nn.Module) -> None:
    from qx_plugins.recipes.graphs import check_not_onnx
    from qx_plugins.recipes.linears import check_linears, multiples

    check_not_onnx(model)
    check_linears(model, multiples(SIZE, SIZE))


@hookimpl
def quantized_layers(model: nn.Module) -> list[str]:
    from qx_plugins.recipes.linears import multiples, supported_linears

    return supported_linears(model, multiples(SIZE, SIZE))


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow

    from qx_plugins.recipes.linears import multiples
    from qx_plugins.runtimes.torch_compile.compiling import build_torchao_artifact

    recipe = Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())
    return build_torchao_artifact(model, example_inputs, context, recipe, multiples(SIZE, SIZE))
