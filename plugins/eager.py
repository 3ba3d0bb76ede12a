"""What the eager-mode static configs share. It imports torch: import it inside functions."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from torch.ao.quantization import (
    FusedMovingAvgObsFakeQuantize,
    QConfig,
    default_fused_per_channel_wt_fake_quant,
    default_observer,
    prepare,
    prepare_qat,
)

from qx import Unsupported


def prepare_static(
    model: nn.Module, weight_observer: Any, activation_observer: Any = default_observer
) -> nn.Module:
    """Fuse the model in eval mode and put observers into it, per-tensor uint8 ones for activations."""
    _check_fusible(model)
    model.eval()
    model.fuse_model()
    model.qconfig = QConfig(activation=activation_observer, weight=weight_observer)
    return prepare(model, inplace=True)


def prepare_for_training(model: nn.Module) -> nn.Module:
    """Fuse the model and put fake quantization into it: what int8 will compute, with gradients.

    Activations per tensor over 128 levels, as in the static configs, weights per channel. Where the model's
    ``fuse_model`` takes ``is_qat`` (as torchvision's do), batch normalisation is kept, to be trained; else it
    is folded into the weights first.
    """
    _check_fusible(model)
    if "is_qat" in inspect.signature(model.fuse_model).parameters:
        model.train()
        model.fuse_model(is_qat=True)
    else:
        model.eval()
        model.fuse_model()
    activation = FusedMovingAvgObsFakeQuantize.with_args(quant_min=0, quant_max=127, dtype=torch.quint8)
    model.qconfig = QConfig(activation=activation, weight=default_fused_per_channel_wt_fake_quant)
    return prepare_qat(model.train(), inplace=True)


def _check_fusible(model: nn.Module) -> None:
    if not hasattr(model, "fuse_model"):
        raise Unsupported(f"{type(model).__name__} has no fuse_model(), which eager-mode quantization calls")
