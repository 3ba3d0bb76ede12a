"""VGG-11 with batch normalisation (Simonyan & Zisserman, 2015): 133 million parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qx_plugins.networks.torchvision_workload import TorchvisionWorkload

if TYPE_CHECKING:
    from torch import nn


def make(quantizable: bool, **arguments: Any) -> nn.Module:
    """Return the network; its quantizable form is qx's own, since torchvision has none."""
    if quantizable:
        from qx_plugins.networks.quantizable_vgg import quantizable_vgg11_bn

        return quantizable_vgg11_bn(**arguments)
    from torchvision import models

    network: nn.Module = models.vgg11_bn(weights=None, **arguments)
    return network


workload = TorchvisionWorkload(
    "vgg11_bn",
    "torchvision's VGG-11 with batch normalisation on 224x224 images; random weights unless given.",
    make,
)
