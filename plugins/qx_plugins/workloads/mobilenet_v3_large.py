"""MobileNetV3-Large (Howard et al., 2019): 5.5 million parameters, squeeze-and-excitation, hard-swish."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qx_plugins.networks.torchvision_workload import TorchvisionWorkload

if TYPE_CHECKING:
    from torch import nn


def make(quantizable: bool, **arguments: Any) -> nn.Module:
    """Return the network; its quantizable form is torchvision's."""
    from torchvision import models

    network: nn.Module
    if quantizable:
        network = models.quantization.mobilenet_v3_large(weights=None, quantize=False, **arguments)
    else:
        network = models.mobilenet_v3_large(weights=None, **arguments)
    return network


workload = TorchvisionWorkload(
    "mobilenet_v3_large",
    "torchvision's MobileNetV3-Large on 224x224 images; random weights unless given.",
    make,
)
