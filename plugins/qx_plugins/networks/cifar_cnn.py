"""The convolutional network of the workloads ``cifar10_cnn`` and ``digits_cnn``."""

from __future__ import annotations

import torch
from torch import nn
from torch.ao.quantization import DeQuantStub, QuantStub, fuse_modules, fuse_modules_qat


def _block(channels_in: int, channels_out: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for source in (channels_in, channels_out):
        layers += [
            nn.Conv2d(source, channels_out, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        ]
    return [*layers, nn.MaxPool2d(2)]


class CifarCNN(nn.Module):
    """Three blocks of two 3x3 Conv-BN-ReLU (32, 64, 128 channels) and a linear head; 288,746 parameters.

    Maps images ``[batch, 3, 32, 32]`` (float32, normalised) to logits ``[batch, num_classes]``. With
    ``quantizable`` it has ``QuantStub`` and ``DeQuantStub`` at entry and exit, as eager-mode static
    quantization requires. The stubs have no parameters, so both forms share one state dict.
    """

    def __init__(self, num_classes: int = 10, *, quantizable: bool = False) -> None:
        super().__init__()
        self.quant = QuantStub() if quantizable else nn.Identity()
        self.features = nn.Sequential(*_block(3, 32), *_block(32, 64), *_block(64, 128))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(128, num_classes)
        self.dequant = DeQuantStub() if quantizable else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits ``[batch, num_classes]`` of images ``[batch, 3, 32, 32]``."""
        features = self.pool(self.features(self.quant(images)))
        logits: torch.Tensor = self.dequant(self.classifier(self.flatten(features)))
        return logits

    def fuse_model(self, is_qat: bool = False) -> None:
        """Fold every Conv-BN-ReLU into one module, in place. The model must be in eval mode.

        With ``is_qat`` the normalisation stays in the module and is trained. The model must then be in
        training mode.
        """
        triples = [
            [str(index), str(index + 1), str(index + 2)]
            for index, layer in enumerate(self.features)
            if isinstance(layer, nn.Conv2d)
        ]
        if is_qat:
            fuse_modules_qat(self.features, triples, inplace=True)
        else:
            fuse_modules(self.features, triples, inplace=True)
