"""Vision Transformer, base, patches of 16x16 (Dosovitskiy et al., 2021): 86.6 million parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qx import Unsupported
from qx_plugins.networks.torchvision_workload import TorchvisionWorkload

if TYPE_CHECKING:
    from torch import nn


def make(quantizable: bool, **arguments: Any) -> nn.Module:
    """Return the network. Raises ``Unsupported`` for a quantizable form."""
    if quantizable:
        raise Unsupported(
            "VisionTransformer has no form with quantize and dequantize stubs: eager mode has no static "
            "8-bit "
            "attention (encoder.layers.encoder_layer_0.self_attention, nn.MultiheadAttention)"
        )
    from torchvision import models

    network: nn.Module = models.vit_b_16(weights=None, **arguments)
    return network


workload = TorchvisionWorkload(
    "vit_b_16",
    "torchvision's Vision Transformer B/16 on 224x224 images; random weights unless given.",
    make,
)
