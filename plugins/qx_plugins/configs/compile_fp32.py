"""The trained model in IEEE single precision on a GPU, compiled by torch.compile where it is served."""

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
        name="compile_fp32",
        summary="The trained model in single precision on a GPU, compiled by torch.compile.",
        programs=COMPILERS,
        devices=("cuda",),
        compute_capability="7.0",
        options=(MODE,),
        counterpart="fp32_baseline",
    )


@hookimpl
def check_model(model: nn.Module) -> None:
    from qx_plugins.recipes.graphs import check_not_onnx

    check_not_onnx(model)


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.runtimes.torch_compile.compiling import build_artifact

    return build_artifact(model, example_inputs, context)
