"""Convert stored images (8 bits, channels last) to a network's inputs (float32, channels first)."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

#: Number of images converted at a time, so that intermediate arrays fit into the processor's caches.
_CHUNK = 256


class Pixels(Protocol):
    """Images uint8 ``[n, height, width, channels]``: an array, or an object that decodes when indexed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all images together."""

    def __getitem__(self, key: Any) -> np.ndarray:
        """Return one image for an integer, ``[k, ...]`` for a slice or an array of integers."""


#: Order of the axes of images, as what a workload says of its preprocessing names it.
LAYOUT = "axes (batch, channels, height, width)"


def describe_normalisation(mean: Sequence[float], std: Sequence[float]) -> str:
    """Say how pixels become inputs, as ``Data.preprocessing`` does."""
    values = [", ".join(f"{value:g}" for value in numbers) for numbers in (mean, std)]
    colours = "RGB pixels" if len(mean) == 3 else "grey pixels"
    return (
        f"{colours} from 0 to 255 in float32, divided by 255, less the mean ({values[0]}), divided by the "
        f"standard deviation ({values[1]}) of each channel; {LAYOUT}"
    )


class NormalisedImages:
    """Pixels uint8 ``[n, height, width, channels]``, indexed like float32 ``[n, channels, height, width]``.

    A value is ``(pixel / 255 - mean) / std``, computed in float32 in this order, so that values are the same
    bit for bit on every machine. Images are converted when they are indexed: the pixels may be a memory map,
    or in files.
    """

    def __init__(self, pixels: Pixels, *, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self._pixels = pixels.view(np.ndarray) if isinstance(pixels, np.ndarray) else pixels
        self._mean = np.array(mean, dtype=np.float32)
        self._std = np.array(std, dtype=np.float32)
        count, height, width, channels = pixels.shape
        self.shape: tuple[int, ...] = (count, channels, height, width)
        self.dtype = np.dtype(np.float32)
        self.ndim = 4

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Return image ``[channels, height, width]`` for an integer, ``[k, ...]`` for a slice or an array."""
        if isinstance(key, tuple) or key is None or key is Ellipsis:
            raise IndexError(
                "images are indexed by an integer, a slice or one array, along the first axis only"
            )
        try:
            index = operator.index(key)
        except TypeError:
            chosen = self._pixels[key]
            return self._normalised(chosen)
        image: np.ndarray = self._normalised(self._pixels[index][np.newaxis])[0]
        return image

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all images. They are always converted, so ``copy=False`` (numpy 2) raises ``ValueError``."""
        if copy is False:
            raise ValueError("the images are normalised when they are asked for: there is no array to share")
        array = self._normalised(self._pixels)
        return array if dtype is None else array.astype(dtype, copy=False)

    def _normalised(self, pixels: Pixels) -> np.ndarray:
        count, height, width, channels = pixels.shape
        result = np.empty((count, channels, height, width), dtype=np.float32)
        for start in range(0, count, _CHUNK):
            values = pixels[start : start + _CHUNK].astype(np.float32)
            values /= 255
            values -= self._mean
            values /= self._std
            result[start : start + _CHUNK] = values.transpose(0, 3, 1, 2)
        return result
