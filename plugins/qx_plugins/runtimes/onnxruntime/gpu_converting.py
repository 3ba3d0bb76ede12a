"""Convert models to ONNX Runtime on CUDA devices, shared by its configs. It imports torch."""

from __future__ import annotations

import torch
from attrs import evolve
from torch import nn

from qx import Artifact, Context
from qx_plugins.runtimes.onnxruntime.converting import build_artifact
from qx_plugins.runtimes.onnxruntime.gpu import FP16, PROVIDER


def build_gpu_artifact(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    context: Context,
    provider: str,
    *,
    fp16: bool = False,
) -> Artifact:
    """Export the model to ONNX for a provider of ONNX Runtime that computes on a CUDA device.

    ``fp16`` says whether TensorRT may compute in float16. A decoder becomes a graph without a cache, which
    sessions on a device do not keep. Raises ``Unsupported`` where the model cannot be exported.
    """
    artifact = build_artifact(model, example_inputs, context, with_cache=False)
    details = {**artifact.details, PROVIDER: provider, FP16: fp16}
    return evolve(artifact, loader="onnxruntime_gpu", details=details)
