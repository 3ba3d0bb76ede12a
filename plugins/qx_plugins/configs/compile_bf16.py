"""The trained model in bfloat16 on a GPU, compiled by torch.compile where it is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, hookimpl
from qx_plugins.runtimes.torch_compile import COMPILERS, MODE

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="compile_bf16",
        summary="bfloat16 on a GPU, compiled by torch.compile.",
        programs=COMPILERS,
        devices=("cuda",),
        compute_capability="8.0",
        options=(MODE,),
        runtime_baseline="compile_fp32",
        counterpart="bf16",
    )


@hookimpl
def check_model(model: nn.Module) -> None:
    from qx_plugins.recipes.graphs import check_not_onnx

    check_not_onnx(model)


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.runtimes.torch_compile.compiling import build_artifact

    return build_artifact(model, example_inputs, context, dtype="bfloat16")
