"""The hook ``check_model`` of the configs of ncnn. Light: torch is imported inside functions."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from qx import Context, Unsupported, hookimpl
from qx_plugins.recipes import prechecks

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl(specname="check_model")
def check_conversion(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> None:
    """Raise ``Unsupported`` where pnnx cannot convert the model for ncnn.

    A model is converted once for all configs that ask.
    """
    if context.lengths is not None:
        raise Unsupported(
            f"pnnx converts a model for inputs of one shape, and these have lengths from {context.lengths}"
        )
    prechecks.check_export(model, example_inputs, context)

    def convert() -> None:
        from qx_plugins.runtimes.ncnn.converting import convert_with_pnnx, run_two_items

        inputs, _ = run_two_items(model, example_inputs)
        with TemporaryDirectory(prefix="qx-") as folder:
            convert_with_pnnx(model, inputs, Path(folder))

    prechecks.check_once("pnnx", model, convert)
