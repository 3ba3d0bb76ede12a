"""Measure how far the outputs of one cell are from those of the baseline."""

from __future__ import annotations

import math

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from qx.statistics.student_t import Floats

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
    """Compare the outputs of a cell with the baseline's, by the ratio of ``signal_and_noise`` of all items.

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
    signal, noise = (float(squares.sum()) for squares in signal_and_noise(ours, baseline))
    if not math.isfinite(noise):
        return OutputError(None, is_below_0_db=True)
    decibels = 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None
    return OutputError(decibels, is_below_0_db=noise > signal)


def signal_and_noise(ours: NDArray[np.generic], baseline: NDArray[np.generic]) -> tuple[Floats, Floats]:
    """Compute the signal and the noise of each item in the outputs of a cell.

    They are sums of squares: of the baseline's outputs, and of what the outputs of the cell differ from them
    by. Elements that are not finite in the baseline are left out of both.

    Parameters
    ----------
    ours, baseline : arrays of numbers, shape [items, ...]
        Outputs on the same items, of one shape.

    Returns
    -------
    signal, noise : arrays of float, shape [items]
        The noise is infinite where an output of the cell is not finite.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    if ours.shape != baseline.shape:
        raise ValueError(f"outputs to compare need one shape, not {ours.shape} and {baseline.shape}")
    count = len(baseline)
    signal, noise = np.zeros(count), np.zeros(count)
    at_once = max(1, CHUNK * count // max(1, baseline.size))
    for start in range(0, count, at_once):
        part = np.s_[start : start + at_once]
        theirs = baseline[part].reshape(len(baseline[part]), -1).astype(float)
        is_finite = np.isfinite(theirs)
        theirs[~is_finite] = 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            differences = ours[part].reshape(theirs.shape).astype(float) - theirs
            signal[part] = np.square(theirs).sum(axis=1)
            noise[part] = np.square(np.where(is_finite, differences, 0.0)).sum(axis=1)
    noise[np.isnan(noise)] = np.inf
    return signal, noise
