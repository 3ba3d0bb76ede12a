"""The trained model in IEEE single precision, as ONNX, served by ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, hookimpl
from qx_plugins.recipes import prechecks
from qx_plugins.runtimes import EXPORTING
from qx_plugins.runtimes.onnxruntime import CONVERTING

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="onnxruntime_fp32",
        summary="The trained model in single precision, in ONNX Runtime: what the runtime itself gains.",
        requires=CONVERTING,
        extra="onnxruntime",
        imports=EXPORTING,
        counterpart="fp32_baseline",
    )


check_model = prechecks.check_onnx_or_export


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.runtimes.onnxruntime.converting import build_artifact

    return build_artifact(model, example_inputs, context)
