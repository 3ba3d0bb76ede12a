"""Intervals over builds and items at once, where every build was evaluated on the same items.

The builds of a cell differ by the draw of calibration items and by the seed of whatever else is random. So
a mean over builds has two sources of chance that cross: the items, which all builds share, and the builds. By
the model of two crossed random effects (Searle, Casella & McCulloch, 1992, chapter 4) its variance is
``items / n + builds / m + interaction / (n m)``. The variance over items of their means over builds holds the
first and the last of these, the variance between the values of builds the last two. Their sum is never too
small; it counts the interaction twice, which is the luck of builds with single items. To take it off once
would leave nothing of the spread between few builds too often: of ten intervals one or two would then miss.

Each of the two has a half width by Student's t with its own degrees of freedom, and the interval is as wide
as both at right angles (the modified large-sample method of Graybill & Wang, 1980). With degrees of freedom
by Satterthwaite (1946) two builds that happen to be alike would make it far too narrow.
``benchmarks/build_seeds.py`` simulates all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import evolve, frozen
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from qx.statistics import items
from qx.statistics.intervals import MAX_LOG_WIDTH, Difference, Interval


@frozen
class BuildsMean:
    """The mean over builds, with what is known of it."""

    value: float
    #: Interval over items and builds; None where there is a single item.
    ci: Interval | None


@frozen
class Deviation:
    """The standard deviation between the builds of one cell, on the scale on which they are compared."""

    value: float
    #: Number of builds.
    count: int


def deviation_of(values: ArrayLike) -> Deviation:
    """Compute the standard deviation between values of builds.

    Parameters
    ----------
    values : array-like of float, shape [m]
        One value per build, two at least; logs for what is compared by ratio.

    Returns
    -------
    Deviation
    """
    row = np.asarray(values, dtype=float)
    return Deviation(float(row.std(ddof=1)), len(row))


def between_two(deviation: Deviation) -> Deviation:
    """Return the standard deviation of the difference of two builds that vary alike.

    Parameters
    ----------
    deviation : Deviation
        The spread of one of them.

    Returns
    -------
    Deviation
        With the degrees of freedom of that one.
    """
    return evolve(deviation, value=deviation.value * 2**0.5)


def mean_over_builds(
    values: ArrayLike,
    over_items: items.Moments | None = None,
    step: float = 0.0,
    level: float = 0.95,
) -> BuildsMean:
    """Estimate the mean over builds, for the items and the builds that might have been drawn.

    Parameters
    ----------
    values : array-like of float, shape [m]
        One value per build, two at least.
    over_items : Moments, optional
        Moments over items of the influences, averaged over builds; None for values without sampling error.
    step : float
        How far one more item may move the mean (``qx.statistics.items``).
    level : float
        Confidence level, 0.95 or little more: above it the two tails together are held, not each.

    Returns
    -------
    BuildsMean
    """
    row = np.asarray(values, dtype=float)
    mean = float(row.mean())
    of_builds = stdtrit(len(row) - 1, 0.5 + level / 2) * row.std(ddof=1) / len(row) ** 0.5
    of_items = 0.0
    if over_items is not None:
        freedom = max(over_items.count - 1, 1)
        of_items = stdtrit(freedom, 0.5 + level / 2) * items.padded_error(over_items.error, step, level)
    half = float(np.hypot(of_items, of_builds))
    return BuildsMean(mean, (mean - half, mean + half) if np.isfinite(half) else None)


def widened(difference: Difference, deviations: Sequence[Deviation], level: float = 0.95) -> Difference:
    """Widen the interval of a difference between two builds by how much other builds would change it.

    Parameters
    ----------
    difference : Difference
        Comparison of one build of a cell with one build of another, or of a later version of it.
    deviations : sequence of Deviation
        Spread between the builds of either side; on the log scale for ratios.
    level : float
        Confidence level of the interval.

    Returns
    -------
    Difference
        With an interval that holds the difference of any two builds on any items. Unchanged without an
        interval, and where there is no spread.
    """
    reach = reach_of(deviations, level)
    if difference.ci is None or not reach:
        return difference
    if difference.kind == "difference":
        below, above = (abs(difference.value - end) for end in difference.ci)
        low, high = difference.value - np.hypot(below, reach), difference.value + np.hypot(above, reach)
    else:
        below, above = (abs(np.log(end / difference.value)) for end in difference.ci)
        low = difference.value * np.exp(-min(np.hypot(below, reach), MAX_LOG_WIDTH))
        high = difference.value * np.exp(min(np.hypot(above, reach), MAX_LOG_WIDTH))
    method = f"{difference.method}, widened by the spread between builds"
    return evolve(difference, ci=(float(low), float(high)), method=method)


def reach_of(deviations: Sequence[Deviation], level: float = 0.95) -> float:
    """Compute how far apart two builds are at most, at a confidence level, though nothing but chance differs.

    Parameters
    ----------
    deviations : sequence of Deviation
        Spread between the builds of either side.
    level : float
        Confidence level.

    Returns
    -------
    float
        0 where there is no spread.
    """
    variance = sum(deviation.value**2 for deviation in deviations)
    if not variance:
        return 0.0
    spent = sum((deviation.value**2 / variance) ** 2 / (deviation.count - 1) for deviation in deviations)
    return float(stdtrit(1 / spent, 0.5 + level / 2) * np.sqrt(variance))
