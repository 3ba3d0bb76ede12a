"""A small network for series: convolutions along time, and a recurrent layer."""

from __future__ import annotations

import torch
from torch import nn


class SeriesNetwork(nn.Module):
    """Convolutions along time, full, depthwise and grouped, an LSTM, and a linear head on its last output.

    The model maps series ``[batch, channels, time]`` (float32) to logits ``[batch, num_classes]``. The
    convolutions leave a quarter of the steps in time.
    """

    def __init__(self, *, channels: int, num_classes: int, width: int = 48, hidden: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv1d(channels, width, 7, padding="same"), nn.GroupNorm(4, width), nn.SiLU()
        )
        self.shorten = nn.Sequential(
            nn.Conv1d(width, width, 6, stride=4, padding=1, groups=width),
            nn.Conv1d(width, width, 1),
            nn.GroupNorm(4, width),
            nn.SiLU(),
        )
        self.mix = nn.Sequential(
            nn.Conv1d(width, width, 3, padding="same", groups=4), nn.GroupNorm(4, width), nn.SiLU()
        )
        self.recurrent = nn.LSTM(width, hidden, batch_first=True)
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        """Return the logits ``[batch, num_classes]`` of series ``[batch, channels, time]``."""
        features = self.shorten(self.stem(series))
        features = features + self.mix(features)
        steps, _ = self.recurrent(features.transpose(1, 2))
        logits: torch.Tensor = self.classifier(steps[:, -1])
        return logits
