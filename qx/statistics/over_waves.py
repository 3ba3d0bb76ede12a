"""Estimates and comparisons from launches and waves, which are the unit of independent repetition.

A launch that is missing from a wave is NaN.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

from qx.statistics.intervals import (
    MAX_LOG_WIDTH,
    ROWS,
    Difference,
    Estimate,
    Interval,
    RatioKind,
    around,
    as_ratio,
    p_or_none,
)
from qx.statistics.over_sittings import mean_over_sittings
from qx.statistics.student_t import (
    Floats,
    finite,
    mean_and_error,
    quantiles,
    quotient,
    student,
    student_between,
    welch,
)

# Launches of a cell ------------------------------------------------------------------------------


def between_launches(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Estimate the median over launches.

    The launch is the unit of independent repetition (Kalibera & Jones, 2013). From six launches on (for
    95 %) the interval lies between interpolated order statistics (Hettmansperger & Sheather, 1986). It
    assumes no distribution, always contains the median, and covers 94.2 to 95.3 % of the time in simulations
    with normal, exponential, log-normal, bimodal and outlying launch effects, n = 6 to 30. The t interval of
    the logs is for another quantity: with skewed effects its coverage falls to 83 % at 20 launches and 40 %
    at 30. Below six launches even the extremes cover too little. The t interval is used there (93 to 96 %),
    widened to contain the median.

    Parameters
    ----------
    values : array-like of float, shape [launches]
        One value per launch, in the metric's unit.
    level : float
        Confidence level, such as 0.95.

    Returns
    -------
    Estimate
        Without an interval for a single launch.
    """
    launches = np.sort(finite(values))
    n, middle = len(launches), float(np.median(launches))
    if n == 1:
        return Estimate(value=middle, ci=None, n=1)
    if _order_coverage(1, n) >= level:
        return Estimate(value=middle, ci=_order_interval(launches, level), n=n)
    is_positive = bool(launches[0] > 0)
    mean, half, _ = student(*mean_and_error(np.log(launches) if is_positive else launches), level=level)
    if is_positive and 2 * half > MAX_LOG_WIDTH:
        return Estimate(value=middle, ci=None, n=n)
    low, high = (float(np.exp(end)) if is_positive else float(end) for end in (mean - half, mean + half))
    return Estimate(value=middle, ci=(min(low, middle), max(high, middle)), n=n)


def _order_coverage(depth: int, n: int) -> float:
    """Return how often the median lies between the ``depth``-th lowest and highest of ``n`` values."""
    return 1 - 2 * float(bdtr(depth - 1, n, 0.5))


def _order_interval(ascending: Floats, level: float) -> Interval:
    n, depth = len(ascending), 1
    while depth + 1 <= n // 2 and _order_coverage(depth + 1, n) >= level:
        depth += 1
    outer, inner = _order_coverage(depth, n), _order_coverage(depth + 1, n)
    excess = (outer - level) / (outer - inner)
    weight = (n - depth) * excess / (depth + (n - 2 * depth) * excess)
    low = (1 - weight) * ascending[depth - 1] + weight * ascending[depth]
    high = (1 - weight) * ascending[n - depth] + weight * ascending[n - depth - 1]
    return float(low), float(high)


def launch_ratio(
    ours: ArrayLike, theirs: ArrayLike, kind: RatioKind = "ratio", level: float = 0.95
) -> Difference:
    """Compare two cells by the ratio of the medians of their launches.

    Only waves count that both cells have. The interval is the t interval of the log ratio over these waves.
    It is centred on the geometric mean, so it is widened where it would not contain the ratio of medians,
    which is what a reader computes from the two values of the table.

    Parameters
    ----------
    ours, theirs : array-likes of float, shape [waves]
        One positive value per wave; NaN where the cell has no launch in a wave.
    kind : {"ratio", "speedup"}
        Direction of the ratio.
    level : float
        Confidence level, such as 0.95.

    Returns
    -------
    Difference
        Without interval and p where the cells share one wave only.

    Raises
    ------
    ValueError
        Shapes differ, a value is not positive, or the cells share no wave.
    """
    first, second = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"launches need the same waves, not shapes {first.shape} and {second.shape}")
    if np.any(first <= 0) or np.any(second <= 0):
        raise ValueError("a ratio needs positive values")
    shared = ~np.isnan(first) & ~np.isnan(second)
    if not shared.any():
        raise ValueError("a ratio needs a wave that both cells have")
    first, second = first[shared], second[shared]
    mean, half, p = student(*mean_and_error(np.log(first / second)), level=level)
    value = float(np.log(np.median(first) / np.median(second)))
    return as_ratio(kind, value, around(mean, half), float(p), "log ratio, paired t over waves")


# Two cells over waves ----------------------------------------------------------------------------


