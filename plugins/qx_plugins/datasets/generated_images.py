"""Generate images for networks without data: seeded patterns, computed when they are indexed."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Patches along each side of a pattern. Coarse patches, as in photographs, do not average out like noise.
PATCHES = 8


class GeneratedImages:
    """Patterns indexed like an array float32 ``[n, channels, height, width]``, about normalised.

    Each pattern is a grid of normal random numbers, enlarged bilinearly. Only the grids are kept in memory.
    """

    def __init__(self, count: int, shape: tuple[int, int, int], seed: int) -> None:
        channels, height, width = shape
        random = np.random.RandomState(seed)
        self._grids = random.standard_normal((count, channels, PATCHES, PATCHES)).astype(np.float32)
        self._rows, self._columns = _weights(height), _weights(width)
        self.shape: tuple[int, ...] = (count, *shape)
        self.dtype = np.dtype(np.float32)
        self.ndim = 4

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Return image ``[channels, height, width]`` for an integer, ``[k, ...]`` for a slice or an array."""
        return np.ascontiguousarray(self._rows @ self._grids[key] @ self._columns.T)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all images. They are always computed, so ``copy=False`` (numpy 2) raises ``ValueError``."""
        if copy is False:
            raise ValueError("the images are made when they are asked for: there is no array to share")
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)


def _weights(side: int) -> np.ndarray:
    """Return the weight of each patch in each pixel, ``[side, PATCHES]``, so that pixels have variance 1."""
    position = np.clip((np.arange(side) + 0.5) * PATCHES / side - 0.5, 0, PATCHES - 1)
    weights = np.maximum(0, 1 - np.abs(position[:, np.newaxis] - np.arange(PATCHES)))
    weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))
    result: np.ndarray = weights.astype(np.float32)
    return result
