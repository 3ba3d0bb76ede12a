"""Weights and arithmetic in float16 on a device: half the size, no calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Config, hookimpl

if TYPE_CHECKING:
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="fp16",
        summary="Weights and arithmetic in float16 on a GPU; no calibration. Numbers beyond 65,504 overflow.",
        devices=("cuda",),
    )


@hookimpl
def check_model(model: nn.Module) -> None:
    from qx_plugins.recipes.graphs import check_not_onnx

    check_not_onnx(model)


@hookimpl
def convert(model: nn.Module) -> nn.Module:
    from qx_plugins.recipes.float16 import Float16

    return Float16(model)
