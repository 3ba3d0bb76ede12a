"""Compute ratios of two cells in every round, from all their calls, disturbed or not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qx.results.recording import Series
from qx.statistics.student_t import Floats


def log_ratios_in_rounds(ours: Series, theirs: Series, waves: int) -> Floats:
    """Return the log of ours / theirs in each wave, ``[waves]``: the mean over the rounds that both have.

    In a round the ratio is that of the means of the two blocks, so no call is left out, and a round counts
    whatever its length (randomised interleaving: Abedi & Brecht, 2017). Samples must be positive. A wave
    without a round that both have is NaN.
    """
    (our_rounds, our_logs), (their_rounds, their_logs) = _log_blocks(ours), _log_blocks(theirs)
    shared, our_indices, their_indices = np.intersect1d(
        our_rounds, their_rounds, assume_unique=True, return_indices=True
    )
    shared_waves = shared >> 32
    counts = np.bincount(shared_waves, minlength=waves)
    sums = np.bincount(shared_waves, our_logs[our_indices] - their_logs[their_indices], minlength=waves)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _log_blocks(series: Series) -> tuple[NDArray[np.int64], Floats]:
    """Return each block's wave and round in one number, ascending, and the log of its mean sample."""
    has_round = (series.wave >= 0) & (series.round >= 0)
    keys = (series.wave[has_round].astype(np.int64) << 32) + series.round[has_round]
    blocks, positions, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return blocks, np.log(np.bincount(positions, series.values[has_round], minlength=len(blocks)) / counts)
