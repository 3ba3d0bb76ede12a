"""Student's t over arrays, on which the intervals and tests of the modules beside this one are built.

``scipy.special`` is used in place of ``scipy.stats``: the same functions, at a tenth of the import time.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

Floats: TypeAlias = NDArray[np.float64]

#: Largest number of degrees of freedom in the table of ``quantiles``; larger ones use its last entry.
MAX_FREEDOM = 1000.0


def mean_and_error(samples: Floats) -> tuple[Floats, Floats, Floats]:
    """Compute mean, standard error and count along the first axis, without NaN.

    Parameters
    ----------
    samples : array of float, shape [n, ...]
        Samples; NaN where one is missing.

    Returns
    -------
    mean, error, count : arrays of float, each of shape [...]
        NaN for a mean of no samples, and for the standard error of fewer than two.
    """
    present = ~np.isnan(samples)
    count = np.asarray(present.sum(axis=0), dtype=float)
    mean = quotient(np.where(present, samples, 0.0).sum(axis=0), count)
    squares = (np.where(present, samples - mean, 0.0) ** 2).sum(axis=0)
    return mean, np.sqrt(quotient(squares, (count - 1) * count)), count


def student(
    mean: Floats, error: Floats, count: Floats, level: float, freedom: Floats | None = None
) -> tuple[Floats, Floats, Floats]:
    """Compute Student's t interval and test of a mean.

    Parameters
    ----------
    mean, error, count : arrays of float, each of shape [...]
        Mean, standard error and number of samples, as ``mean_and_error`` returns them.
    level : float
        Confidence level, such as 0.95.
    freedom : array of float, shape [...], optional
        Degrees of freedom; by default ``count - 1``, at least 1.

    Returns
    -------
    mean, half, p : arrays of float, each of shape [...]
        Mean, half width of its interval and two-sided p against 0; the last two are NaN where ``error`` is.
    """
    degrees = np.maximum(count - 1, 1) if freedom is None else freedom
    half = stdtrit(degrees, 0.5 + level / 2) * error
    # Identical samples have no spread: their mean is certain, whether it is 0 or not.
    steps = np.where(error > 0, np.abs(quotient(mean, error)), np.where(mean == 0, 0.0, np.inf))
    return mean, half, np.where(np.isnan(error), np.nan, 2 * stdtr(degrees, -steps))


def student_between(
    ours: tuple[Floats, Floats, Floats], theirs: tuple[Floats, Floats, Floats], level: float
) -> tuple[Floats, Floats, Floats]:
    """Compute the t interval and test of the difference of two independent means (Welch, 1947).

    Parameters
    ----------
    ours, theirs : tuples of arrays of float, each of shape [...]
        Mean, standard error and count of either side, as ``mean_and_error`` returns them.
    level : float
        Confidence level, such as 0.95.

    Returns
    -------
    difference, half, p : arrays of float, each of shape [...]
        Difference of the means, half width of its interval and two-sided p against 0.
    """
    (mean, error, count), (other_mean, other_error, other_count) = ours, theirs
    freedom = welch(error, count, other_error, other_count)
    return student(mean - other_mean, np.hypot(error, other_error), count, level, freedom)


def welch(error: Floats, count: Floats, other_error: Floats, other_count: Floats) -> Floats:
    """Compute the degrees of freedom of the difference of two independent means (Welch, 1947).

    Parameters
    ----------
    error, other_error : arrays of float, shape [...]
        Standard errors of the two means.
    count, other_count : arrays of float, shape [...]
        Numbers of samples.

    Returns
    -------
    array of float, shape [...]
        1 where neither mean has an error.
    """
    variance = error**2 + other_error**2
    spent = quotient(error**4, count - 1) + quotient(other_error**4, other_count - 1)
    return np.where(variance > 0, quotient(variance**2, spent), 1.0)


def quantiles(freedom: Floats, level: float) -> Floats:
    """Look up the two-sided quantiles of Student's t.

    There may be millions of them, so they come from a table at the next lower hundredth of a degree: never
    too narrow, and exact for whole degrees.

    Parameters
    ----------
    freedom : array of float, shape [...]
        Degrees of freedom; NaN and values below 1 count as 1.
    level : float
        Share of the distribution that lies between minus the quantile and the quantile.

    Returns
    -------
    array of float, shape [...]
    """
    hundredths = np.floor(100 * np.clip(np.nan_to_num(freedom, nan=1.0), 1, MAX_FREEDOM)).astype(np.int64)
    table = stdtrit(np.arange(100, hundredths.max(initial=100) + 1) / 100, 0.5 + level / 2)
    result: Floats = table[hundredths - 100]
    return result


def quotient(part: Floats, whole: ArrayLike) -> Floats:
    """Divide element by element, with NaN where the divisor is 0.

    Parameters
    ----------
    part, whole : arrays of float, of shapes that broadcast
        Dividend and divisor.

    Returns
    -------
    array of float, of the broadcast shape
    """
    whole = np.asarray(whole, dtype=float)
    return np.asarray(np.divide(part, np.where(whole == 0, np.nan, whole)), dtype=float)


def finite(values: ArrayLike) -> Floats:
    """Convert values to one row of finite floats.

    Parameters
    ----------
    values : array-like, shape [n]
        Any numbers.

    Returns
    -------
    array of float, shape [n]

    Raises
    ------
    ValueError
        There is no value, one is not finite, or the shape is not ``[n]``.
    """
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"samples must be one row of finite numbers, not {array!r}")
    return array
