"""The trained model in single precision, as ONNX, by TensorRT in ONNX Runtime on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, hookimpl
from qx_plugins.recipes import prechecks
from qx_plugins.runtimes.onnxruntime.gpu import CONVERTING, TENSORRT

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="onnxruntime_tensorrt_fp32",
        summary="Single precision in ONNX Runtime on a GPU, by TensorRT, which rounds to TensorFloat-32.",
        requires=CONVERTING,
        extra="onnxruntime_gpu",
        devices=("cuda",),
        runtime_baseline="onnxruntime_cuda_fp32",
    )


check_model = prechecks.check_onnx_or_export


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.runtimes.onnxruntime.gpu_converting import build_gpu_artifact

    return build_gpu_artifact(model, example_inputs, context, TENSORRT)
