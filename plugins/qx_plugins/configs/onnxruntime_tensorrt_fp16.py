"""The trained model in float16 where TensorRT finds that faster, in ONNX Runtime on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, Weights, hookimpl
from qx_plugins.recipes import prechecks
from qx_plugins.runtimes.onnxruntime_gpu import CONVERTING, FP16, PROVIDER, TENSORRT

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="onnxruntime_tensorrt_fp16",
        summary="float16 in ONNX Runtime on a GPU, by TensorRT, where it finds that faster.",
        requires=CONVERTING,
        extra="onnxruntime_gpu",
        devices=("cuda",),
        runtime_baseline="onnxruntime_cuda_fp32",
    )


check_model = prechecks.check_onnx_or_export


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from attrs import evolve

    from qx_plugins.runtimes.onnxruntime.converting import build_artifact

    artifact = build_artifact(model, example_inputs, context)
    details = {**artifact.details, PROVIDER: TENSORRT, FP16: True}
    return evolve(artifact, loader="onnxruntime_gpu", details=details)


@hookimpl
def read_weights(artifact: Artifact) -> Weights | None:
    from qx_plugins.runtimes.onnxruntime.weights import read

    return read(artifact)