def ratio_interval(log_ratios: ArrayLike, level: float = 0.95, kind: RatioKind = "ratio") -> Difference:
    """Estimate the ratio of two cells from its log in each wave, with a t interval over waves.

    Simulated for 6 to 30 waves it covers 93.9 to 96.3 % where one or both cells have exponential launch
    effects. The worst case is an exponential effect and no other noise: 88 % at six waves.

    Parameters
    ----------
    log_ratios : array-like of float, shape [waves]
        ``log(ours / theirs)``, whatever the kind; waves that are NaN are left out.
    level : float
        Confidence level, such as 0.95.
    kind : {"ratio", "speedup"}
        Direction of the ratio.

    Returns
    -------
    Difference
        Without interval and p for a single wave.

    Raises
    ------
    ValueError
        All waves are NaN.
    """
    mean, half, p = student(*mean_and_error(np.asarray(log_ratios, dtype=float)), level=level)
    if np.isnan(mean):
        raise ValueError("a ratio needs a wave that both cells have")
    return as_ratio(kind, float(mean), around(mean, half), float(p), "log ratio, t over waves")


def difference_interval(differences: ArrayLike, level: float = 0.95) -> Difference:
    """Estimate the difference of two cells from that in each wave, with a t interval over waves.

    Parameters
    ----------
    differences : array-like of float, shape [waves]
        Ours less theirs; waves that are NaN are left out.
    level : float
        Confidence level, such as 0.95.

    Returns
    -------
    Difference
        Without interval and p for a single wave.

    Raises
    ------
    ValueError
        All waves are NaN.
    """
    mean, half, p = student(*mean_and_error(np.asarray(differences, dtype=float)), level=level)
    if np.isnan(mean):
        raise ValueError("a difference needs a wave that both cells have")
    ci, method = around(mean, half), "difference, t over waves"
    return Difference("difference", float(mean), ci, p_or_none(p), method)


def between_sittings(
    values: ArrayLike,
    sittings: ArrayLike,
    kind: Literal["ratio", "speedup", "difference"],
    level: float = 0.95,
) -> Difference:
    """Compare two cells over sittings that differ by more than waves do: each sitting counts once.

    Parameters
    ----------
    values : array-like of float, shape [waves]
        Ours less theirs in each wave, as logs for a ratio or a speedup; waves that are NaN are left out.
    sittings : array-like of int, shape [waves]
        The sitting of each wave.
    kind : {"ratio", "speedup", "difference"}
        How they are compared.
    level : float
        Confidence level, such as 0.95.

    Returns
    -------
    Difference
        With a t interval over sittings (``qx.statistics.over_sittings.mean_over_sittings``).
    """
    mean, half, p = mean_over_sittings(values, sittings, level)
    method = "t over sittings, which differ by more than their waves do"
    if kind == "difference":
        ci = around(mean, half)
        return Difference("difference", float(mean), ci, p_or_none(p), f"difference, {method}")
    return as_ratio(kind, float(mean), around(mean, half), float(p), f"log ratio, {method}")


def independent(
    ours: ArrayLike,
    theirs: ArrayLike,
    kind: Literal["ratio", "speedup", "difference"],
    level: float = 0.95,
    where: str = "between runs",
) -> Difference:
    """Compare values that are not paired, as of two runs, by the t interval of the means of Welch (1947).

    Parameters
    ----------
    ours, theirs : array-likes of float, shapes [n] and [m]
        Values, in logs for a ratio or a speedup: logs of times, or of ratios of times, which are then
        compared by their own ratio. NaN is left out.
    kind : {"ratio", "speedup", "difference"}
        How they are compared.
    level : float
        Confidence level, such as 0.95.
    where : str
        Words for ``method`` that say why the values are not paired.

    Returns
    -------
    Difference
        Without interval and p where either side has fewer than two values.

    Raises
    ------
    ValueError
        One side has no value.
    """
    sides = [mean_and_error(np.asarray(values, dtype=float)) for values in (ours, theirs)]
    mean, half, p = student_between(sides[0], sides[1], level=level)
    if np.isnan(mean):
        raise ValueError("a comparison needs a value on either side")
    if kind != "difference":
        return as_ratio(kind, float(mean), around(mean, half), float(p), f"log ratio, Welch's t {where}")
    return Difference(kind, float(mean), around(mean, half), p_or_none(p), f"Welch's t {where}")


# How many waves are enough -----------------------------------------------------------------------


def half_width(log_ratios: ArrayLike, level: float = 0.95) -> Floats:
    """Compute the relative half width of the interval of a ratio, on its upper and longer side.

    Parameters
    ----------
    log_ratios : array-like of float, shape [waves, ...]
        ``log(ours / theirs)``; NaN where a wave is missing.
    level : float
        Confidence level, such as 0.95.

    Returns
    -------
    array of float, shape [...]
        0.01 for +1 %; infinite below two waves.
    """
    _, half, _ = student(*mean_and_error(np.asarray(log_ratios, dtype=float)), level=level)
    return np.asarray(np.where(np.isnan(half), np.inf, np.expm1(half)), dtype=float)


