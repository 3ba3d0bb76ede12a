"""Calibration batches: run them through a model, and pass them on to ``convert``.

Light: torch is imported inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qx import Option

if TYPE_CHECKING:
    import torch
    from torch import nn

    from qx import Arrays, Batch

#: Number of items by which configs correct rounded weights: a text of 512 tokens takes long, and says much.
CORRECTION_ITEMS = Option(
    name="calibration_n",
    default=32,
    minimum=1,
    help="Items of the calibration data by which weights are corrected; unused without a correction.",
)
#: Attribute of a model that holds its calibration batches: no identifier, so the user's class cannot have it.
_ATTRIBUTE = "calibration batches of qx"


def to_tensors(inputs: Arrays) -> tuple[torch.Tensor, ...]:
    """Return the inputs of a batch as tensors, in the order of the model's arguments."""
    import torch

    return tuple(torch.from_numpy(array) for array in inputs.values())


def observe(model: nn.Module, batches: Sequence[Batch]) -> nn.Module:
    """Run the batches through a prepared model, whose observers record them, and return the model.

    Raises ``Unsupported`` with the layer whose values cannot be observed.
    """
    import torch

    from qx_plugins.recipes.tracing import explain_errors

    with torch.no_grad(), explain_errors(model, "cannot be calibrated"):
        for batch in batches:
            model(*to_tensors(batch.inputs))
    return model


def keep_calibration_batches(model: nn.Module, batches: Sequence[Batch]) -> nn.Module:
    """Attach the batches to the model and return it; ``take_calibration_batches`` removes them again."""
    setattr(model, _ATTRIBUTE, batches)
    return model


def take_calibration_batches(model: nn.Module) -> Sequence[Batch]:
    """Remove the batches from the model and return them: none in a launch, where nothing is calibrated."""
    batches: Sequence[Batch] = model.__dict__.pop(_ATTRIBUTE, ())
    return batches
