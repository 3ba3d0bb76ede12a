"""Ratios of two cells in every round: what all their calls took, disturbed or not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qx.results.recording import Series
from qx.statistics.student_t import Floats


def log_ratios_in_rounds(ours: Series, theirs: Series, waves: int) -> Floats:
    """Give the log of ours / theirs in each wave, ``[waves]``: the mean over the rounds that both have.

    In a round the ratio is that of the means of the two blocks, so no call is left out, and a round counts
    whatever its length (randomised interleaving: Abedi & Brecht, 2017). Samples must be positive; a wave
    without a round that both have is NaN.
    """
    (our_rounds, our_logs), (their_rounds, their_logs) = _log_blocks(ours), _log_blocks(theirs)
    shared, at, other = np.intersect1d(our_rounds, their_rounds, assume_unique=True, return_indices=True)
    of = shared >> 32
    counts = np.bincount(of, minlength=waves)
    sums = np.bincount(of, our_logs[at] - their_logs[other], minlength=waves)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _log_blocks(series: Series) -> tuple[NDArray[np.int64], Floats]:
    """Each block's wave and round in one number, ascending, and the log of the mean of its samples."""
    known = (series.wave >= 0) & (series.round >= 0)
    keys = (series.wave[known].astype(np.int64) << 32) + series.round[known]
    blocks, of, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return blocks, np.log(np.bincount(of, series.values[known], minlength=len(blocks)) / counts)
