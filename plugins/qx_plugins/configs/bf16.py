"""Weights and arithmetic in bfloat16: half the size, no calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Config, hookimpl

if TYPE_CHECKING:
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="bf16",
        summary="Weights and arithmetic in bfloat16; no calibration. Slow without avx512_bf16 or amx_bf16.",
        devices=("cpu", "cuda"),
    )


@hookimpl
def check_model(model: nn.Module) -> None:
    from qx_plugins.recipes.graphs import check_not_onnx

    check_not_onnx(model)


@hookimpl
def convert(model: nn.Module) -> nn.Module:
    from qx_plugins.recipes.bfloat16 import Bfloat16

    return Bfloat16(model)
