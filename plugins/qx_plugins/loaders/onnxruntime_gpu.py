"""Serve ONNX files with ONNX Runtime on a CUDA device, by its own kernels or by TensorRT."""

from __future__ import annotations

from typing import Any

from qx import Artifact, Context, Loader, Weights, hookimpl
from qx_plugins.runtimes.onnxruntime.gpu import SERVING


@hookimpl
def describe() -> Loader:
    return Loader(
        name="onnxruntime_gpu",
        summary="ONNX Runtime on a GPU; torch is imported for the device's memory and its time stamps.",
        # torch first: it loads the libraries of CUDA that ONNX Runtime looks for.
        imports=("torch", "numpy", "onnxruntime"),
        requires=SERVING,
        extra="onnxruntime_gpu",
        devices=("cuda",),
    )


@hookimpl
def load(artifact: Artifact, context: Context) -> Any:
    from qx_plugins.runtimes.onnxruntime.gpu_serving import DeviceSession

    return DeviceSession(artifact, context)


@hookimpl
def read_weights(artifact: Artifact) -> Weights | None:
    from qx_plugins.runtimes.onnxruntime.weights import read

    return read(artifact)
