"""Pictures of discs, squares and triangles in noise, with their classes, pixels and boxes.

All random numbers are whole ones of numpy's ``RandomState``, which never change, and all arithmetic is on
integers: the pictures are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from qx import Data

if TYPE_CHECKING:
    import torch

#: The classes of shapes.
KINDS = ("disc", "square", "triangle")
#: Most shapes in a picture, each in a quarter of its own, from which it may reach out.
SHAPES = 4
#: Least and largest difference between a shape and its background in each channel, in grey levels of 256.
CONTRAST = (30, 60)
#: Noise of a pixel is the sum of two whole numbers from ``-NOISE`` to ``NOISE``.
NOISE = 40


@frozen
class Pictures:
    """Drawn pictures and what is on them."""

    #: Grey levels from 0 to 255, uint8 ``[n, 3, side, side]``.
    images: np.ndarray
    #: The class of each pixel, int64 ``[n, side, side]``: 0 is the background, 1 the first of ``KINDS``.
    pixels: np.ndarray
    #: The smallest boxes around the whole shapes within the picture, float32 ``[n, SHAPES, 4]``: left, top,
    #: right, bottom, in pixels; -1 where there is no shape.
    boxes: np.ndarray
    #: The class of each shape, int64 ``[n, SHAPES]``: positions in ``KINDS``; -1 where there is no shape.
    kinds: np.ndarray


def draw_pictures(count: int, side: int, seed: int) -> Pictures:
    """Draw ``count`` pictures of ``side`` x ``side`` pixels with 1 to 4 shapes each."""
    random = np.random.RandomState(seed)
    quarter = side // 2
    background = random.randint(CONTRAST[1], 256 - CONTRAST[1], (count, 3, 1, 1))
    colours = np.broadcast_to(background, (count, 3, side, side)).copy()
    pixels = np.zeros((count, side, side), dtype=np.int64)
    boxes = np.full((count, SHAPES, 4), -1, dtype=np.float32)
    kinds = np.full((count, SHAPES), -1, dtype=np.int64)
    numbers = random.randint(1, SHAPES + 1, count)
    quarters = np.argsort(random.randint(2**31 - 1, size=(count, SHAPES)), axis=1, kind="stable")
    rows, columns = np.mgrid[:side, :side]
    for place in range(SHAPES):
        radius = random.randint(side // 10, side // 6 + 1, count)
        middle = random.randint(quarter // 4, quarter - quarter // 4, (2, count))
        across = middle[0] + quarter * (quarters[:, place] % 2)
        down = middle[1] + quarter * (quarters[:, place] // 2)
        kind = random.randint(len(KINDS), size=count)
        signs = 2 * random.randint(2, size=(count, 3)) - 1
        shift = signs * random.randint(CONTRAST[0], CONTRAST[1] + 1, (count, 3))
        right, below = columns - across[:, None, None], rows - down[:, None, None]
        is_drawn = place < numbers
        covered = _covered(kind[:, None, None], radius[:, None, None], right, below)
        covered &= is_drawn[:, None, None]
        colours = np.where(covered[:, None], background + shift[:, :, None, None], colours)
        pixels = np.where(covered, kind[:, None, None] + 1, pixels)
        kinds[:, place] = np.where(is_drawn, kind, -1)
        boxes[is_drawn, place] = _boxes(covered[is_drawn])
    noise = random.randint(-NOISE, NOISE + 1, (2, count, 3, side, side)).sum(axis=0)
    return Pictures((colours + noise).clip(0, 255).astype(np.uint8), pixels, boxes, kinds)


def normalize(images: np.ndarray) -> np.ndarray:
    """Return grey levels uint8 as float32 from about -2 to 2, exactly."""
    return (images.astype(np.float32) - 128) / 64


def load_pictures(
    count: int, side: int, seed: int, targets: Callable[[Pictures], Mapping[str, np.ndarray]], **fields: Any
) -> Data:
    """Return drawn pictures as the data of a workload, with what it has of them as targets."""
    pictures = draw_pictures(count, side, seed)
    return Data(
        inputs={"image": normalize(pictures.images)},
        targets=targets(pictures),
        source="generated pictures of shapes",
        preprocessing="pixels from 0 to 255, less 128, divided by 64; axes (batch, channels, height, width)",
        **fields,
    )


def random_pictures(batch_size: int, side: int, seed: int) -> torch.Tensor:
    """Return noise of the shape of pictures, ``[batch_size, 3, side, side]``, to trace a model with."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch_size, 3, side, side, generator=generator)


def _covered(kind: np.ndarray, radius: np.ndarray, right: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return which pixels a shape covers, by their distances from its middle."""
    disc = right**2 + below**2 <= radius**2
    square = np.maximum(np.abs(right), np.abs(below)) < radius
    triangle = (2 * np.abs(right) <= below + radius) & (below <= radius)
    return np.asarray(np.where(kind == 0, disc, np.where(kind == 1, square, triangle)))


def _boxes(covered: np.ndarray) -> np.ndarray:
    """Return the box around the covered pixels ``[n, side, side]`` of each picture, ``[n, 4]``."""
    side = covered.shape[-1]
    in_column, in_row = np.asarray(covered.any(axis=1)), np.asarray(covered.any(axis=2))
    ends = [
        in_column.argmax(axis=1),
        in_row.argmax(axis=1),
        side - in_column[:, ::-1].argmax(axis=1),
        side - in_row[:, ::-1].argmax(axis=1),
    ]
    return np.stack(ends, axis=1)
