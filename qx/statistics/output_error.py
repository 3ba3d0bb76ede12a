"""Measure how far the outputs of one cell are from those of the baseline."""

from __future__ import annotations

import math

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

#: Numbers that are compared at a time, so that memory stays at some tens of MiB.
CHUNK = 1_000_000


@frozen
class OutputError:
    """The error of a cell's outputs compared with the outputs of the baseline."""

    #: Signal-to-quantization-noise ratio in dB; None where signal or noise is 0 or the shapes differ.
    sqnr_db: float | None
    #: Whether the error is larger than the signal or not finite, or the outputs have another shape.
    is_below_0_db: bool


def output_error(ours: NDArray[np.generic], baseline: NDArray[np.generic]) -> OutputError:
    """Compare the outputs of a cell with the baseline's.

    Signal and noise are sums of squares over all elements: of the baseline's outputs, and of the differences.
    Elements that are not finite in the baseline are left out; a cell that is not finite elsewhere is below
    0 dB.

    Parameters
    ----------
    ours, baseline : arrays of numbers, shape [items, ...]
        Outputs on the same items.

    Returns
    -------
    OutputError
    """
    if ours.shape != baseline.shape:
        return OutputError(None, is_below_0_db=True)
    signal, noise = _sums_of_squares(ours.reshape(-1), baseline.reshape(-1))
    if not math.isfinite(noise):
        return OutputError(None, is_below_0_db=True)
    decibels = 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None
    return OutputError(decibels, is_below_0_db=noise > signal)


def _sums_of_squares(ours: NDArray[np.generic], baseline: NDArray[np.generic]) -> tuple[float, float]:
    signal = noise = 0.0
    for start in range(0, len(baseline), CHUNK):
        part = np.s_[start : start + CHUNK]
        theirs = baseline[part].astype(float)
        finite = np.isfinite(theirs)
        with np.errstate(over="ignore"):
            signal += float(np.square(theirs[finite]).sum())
            noise += float(np.square(ours[part].astype(float)[finite] - theirs[finite]).sum())
    return signal, noise
