"""Linear layers in int8 by torchao on a GPU, activations quantized at each call; by torch.compile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, hookimpl
from qx_plugins.runtimes.torch_compile import COMPILERS, MODE, TORCHAO

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Numbers of inputs and outputs that the product of int8 matrices takes are multiples of it.
SIZE = 8


@hookimpl
def describe() -> Config:
    return Config(
        name="compile_int8_dynamic",
        summary="torchao on a GPU: linear layers in int8, activations quantized at run time; compiled.",
        requires=TORCHAO,
        extra="torchao",
        programs=COMPILERS,
        devices=("cuda",),
        compute_capability="8.0",
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
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig

    from qx_plugins.recipes.linears import multiples
    from qx_plugins.runtimes.torch_compile.compiling import build_torchao_artifact

    recipe = Int8DynamicActivationInt8WeightConfig()
    return build_torchao_artifact(model, example_inputs, context, recipe, multiples(SIZE, SIZE))
