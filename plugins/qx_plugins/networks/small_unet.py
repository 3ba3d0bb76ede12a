"""A small U-Net (Ronneberger, Fischer & Brox, 2015)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.ao.nn.quantized import FloatFunctional
from torch.ao.quantization import DeQuantStub, QuantStub, fuse_modules, fuse_modules_qat


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for source in (channels_in, channels_out):
        layers += [
            nn.Conv2d(source, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


class Join(nn.Module):
    """Channels of two tensors one after the other."""

    def __init__(self, *, quantizable: bool) -> None:
        super().__init__()
        self.function = FloatFunctional() if quantizable else None

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return ``[batch, channels of both, height, width]``."""
        if self.function is None:
            return torch.cat([first, second], dim=1)
        joined: torch.Tensor = self.function.cat([first, second], dim=1)
        return joined


class SmallUNet(nn.Module):
    """Two halvings by max-pooling, two enlargements by transposed convolutions, and links across.

    The model maps images ``[batch, channels, height, width]`` (float32, sides that are multiples of 4) to
    logits of the classes of each pixel, ``[batch, num_classes, height, width]``. With ``quantizable`` it has
    what eager-mode static quantization requires; both forms share one state dict.
    """

    def __init__(
        self, *, channels: int, num_classes: int, width: int = 16, quantizable: bool = False
    ) -> None:
        super().__init__()
        self.quant = QuantStub() if quantizable else nn.Identity()
        self.block_full = _block(channels, width)
        self.block_half = _block(width, 2 * width)
        self.block_quarter = _block(2 * width, 4 * width)
        self.pool = nn.MaxPool2d(2)
        self.enlarge_to_half = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.join_half = _block(4 * width, 2 * width)
        self.enlarge_to_full = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.join_full = _block(2 * width, width)
        self.with_half, self.with_full = (Join(quantizable=quantizable) for _ in range(2))
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.dequant = DeQuantStub() if quantizable else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of each pixel, ``[batch, num_classes, height, width]``."""
        full = self.block_full(self.quant(images))
        half = self.block_half(self.pool(full))
        quarter = self.block_quarter(self.pool(half))
        half = self.join_half(self.with_half(self.enlarge_to_half(quarter), half))
        full = self.join_full(self.with_full(self.enlarge_to_full(half), full))
        logits: torch.Tensor = self.dequant(self.classifier(full))
        return logits

    def fuse_model(self, is_qat: bool = False) -> None:
        """Fold every Conv-BN-ReLU into one module; with ``is_qat`` the normalisation is kept and trained."""
        triples = [["0", "1", "2"], ["3", "4", "5"]]
        for block in (self.block_full, self.block_half, self.block_quarter, self.join_half, self.join_full):
            fuse: Any = fuse_modules_qat if is_qat else fuse_modules
            fuse(block, triples, inplace=True)
