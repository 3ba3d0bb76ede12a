"""MobileNetV2 (Sandler et al., 2018): 3.5 million parameters, depthwise separable convolutions."""

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
        network = models.quantization.mobilenet_v2(weights=None, quantize=False, **arguments)
    else:
        network = models.mobilenet_v2(weights=None, **arguments)
    return network


workload = TorchvisionWorkload(
    "mobilenet_v2", "torchvision's MobileNetV2 on 224x224 images; random weights unless given.", make
)
