"""Weights stored in half precision, arithmetic in single precision, served by ncnn; no calibration."""

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
        name="ncnn_fp16",
        summary="Weights stored in half precision, in ncnn; arithmetic in single precision, no calibration.",
        requires=CONVERTING,
        extra="ncnn",
        runtime_baseline="ncnn_fp32",
    )


check_model = prechecks.check_conversion


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.runtimes.ncnn.converting import build_artifact

    return build_artifact(model, example_inputs, context, half=True)
