"""The trained model in IEEE single precision, unchanged: the baseline of every other config.

torch serves it; an ONNX model is served by ONNX Runtime, as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, Converted, hookimpl

if TYPE_CHECKING:
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="fp32_baseline",
        summary="The trained model in IEEE single precision, untouched.",
        reference=True,
        devices=("cpu", "cuda"),
    )


@hookimpl
def convert(model: nn.Module, context: Context) -> nn.Module | Converted | Artifact:
    from qx_plugins.recipes.graphs import GraphModel

    if not isinstance(model, GraphModel):
        return model
    # In a launch there is no folder, and nobody reads notes.
    artifact = None if context.folder is None else model.save_artifact(context.folder)
    return artifact or Converted(module=model, notes=model.notes)
