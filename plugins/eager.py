"""What the eager-mode static configs share. It imports torch: import it inside functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.ao.quantization import QConfig, default_observer, prepare

from qx import Unsupported
from qx.records import Arrays


def prepare_static(model: nn.Module, weight_observer: Any) -> nn.Module:
    """Fuse the model in eval mode and put observers into it, per-tensor uint8 ones for activations."""
    if not hasattr(model, "fuse_model"):
        raise Unsupported(f"{type(model).__name__} has no fuse_model(), which eager-mode quantization calls")
    model.eval()
    model.fuse_model()
    model.qconfig = QConfig(activation=default_observer, weight=weight_observer)
    return prepare(model, inplace=True)


@torch.no_grad()
def observe(model: nn.Module, batches: Sequence[Arrays]) -> nn.Module:
    """Run the calibration batches through a prepared model."""
    for batch in batches:
        model(*(torch.from_numpy(array) for array in batch.values()))
    return model
