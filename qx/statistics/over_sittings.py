"""Waves of several sittings: whether sittings differ by more than waves do, and what follows for estimates.

Between two sittings a machine may be left with another clock, other neighbours or memory laid out otherwise.
What all waves of a sitting share is then no error that shrinks with the number of waves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import fdtrc

from qx.statistics.student_t import Floats, mean_and_error, student

#: Level of the test: below this p sittings count as different. ``python -m benchmarks.sittings`` simulates
#: its false alarms, and what intervals hold that follow it.
ALPHA = 0.05


def difference_p(values: ArrayLike, sittings: ArrayLike) -> float:
    """Test whether the mean of a value per wave differs between sittings, by the test of Welch (1951).

    It is an analysis of variance that does not take the variances for equal; of two sittings it is Welch's t
    test.

    Parameters
    ----------
    values : array-like of float, shape [waves]
        A value of each wave, such as a log ratio; NaN where a wave is missing.
    sittings : array-like of int, shape [waves]
        The sitting of each wave.

    Returns
    -------
    float
        p; NaN unless two sittings have two waves each. 1 where all values of each sitting are equal, and
        those of all sittings; 0 where only those within sittings are.
    """
    groups = [group for group in by_sitting(values, sittings) if len(group) > 1]
    if len(groups) < 2:
        return float("nan")
    means = np.array([group.mean() for group in groups])
    variances = np.array([group.var(ddof=1) / len(group) for group in groups])
    if (variances == 0).any():
        if (variances == 0).all():
            return float(np.ptp(means) == 0)
        # A sitting whose waves are all equal by rounding: take it for as precise as the most precise other.
        variances = np.where(variances == 0, variances[variances > 0].min(), variances)
    weights, k = 1 / variances, len(groups)
    mean = float(weights @ means / weights.sum())
    freedoms = np.array([len(group) - 1 for group in groups])
    spread = float(((1 - weights / weights.sum()) ** 2 / freedoms).sum())
    statistic = float(weights @ (means - mean) ** 2) / (k - 1) / (1 + 2 * (k - 2) / (k**2 - 1) * spread)
    return float(fdtrc(k - 1, (k**2 - 1) / (3 * spread), statistic))


def differ(values: ArrayLike, sittings: ArrayLike) -> bool:
    """Return whether sittings count as different in a value per wave, see ``difference_p``."""
    return difference_p(values, sittings) < ALPHA


def mean_over_sittings(values: ArrayLike, sittings: ArrayLike, level: float) -> tuple[Floats, Floats, Floats]:
    """Estimate the mean over sittings that might have been, where sittings differ.

    Each sitting counts once, whatever its number of waves, with a t interval over sittings (the unweighted
    random-effects estimate; with sittings of unequal precision it is not the shortest interval, but it
    assumes nothing of how they differ).

    Parameters
    ----------
    values, sittings : array-likes, shape [waves]
        As of ``difference_p``.
    level : float
        Confidence level, such as 0.95.

    Returns
    -------
    mean, half, p : arrays of float, each of shape []
        Mean, half width of its interval, and two-sided p against 0.
    """
    means = np.array([group.mean() for group in by_sitting(values, sittings)])
    return student(*mean_and_error(means), level=level)


def by_sitting(values: ArrayLike, sittings: ArrayLike) -> list[Floats]:
    """Return the values of each sitting that has any, without NaN, in the order of the sittings."""
    numbers: Floats = np.asarray(values, dtype=float)
    labels: NDArray[np.int64] = np.asarray(sittings, dtype=np.int64)
    is_present = ~np.isnan(numbers)
    return [numbers[is_present & (labels == label)] for label in np.unique(labels[is_present])]
