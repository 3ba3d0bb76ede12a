"""What configs of ncnn can say of a model before anything is built. torch is imported in functions only."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from qx import hookimpl
from qx_plugins.recipes import treatable

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl(specname="can_treat")
def by_pnnx(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> None:
    """The hook of configs that have pnnx convert the model for ncnn. It is converted once, whoever asks."""
    treatable.by_export(model, example_inputs)

    def convert() -> None:
        from qx_plugins.runtimes.ncnn.converting import converted, tried

        inputs, _ = tried(model, example_inputs)
        with TemporaryDirectory(prefix="qx-") as folder:
            converted(model, inputs, Path(folder))

    treatable.attempt_once("pnnx", model, convert)
