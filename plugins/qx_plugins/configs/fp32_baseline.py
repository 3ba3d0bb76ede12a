"""The trained model in IEEE single precision, unchanged: the baseline of every other config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Config, hookimpl

if TYPE_CHECKING:
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="fp32_baseline",
        summary="The trained model in IEEE single precision, untouched.",
        reference=True,
    )


@hookimpl
def convert(model: nn.Module) -> nn.Module:
    return model
