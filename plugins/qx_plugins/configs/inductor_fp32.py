"""The trained model in fp32, compiled ahead of time: the runtime baseline of the Inductor configs."""

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
        name="inductor_fp32",
        summary="The trained model in fp32, compiled ahead of time by Inductor.",
        programs=COMPILERS,
        imports=EXPORTING,
        options=(KERNEL_PROFILE,),
    )


check_model = prechecks.check_export


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:

    expected = compute_references(model, example_inputs)
    return build_package(model, example_inputs, context, expected)
