"""ResNet-18 (He et al., 2016): 11.7 million parameters, residual blocks of 3x3 convolutions."""

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
        network = models.quantization.resnet18(weights=None, quantize=False, **arguments)
    else:
        network = models.resnet18(weights=None, **arguments)
    return network


workload = TorchvisionWorkload(
    "resnet18", "torchvision's ResNet-18 on 224x224 images; random weights unless given.", make
)
