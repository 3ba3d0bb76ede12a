"""What configs do with calibration batches. Light: torch is imported in functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

    from qx import Arrays

#: The attribute of a model that keeps them: no name, so that the user's own class cannot have it.
_KEPT = "calibration batches of qx"


def to_tensors(batch: Arrays) -> tuple[torch.Tensor, ...]:
    """The arrays of a batch as the model takes them."""
    import torch

    return tuple(torch.from_numpy(array) for array in batch.values())


def observe(model: nn.Module, batches: Sequence[Arrays]) -> nn.Module:
    """Run the batches through a prepared model, whose observers take note of them."""
    import torch

    with torch.no_grad():
        for batch in batches:
            model(*to_tensors(batch))
    return model


def keep_calibration_batches(model: nn.Module, batches: Sequence[Arrays]) -> nn.Module:
    """Have the model bring the batches to ``convert``; see ``taken``."""
    setattr(model, _KEPT, batches)
    return model


def take_calibration_batches(model: nn.Module) -> Sequence[Arrays]:
    """Take the batches off the model again. There are none where it was not calibrated: in a launch."""
    batches: Sequence[Arrays] = model.__dict__.pop(_KEPT, ())
    return batches
