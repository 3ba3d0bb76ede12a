"""The trained model in IEEE single precision, served by ncnn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, hookimpl
from qx_plugins.runtimes.ncnn import CONVERTING, prechecks

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="ncnn_fp32",
        summary="The trained model in single precision, in ncnn: what the runtime itself gains.",
        requires=CONVERTING,
        extra="ncnn",
        counterpart="fp32_baseline",
    )


check_model = prechecks.check_conversion


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.runtimes.ncnn.converting import build_artifact

    return build_artifact(model, example_inputs, context)
