"""Weights and arithmetic in bfloat16, served by OpenVINO; no calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qx import Artifact, Config, Context, cpu_flags, hookimpl
from qx_plugins.recipes import prechecks
from qx_plugins.runtimes import EXPORTING
from qx_plugins.runtimes.openvino import CACHE, CONVERTING

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="openvino_bf16",
        summary="Weights and arithmetic in bfloat16, in OpenVINO; no calibration.",
        requires=CONVERTING,
        extra="openvino",
        imports=EXPORTING,
        options=[CACHE],
        instruction_sets=("bf16",) if "asimd" in cpu_flags() else ("avx512_bf16",),
        runtime_baseline="openvino_fp32",
    )


check_model = prechecks.check_onnx_or_export


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.runtimes.openvino.converting import build_artifact, store_weights_in_bfloat16

    def transform(converted: Any, _: list[str]) -> Any:
        return store_weights_in_bfloat16(converted)

    return build_artifact(model, example_inputs, context, transform, precision="bf16")
