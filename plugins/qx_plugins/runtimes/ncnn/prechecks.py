"""What configs of ncnn can say of a model before anything is built. torch is imported in functions only."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from qx import hookimpl
from qx_plugins.recipes import prechecks

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl(specname="can_treat")
def check_conversion(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> None:
    """The hook of configs that have pnnx convert the model for ncnn. It is converted once, whoever asks."""
    prechecks.check_export(model, example_inputs)

    def convert() -> None:
        from qx_plugins.runtimes.ncnn.converting import convert_with_pnnx, run_two_items

        inputs, _ = run_two_items(model, example_inputs)
        with TemporaryDirectory(prefix="qx-") as folder:
            convert_with_pnnx(model, inputs, Path(folder))

    prechecks.check_once("pnnx", model, convert)
