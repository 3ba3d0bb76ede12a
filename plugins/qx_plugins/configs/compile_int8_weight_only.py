"""Weights of linear layers in int8 by torchao on a GPU, all arithmetic in bfloat16; by torch.compile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, hookimpl
from qx_plugins.recipes import roundings
from qx_plugins.runtimes.torch_compile import COMPILERS, MODE, TORCHAO

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="compile_int8_weight_only",
        summary="torchao on a GPU: weights of linear layers in int8, arithmetic in bfloat16; compiled.",
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
    from qx_plugins.recipes.linears import check_linears

    check_not_onnx(model)
    check_linears(model)


@hookimpl
def quantized_layers(model: nn.Module) -> list[str]:
    from qx_plugins.recipes.linears import supported_linears

    return supported_linears(model)


rounding = roundings.weights_alone


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from torchao.quantization import Int8WeightOnlyConfig

    from qx_plugins.runtimes.torch_compile.compiling import build_torchao_artifact

    return build_torchao_artifact(model, example_inputs, context, Int8WeightOnlyConfig())