def enough(log_ratios: ArrayLike, precision: float, least: int = 6, level: float = 0.95) -> bool:
    """Return whether every cell has enough waves, and an interval that is narrow enough.

    A rule that stops on the width that is reported costs coverage, more so the earlier it may stop.
    Simulated with normal waves and a precision of half to twice their deviation, one cell alone covers 90.4
    to 94.9 % from three waves and 92.6 to 95.2 % from six. Three cells or more, which wait for each other,
    cover 94.6 to 95.2 % from six.

    Parameters
    ----------
    log_ratios : array-like of float, shape [waves, cells]
        ``log(cell / baseline)``; NaN where a wave is missing. Cells without any wave do not count. Leave out
        cells that are no longer measured, since they could never fulfil the rule.
    precision : float
        Largest relative half width of an interval, 0.02 for +-2 %.
    least : int
        Smallest number of waves of a cell.
    level : float
        Confidence level, such as 0.95.

    Returns
    -------
    bool
        False where no cell has a wave.
    """
    ratios = np.asarray(log_ratios, dtype=float)
    counts = np.count_nonzero(~np.isnan(ratios), axis=0)
    is_precise = (counts >= least) & (half_width(ratios, level) <= precision)
    return bool(np.any(counts)) and bool(np.all(is_precise[counts > 0]))


# All pairs of cells, for the front ----------------------------------------------------------------


def pairwise_over_waves(
    values: ArrayLike,
    baseline: int | None = None,
    level: float = 0.95,
    weights: ArrayLike | None = None,
) -> tuple[Floats, Floats]:
    """Compute the intervals of the differences of all pairs of cells over waves.

    A pair without two waves in common, as of two groups, is compared through the baseline: by the t interval
    of Welch (1947) of the difference of their differences to it. Transpose both arrays where lower is better.

    Parameters
    ----------
    values : array-like of float, shape [waves, cells]
        One value per wave, in logs for ratios; NaN where a cell has no launch in a wave.
    baseline : int, optional
        Column of the baseline.
    level : float
        Confidence level, such as 0.95.
    weights : array-like of float, shape [waves], optional
        1 for a row that counts, -1 for one that takes back what another row counts too much, which may differ
        between pairs: each pair must be left with every wave once.

    Returns
    -------
    low, high : arrays of float, shape [cells, cells]
        Ends of the intervals of row less column; NaN where a pair cannot be compared.
    """
    waves = np.asarray(values, dtype=float)
    present = (~np.isnan(waves)).astype(float)
    signs = np.ones(len(waves)) if weights is None else np.asarray(weights, dtype=float)
    # Deviations from the mean of each cell, or sums of squares would lose their digits.
    means = quotient(np.nansum(waves, axis=0), present.sum(axis=0))
    deviations = np.where(present > 0, waves - means, 0.0)
    cells = waves.shape[1]
    low, high = np.empty((cells, cells)), np.empty((cells, cells))
    of_baseline = None
    if baseline is not None:
        of_baseline = _differences(deviations, present, signs, means, np.array([baseline]))
    # Sorted by their first wave, the cells of a group are neighbours, and few waves are needed for each part.
    order = np.argsort(present.argmax(axis=0), kind="stable")
    for start in range(0, cells, ROWS):
        rows = order[start : start + ROWS]
        used = present[:, rows].any(axis=1)
        mean, error, count = _differences(deviations[used], present[used], signs[used], means, rows)
        freedom = count - 1
        if of_baseline is not None and (is_apart := count < 2).any():
            # These are the baseline less each cell, so the signs change places.
            base_mean, base_error, base_count = (array[0] for array in of_baseline)
            row_mean, row_error, row_count = (
                array[rows, None] for array in (base_mean, base_error, base_count)
            )
            np.copyto(freedom, welch(row_error, row_count, base_error, base_count), where=is_apart)
            np.copyto(mean, base_mean - row_mean, where=is_apart)
            np.copyto(error, np.hypot(row_error, base_error), where=is_apart)
        half = quantiles(freedom, level) * error
        low[rows], high[rows] = mean - half, mean + half
    return low, high


def _differences(
    deviations: Floats, present: Floats, signs: Floats, means: Floats, rows: NDArray[np.intp]
) -> tuple[Floats, Floats, Floats]:
    """Return mean, error and count of the differences of ``rows`` to all cells, each ``[rows, cells]``."""
    ours, signed = deviations[:, rows] * signs[:, None], present[:, rows] * signs[:, None]
    count = signed.T @ present
    mean = quotient(ours.T @ present - signed.T @ deviations, count)
    squares = (ours * deviations[:, rows]).T @ present + signed.T @ deviations**2
    total = squares - 2 * ours.T @ deviations - count * mean**2
    # Rounding may leave a negative sum for identical values.
    error = np.sqrt(quotient(np.maximum(total, 0.0), np.where(count >= 2, (count - 1) * count, 0)))
    return mean + means[rows, None] - means, error, count
