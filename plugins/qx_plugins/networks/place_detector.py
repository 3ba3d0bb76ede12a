"""A small detector without anchors (after FCOS: Tian et al., 2019), and its loss."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

#: Places are trained to answer for a shape whose middle is this near, in strides along each axis.
NEAR = 1.0
#: Weight of shapes against background, and how much less certain places count (focal loss: Lin et al., 2017).
ALPHA, GAMMA = 0.25, 2.0
#: Score of every place before training, as the probability of a shape.
PRIOR = 0.02


class SeparableBlock(nn.Module):
    """A depthwise and a grouped convolution, each normalized, and a residual connection."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding="same", groups=channels, bias=False)
        self.norm_depthwise = nn.BatchNorm2d(channels)
        self.grouped = nn.Conv2d(channels, channels, 3, padding="same", groups=groups, bias=False)
        self.norm_grouped = nn.BatchNorm2d(channels)
        self.activation = nn.SiLU()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features ``[batch, channels, height, width]`` of the next block."""
        values = self.activation(self.norm_depthwise(self.depthwise(features)))
        outputs: torch.Tensor = self.activation(features + self.norm_grouped(self.grouped(values)))
        return outputs


class PlaceDetector(nn.Module):
    """Two convolutions that halve the picture, residual blocks, and two heads.

    The model maps images ``[batch, channels, height, width]`` (float32) to a mapping of ``scores``
    ``[batch, num_classes, height / 4, width / 4]``, before a sigmoid, and ``distances``
    ``[batch, 4, height / 4, width / 4]`` to the left, upper, right and lower edge of a box, in strides of 4.
    """

    def __init__(self, *, channels: int, num_classes: int, width: int = 64, blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width // 2, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width // 2),
            nn.SiLU(),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.SiLU(),
        )
        self.blocks = nn.Sequential(*(SeparableBlock(width, groups=4) for _ in range(blocks)))
        self.scores = nn.Conv2d(width, num_classes, 1)
        self.distances = nn.Conv2d(width, 4, 1)
        nn.init.constant_(self.scores.bias, torch.logit(torch.tensor(PRIOR)).item())  # type: ignore[arg-type]
        nn.init.constant_(self.distances.bias, 1.0)  # type: ignore[arg-type]

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return ``scores`` and ``distances`` of images ``[batch, channels, height, width]``."""
        features = self.blocks(self.stem(images))
        return {"scores": self.scores(features), "distances": self.distances(features)}


def detection_loss(
    scores: torch.Tensor, distances: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor, stride: int
) -> torch.Tensor:
    """Return focal loss of the scores and the error of the distances at places near a shape, for each shape.

    ``boxes`` ``[batch, m, 4]`` are in pixels, ``labels`` ``[batch, m]`` negative where there is no shape.
    """
    rows, columns = scores.shape[2:]
    down, across = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    edges = boxes[:, :, :, None, None] / stride
    # [batch, m, 4, rows, columns]: how far each place is from the edges of each shape.
    to_edges = torch.stack(
        [across - edges[:, :, 0], down - edges[:, :, 1], edges[:, :, 2] - across, edges[:, :, 3] - down],
        dim=2,
    )
    off_middle = (to_edges[:, :, :2] - to_edges[:, :, 2:]).abs().amax(dim=2) / 2
    off_middle = off_middle.masked_fill(labels[:, :, None, None] < 0, torch.inf)
    nearest, shape = off_middle.min(dim=1)
    is_near = nearest <= NEAR
    wanted = to_edges.gather(1, shape[:, None, None].expand(-1, 1, 4, -1, -1)).squeeze(1)
    kinds = labels.gather(1, shape.flatten(1)).view_as(shape).clamp_min(0)
    targets = functional.one_hot(kinds, scores.shape[1]).permute(0, 3, 1, 2) * is_near[:, None]
    targets = targets.to(scores.dtype)
    probabilities = scores.sigmoid()
    certainty = torch.where(targets == 1, probabilities, 1 - probabilities)
    weights = torch.where(targets == 1, ALPHA, 1 - ALPHA) * (1 - certainty) ** GAMMA
    focal = functional.binary_cross_entropy_with_logits(scores, targets, weights.detach(), reduction="sum")
    errors = functional.smooth_l1_loss(distances, wanted, reduction="none", beta=0.1).sum(dim=1)
    return (focal + (errors * is_near).sum()) / is_near.sum().clamp_min(1)
