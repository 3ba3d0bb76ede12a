"""The trained model in IEEE single precision, served by OpenVINO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, hookimpl
from qx_plugins.recipes import prechecks
from qx_plugins.runtimes import EXPORTING
from qx_plugins.runtimes.openvino import CACHE, CONVERTING

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="openvino_fp32",
        summary="The trained model in single precision, in OpenVINO: what the runtime itself gains.",
        requires=CONVERTING,
        extra="openvino",
        imports=EXPORTING,
        options=[CACHE],
        counterpart="fp32_baseline",
    )


check_model = prechecks.check_onnx_or_export


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.runtimes.openvino.converting import build_artifact

    return build_artifact(model, example_inputs, context)
