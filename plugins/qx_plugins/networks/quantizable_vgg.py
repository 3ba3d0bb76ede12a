"""VGG-11 for static quantization in eager mode: with stubs and a method that fuses it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.ao.quantization import DeQuantStub, QuantStub, fuse_modules
from torchvision.models import VGG, vgg11_bn


class QuantizableVGG(nn.Module):
    """The layers of a VGG between ``QuantStub`` and ``DeQuantStub``, under the names of its state dict."""

    def __init__(self, network: VGG) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.features, self.avgpool, self.classifier = network.features, network.avgpool, network.classifier

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits ``[batch, num_classes]`` of images ``[batch, 3, height, width]``."""
        features = self.avgpool(self.features(self.quant(images)))
        logits: torch.Tensor = self.dequant(self.classifier(torch.flatten(features, 1)))
        return logits

    def fuse_model(self) -> None:
        """Fold every Conv-BN-ReLU and every Linear-ReLU into one module, in place, in eval mode."""
        for layers in (self.features, self.classifier):
            kinds = [type(layer) for layer in layers]
            for pattern in ((nn.Conv2d, nn.BatchNorm2d, nn.ReLU), (nn.Linear, nn.ReLU)):
                size = len(pattern)
                matches = [
                    [str(start + step) for step in range(size)]
                    for start in range(len(kinds))
                    if tuple(kinds[start : start + size]) == pattern
                ]
                if matches:
                    fuse_modules(layers, matches, inplace=True)


def quantizable_vgg11_bn(**arguments: Any) -> QuantizableVGG:
    """Return the quantizable form of torchvision's ``vgg11_bn``, with random weights."""
    return QuantizableVGG(vgg11_bn(weights=None, **arguments))
