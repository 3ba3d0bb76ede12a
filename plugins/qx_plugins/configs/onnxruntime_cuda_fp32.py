"""The trained model in IEEE single precision, as ONNX, by ONNX Runtime's own kernels on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, hookimpl
from qx_plugins.recipes import prechecks
from qx_plugins.runtimes.onnxruntime.gpu import CONVERTING, CUDA

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="onnxruntime_cuda_fp32",
        summary="Single precision in ONNX Runtime on a GPU, by its own kernels.",
        requires=CONVERTING,
        extra="onnxruntime_gpu",
        devices=("cuda",),
    )


check_model = prechecks.check_onnx_or_export


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.runtimes.onnxruntime.gpu_converting import build_gpu_artifact

    return build_gpu_artifact(model, example_inputs, context, CUDA)
