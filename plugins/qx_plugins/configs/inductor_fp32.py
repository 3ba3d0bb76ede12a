"""The trained model in fp32, compiled ahead of time: what the other Inductor configs are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, hookimpl
from qx_plugins.recipes import treatable
from qx_plugins.runtimes.aot_inductor.compiling import COMPILERS, compiled, exported

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="inductor_fp32",
        summary="The trained model in fp32, compiled ahead of time by Inductor.",
        programs=COMPILERS,
    )


can_treat = treatable.by_export


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.recipes.fidelity import reference

    expected = reference(model, example_inputs)
    return compiled(exported(model, example_inputs), context.folder, expected)
