"""Weights and arithmetic in bfloat16, compiled ahead of time by Inductor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, hookimpl
from qx_plugins.recipes import prechecks
from qx_plugins.runtimes import EXPORTING
from qx_plugins.runtimes.aot_inductor.compiling import (
    COMPILERS,
    KERNEL_PROFILE,
    build_package,
    compute_references,
)

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="inductor_bf16",
        summary="bfloat16, compiled by Inductor; no calibration. Slow without avx512_bf16 or amx_bf16.",
        programs=COMPILERS,
        imports=EXPORTING,
        options=(KERNEL_PROFILE,),
        runtime_baseline="inductor_fp32",
    )


check_model = prechecks.check_export


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.recipes.bfloat16 import Bfloat16

    expected = compute_references(model, example_inputs)
    return build_package(Bfloat16(model), example_inputs, context, expected)
