"""A small network that makes a vector of an image, and a loss that brings vectors of one class together."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

#: Divisor of similarities in the loss: the smaller, the more the nearest neighbours count.
TEMPERATURE = 0.1


class MixingBlock(nn.Module):
    """A depthwise convolution, normalization, two 1x1 convolutions with GELU, and a residual connection.

    After the block of ConvNeXt (Liu et al., 2022), with one group of channels in its normalization, and with
    grouped convolutions.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding="same", groups=channels)
        self.norm = nn.GroupNorm(1, channels)
        self.widen = nn.Conv2d(channels, 3 * channels, 1)
        self.activation = nn.GELU()
        self.narrow = nn.Conv2d(3 * channels, channels, 1, groups=groups)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features ``[batch, channels, height, width]`` of the next block."""
        values = self.widen(self.norm(self.depthwise(features)))
        outputs: torch.Tensor = features + self.narrow(self.activation(values))
        return outputs


class ImageEmbedder(nn.Module):
    """A convolution, residual blocks, the mean over places, and a linear layer to a vector of length 1.

    The model maps images ``[batch, channels, height, width]`` (float32) to vectors ``[batch, size]``.
    """

    def __init__(self, *, channels: int, width: int = 48, size: int = 32, blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding="same")
        self.blocks = nn.Sequential(*(MixingBlock(width, groups=4) for _ in range(blocks)))
        self.pool = nn.MaxPool2d(2)
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, size)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return vectors ``[batch, size]`` of length 1 of images ``[batch, channels, height, width]``."""
        features = self.pool(self.blocks(self.stem(images))).mean((2, 3))
        vectors: torch.Tensor = functional.normalize(self.project(self.norm(features)), dim=-1)
        return vectors


def neighbour_loss(vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean over pairs of one class of how little of the similarity of an item it has.

    This is the supervised contrastive loss (Khosla et al., 2020) on vectors ``[batch, size]`` of length 1
    and integer ``labels`` ``[batch]``.
    """
    is_itself = torch.eye(len(labels), dtype=torch.bool)
    similarities = (vectors @ vectors.T / TEMPERATURE).masked_fill(is_itself, -torch.inf)
    shares = functional.log_softmax(similarities, dim=1).masked_fill(is_itself, 0.0)
    is_pair = (labels[:, None] == labels) & ~is_itself
    means = (shares * is_pair).sum(dim=1) / is_pair.sum(dim=1).clamp_min(1)
    return -means.mean()
