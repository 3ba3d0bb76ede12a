"""A small residual network of linear layers for vectors of features."""

from __future__ import annotations

import torch
from torch import nn


class ResidualBlock(nn.Module):
    """Normalization, two linear layers with GELU between them, and a residual connection."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, hidden)
        self.activation = nn.GELU()
        self.narrow = nn.Linear(hidden, width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features ``[batch, width]`` of the next block."""
        outputs: torch.Tensor = features + self.narrow(self.activation(self.widen(self.norm(features))))
        return outputs


class ResidualMLP(nn.Module):
    """A linear layer, residual blocks, of which the first is called twice, and a linear head.

    The model maps features ``[batch, features]`` (float32) to one number for each item, ``[batch]``.
    """

    def __init__(self, *, features: int, width: int = 64, hidden: int = 128) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.block = ResidualBlock(width, hidden)
        self.last_block = ResidualBlock(width, hidden)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return a number for each item, ``[batch]``, of features ``[batch, features]``."""
        values = self.last_block(self.block(self.block(self.embed(features))))
        outputs: torch.Tensor = self.head(self.norm(values)).squeeze(-1)
        return outputs
