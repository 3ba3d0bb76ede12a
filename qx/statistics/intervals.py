"""Intervals and tests: the value of one metric for a cell, and the comparison of two cells.

This module works on samples and knows no metric by name. Three conventions hold throughout. Log ratios are
``log(ours / theirs)``. A wave or launch that is missing is NaN. An interval is a pair ``(low, high)``, None
where there are too few values. ``tests/unit/test_stats.py`` repeats the simulations behind each choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
from attrs import evolve, field, frozen
from attrs.validators import in_
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, betaincinv, ndtri, stdtrit

from qx.statistics import items
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

Interval: TypeAlias = tuple[float, float]
#: Number of cells whose pairs are computed at a time, so that the arrays stay in the processor's cache.
ROWS = 128
#: Largest width of a ratio's interval on the log scale: a wider one says nothing and is left out.
MAX_LOG_WIDTH = float(np.log(1e6))
#: The direction of a ratio: ``"ratio"`` is ``ours / theirs``, ``"speedup"`` is ``theirs / ours``.
RatioKind: TypeAlias = Literal["ratio", "speedup"]


@frozen
class Estimate:
    """The value of one metric for one cell, in the metric's unit, from ``n`` independent samples."""

    value: float
    ci: Interval | None
    n: int
    #: Reason for the lack of an interval, where that is not the number of samples.
    reason: str = ""


@frozen
class Difference:
    """How one cell compares with another.

    ``p`` is two-sided, against 'no difference', and None where there is no test. ``method`` names the method
    of the interval in words. ``reason`` says why there is no interval, where that is not the number of
    samples.
    """

    kind: Literal["ratio", "speedup", "difference"] = field(validator=in_(("ratio", "speedup", "difference")))
    value: float
    ci: Interval | None
    p: float | None
    method: str = ""
    reason: str = ""

    @property
    def is_finite(self) -> bool:
        """Whether value and interval are finite, and for ratios above 0, so that they have a logarithm."""
        numbers = (self.value, *(self.ci or ()))
        return all(map(math.isfinite, numbers)) and (self.kind == "difference" or min(numbers) > 0)


# Accuracy and other values per item ---------------------------------------------------------------


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """Estimate a proportion with the score interval (Wilson, 1927), without continuity correction.

    Parameters
    ----------
    successes, n : int
        Number of successes, and number of trials.
    level : float
        Confidence level, such as 0.95.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        Not ``0 <= successes <= n``, or no trials.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"a proportion needs 0 <= successes <= n and n >= 1, not {successes} of {n}")
    z = float(ndtri(0.5 + level / 2))
    share = successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    # At the ends the formula gives 0 and 1, except for rounding, which would leave the value outside.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Estimate(value=share, ci=(low, high), n=n)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """Estimate a proportion with the exact interval (Clopper & Pearson, 1934), which holds for each tail.

    Parameters
    ----------
    successes, n : int
        Number of successes, and number of trials.
    level : float
        Confidence level, such as 0.95.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        Not ``0 <= successes <= n``, or no trials.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"a proportion needs 0 <= successes <= n and n >= 1, not {successes} of {n}")
    tail = (1 - level) / 2
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return Estimate(value=successes / n, ci=(low, high), n=n)


def item_mean(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Estimate the mean over items.

    For values of 0 and 1 the interval is Wilson's, and above 95 % that of Clopper and Pearson: where 0.05 %
    of Wilson's intervals may miss the truth, 0.2 % do (5 wrong of 500 expected). For other values it is
    Student's t with pseudo-items (``qx.statistics.items``), or none where too few items differ from the rest.

    Parameters
    ----------
    values : array-like of float, shape [n]
        One value per item.
    level : float
        Confidence level, such as 0.95.

    Returns
    -------
    Estimate
    """
    row = finite(values)
    if _is_binary(row):
        proportion = wilson if level <= items.JOINT_LEVEL else clopper_pearson
        return proportion(int(row.sum()), len(row), level)
    over_items = items.moments(row)
    if items.has_too_few_differing(row):
        return Estimate(value=float(over_items.mean), ci=None, n=len(row), reason=items.TOO_FEW)
    low, high = items.ends(over_items, over_items.largest, level)
    return Estimate(value=float(over_items.mean), ci=_between_ends(low, high), n=len(row))


def paired_difference(ours: ArrayLike, theirs: ArrayLike, level: float = 0.95) -> Difference:
    """Compare two cells on the same items by the difference of their means.

    For values of 0 and 1 the interval is the adjusted Wald interval of Bonett & Price (2012), which adds one
    item to either kind of discordant pair. The test is the exact one of McNemar (1947), binomial on those
    pairs. Simulated (n of 500 to 10,000, accuracy 0.75 and 0.93, 1 to 800 discordant items expected) the
    interval covers 94.8 to 97.6 % from ten discordant items on, and never less than 94.8 % below; the plain
    Wald interval falls to 63 %. Method 10 of Newcombe (1998) covers the same, but is up to 28 % wider where
    accuracy is high, and depends on how many items both cells get right. Above 95 % more items are added and
    the longer side is extended (``qx.statistics.items``), so that each tail holds what it claims.

    For other values both are Student's t over the paired differences, with pseudo-items
    (``qx.statistics.items``).

    Parameters
    ----------
    ours, theirs : array-likes of float, shape [n]
        One value per item, in the same order.
    level : float
        Confidence level, such as 0.95.

    Returns
    -------
    Difference
        Mean of ``ours`` less mean of ``theirs``.
    """
    first, second = _require_pairs(finite(ours), finite(theirs))
    if not (_is_binary(first) and _is_binary(second)):
        return _mean_difference(first, second, level)
    wins, losses = int(np.sum(first > second)), int(np.sum(first < second))
    low, high = _bonett_price(np.array(float(wins)), np.array(float(losses)), len(first), level)
    return Difference(
        kind="difference",
        value=(wins - losses) / len(first),
        ci=(max(-1.0, float(low)), min(1.0, float(high))),
        p=min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5))),
        method="Bonett-Price over items, exact McNemar",
    )


def _mean_difference(first: Floats, second: Floats, level: float) -> Difference:
    over_items = items.moments(first - second)
    method = "paired t over items, with pseudo-items"
    scales = items.Scale.from_items(first), items.Scale.from_items(second)
    step = items.step_between(*scales, over_items, np.mean(first == second))
    p = _p_or_none(items.p_value(over_items, step))
    ci = _between_ends(*items.ends(over_items, step, level))
    return Difference("difference", float(over_items.mean), ci, p, method)


def no_difference(kind: Literal["ratio", "speedup", "difference"]) -> Difference:
    """Return the comparison of two cells that are the same on every item.

    Parameters
    ----------
    kind : {"ratio", "speedup", "difference"}
        How the metric is compared.

    Returns
    -------
    Difference
        Value and both ends of the interval say that there is no difference.
    """
    neutral = 0.0 if kind == "difference" else 1.0
    return Difference(kind, neutral, (neutral, neutral), 1.0, "the same on every item")


def _require_pairs(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Return both rows. Raises ``ValueError`` where they have different lengths."""
    if first.shape != second.shape:
        raise ValueError(f"a comparison in pairs needs the same items, not {len(first)} and {len(second)}")
    return first, second


def _bonett_price(wins: Floats, losses: Floats, n: int, level: float) -> tuple[Floats, Floats]:
    """Return the ends of the adjusted Wald interval, in the shape of the counts."""
    added = items.pseudo_items(level)
    win_share, loss_share = (wins + added) / (n + 2 * added), (losses + added) / (n + 2 * added)
    centre = win_share - loss_share
    is_joint = level <= items.JOINT_LEVEL
    quantile = ndtri(0.5 + level / 2) if is_joint else stdtrit(max(n - 1, 1), 0.5 + level / 2)
    half = quantile * np.sqrt((win_share + loss_share - centre**2) / (n + 2 * added))
    # Moments of differences of 1, -1 and 0.
    mean, square = (wins - losses) / n, (wins + losses) / n
    cube = mean - 3 * mean * square + 2 * mean**3
    skew = np.nan_to_num(quotient(cube, square - mean**2)) / n
    below, above = items.skewness_shifts(skew, level)
    return centre - half + below, centre + half + above


# Launches -----------------------------------------------------------------------------------------


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
    return as_ratio(kind, value, _around(mean, half), float(p), "log ratio, paired t over waves")


def exact(ours: float, theirs: float, kind: Literal["ratio", "speedup", "difference"]) -> Difference:
    """Compare values without sampling error: the interval is the value itself, and there is no test.

    Parameters
    ----------
    ours, theirs : float
        The two values.
    kind : {"ratio", "speedup", "difference"}
        How they are compared.

    Returns
    -------
    Difference

    Raises
    ------
    ValueError
        A ratio of values that are not both positive.
    """
    if kind == "difference":
        return Difference(kind, ours - theirs, (ours - theirs, ours - theirs), None, "exact")
    if ours <= 0 or theirs <= 0:
        raise ValueError(f"a ratio needs positive values, not {ours} and {theirs}")
    value = ours / theirs if kind == "ratio" else theirs / ours
    return Difference(kind, value, (value, value), None, "exact")


def exact_or_none(
    ours: float, theirs: float, kind: Literal["ratio", "speedup", "difference"]
) -> Difference | None:
    """Compare values without sampling error where that can be done.

    Equal values have a ratio of 1, even where both are 0.

    Parameters
    ----------
    ours, theirs : float
        The two values.
    kind : {"ratio", "speedup", "difference"}
        How they are compared.

    Returns
    -------
    Difference or None
        None for a ratio of different values that are not both positive.
    """
    if kind != "difference" and ours == theirs:
        return Difference(kind, 1.0, (1.0, 1.0), None, "exact")
    if kind != "difference" and min(ours, theirs) <= 0:
        return None
    return exact(ours, theirs, kind)


# Ratios over waves --------------------------------------------------------------------------------


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
    return as_ratio(kind, float(mean), _around(mean, half), float(p), "log ratio, t over waves")


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
    ci, method = _around(mean, half), "difference, t over waves"
    return Difference("difference", float(mean), ci, _p_or_none(p), method)


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
        return as_ratio(kind, float(mean), _around(mean, half), float(p), f"log ratio, Welch's t {where}")
    return Difference(kind, float(mean), _around(mean, half), _p_or_none(p), f"Welch's t {where}")


def ratio_of_means(
    ours: ArrayLike, theirs: ArrayLike, kind: RatioKind = "ratio", level: float = 0.95
) -> Difference:
    """Compare two cells on the same items by the ratio of their means.

    The interval is that of the linearised ratio estimator (Cochran, 1977, section 6.4) on the log scale: t of
    the residuals ``ours / mean(ours) - theirs / mean(theirs)``, with pseudo-items (``qx.statistics.items``).

    Parameters
    ----------
    ours, theirs : array-likes of float, shape [n]
        One value per item, in the same order.
    kind : {"ratio", "speedup"}
        Direction of the ratio.
    level : float
        Confidence level, such as 0.95.

    Returns
    -------
    Difference

    Raises
    ------
    ValueError
        The lengths differ, or a mean is not positive.
    """
    first, second = _require_pairs(finite(ours), finite(theirs))
    if first.mean() <= 0 or second.mean() <= 0:
        raise ValueError("a ratio needs positive means")
    shares = first / first.mean(), second / second.mean()
    residuals = items.moments(shares[0] - shares[1])
    scales = items.Scale.from_items(shares[0]), items.Scale.from_items(shares[1])
    step = items.step_between(*scales, residuals, np.mean(first == second))
    log_value = np.log(first.mean() / second.mean())
    around_ratio = evolve(residuals, mean=np.asarray(log_value))
    low, high = items.ends(around_ratio, step, level)
    ci, p = _between_ends(low, high), float(items.p_value(around_ratio, step))
    return as_ratio(kind, float(log_value), ci, p, "ratio of means, t over items, with pseudo-items")


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


def control_alarm(control: Difference, level: float = 0.999) -> bool:
    """Return whether two things that should be equal, such as control and baseline, differ by their p.

    Parameters
    ----------
    control : Difference
        Comparison of the two.
    level : float
        Level at which a difference is an alarm.

    Returns
    -------
    bool
        False where there is no test.
    """
    return control.p is not None and control.p < 1 - level


def clear(ratio: Difference, control: Difference) -> bool:
    """Return whether a difference is clear: its interval excludes 'none', and the control's is smaller.

    Parameters
    ----------
    ratio, control : Difference
        Comparisons of a cell and of the control with the baseline, of one kind.

    Returns
    -------
    bool
        False where there is no interval.

    Raises
    ------
    ValueError
        One is a difference, the other a ratio.
    """
    if (ratio.kind == "difference") != (control.kind == "difference"):
        raise ValueError(f"a {ratio.kind} cannot be held against a control's {control.kind}")
    if ratio.ci is None:
        return False
    if ratio.kind == "difference":
        return not ratio.ci[0] <= 0.0 <= ratio.ci[1] and abs(ratio.value) > abs(control.value)
    is_larger = abs(np.log(ratio.value)) > abs(np.log(control.value))
    return not ratio.ci[0] <= 1.0 <= ratio.ci[1] and bool(is_larger)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for the number of tests with the step-down method of Holm (1979).

    Parameters
    ----------
    p_values : sequence of float, length n
        Finite p values.

    Returns
    -------
    list of float, length n
        Adjusted p values, in the same order.
    """
    p = finite(p_values) if len(p_values) else np.empty(0)
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return [float(value) for value in adjusted]


# All pairs of cells, for the front ----------------------------------------------------------------


def pairwise_over_waves(
    values: ArrayLike, baseline: int | None = None, level: float = 0.95
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

    Returns
    -------
    low, high : arrays of float, shape [cells, cells]
        Ends of the intervals of row less column; NaN where a pair cannot be compared.
    """
    waves = np.asarray(values, dtype=float)
    present = (~np.isnan(waves)).astype(float)
    # Deviations from the mean of each cell, or sums of squares would lose their digits.
    means = quotient(np.nansum(waves, axis=0), present.sum(axis=0))
    deviations = np.where(present > 0, waves - means, 0.0)
    cells = waves.shape[1]
    low, high = np.empty((cells, cells)), np.empty((cells, cells))
    of_baseline = None
    if baseline is not None:
        of_baseline = _differences(deviations, present, means, np.array([baseline]))
    # Sorted by their first wave, the cells of a group are neighbours, and few waves are needed for each part.
    order = np.argsort(present.argmax(axis=0), kind="stable")
    for start in range(0, cells, ROWS):
        rows = order[start : start + ROWS]
        used = present[:, rows].any(axis=1)
        mean, error, count = _differences(deviations[used], present[used], means, rows)
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
    deviations: Floats, present: Floats, means: Floats, rows: NDArray[np.intp]
) -> tuple[Floats, Floats, Floats]:
    """Return mean, error and count of the differences of ``rows`` to all cells, each ``[rows, cells]``."""
    ours, our_present = deviations[:, rows], present[:, rows]
    count = our_present.T @ present
    mean = quotient(ours.T @ present - our_present.T @ deviations, count)
    total = (ours**2).T @ present + our_present.T @ deviations**2 - 2 * ours.T @ deviations - count * mean**2
    # Rounding may leave a negative sum for identical values.
    error = np.sqrt(quotient(np.maximum(total, 0.0), np.where(count >= 2, (count - 1) * count, 0)))
    return mean + means[rows, None] - means, error, count


def pairwise_differences(rows: Sequence[ArrayLike], level: float = 0.95) -> tuple[Floats, Floats]:
    """Compute the intervals of the differences of the means of all pairs of cells on the same items.

    Parameters
    ----------
    rows : sequence of array-likes of float, shape [cells, n]
        One value per cell and item.
    level : float
        Confidence level, such as 0.95.

    Returns
    -------
    low, high : arrays of float, shape [cells, cells]
        Ends of the intervals of row less column.
    """
    values = [np.asarray(row, dtype=float) for row in rows]
    if all(map(_is_binary, values)):
        return _pairwise_proportions(np.array(values, dtype=np.float32), level)
    array = np.array(values)
    return pairwise_means(array, lambda cell: (array == array[cell]).mean(axis=1), level)


def pairwise_ratios(rows: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Compute the intervals of the logs of the ratios of the means of all pairs of cells on the same items.

    Parameters
    ----------
    rows : array-like of float, shape [cells, n]
        One value per cell and item, with positive means.
    level : float
        Confidence level, such as 0.95.

    Returns
    -------
    low, high : arrays of float, shape [cells, cells]
        Ends of the intervals of ``log(row / column)``.
    """
    array = np.asarray(rows, dtype=float)
    means = array.mean(axis=1)
    shares = array / means[:, None]
    low, high = pairwise_means(shares, lambda cell: (array == array[cell]).mean(axis=1), level)
    # The shares have a mean of 1 each, so the ends are those around a ratio of 1.
    log_ratios = np.log(means[:, None] / means[None, :])
    return log_ratios + low, log_ratios + high


def pairwise_means(
    rows: Floats, equal_shares: Callable[[int], Floats], level: float
) -> tuple[Floats, Floats]:
    """Compute the intervals of the differences of the means of all pairs of rows.

    Parameters
    ----------
    rows : array of float, shape [cells, n]
        One value per cell and item.
    equal_shares : callable
        Maps a cell to the shares of items that are the same in it and in each cell, ``[cells]``.
    level : float
        Confidence level, such as 0.95.

    Returns
    -------
    low, high : arrays of float, shape [cells, cells]
        Ends of the intervals of row less column.
    """
    # Row by row, because [cells, cells, n] would not fit and the sum of squares would lose its digits.
    low, high = np.empty((len(rows), len(rows))), np.empty((len(rows), len(rows)))
    scales = items.Scale.from_items(rows)
    for cell, row in enumerate(rows):
        over_items = items.moments(row - rows)
        own = items.Scale(scales.extent[cell], scales.deviation[cell])
        step = items.step_between(own, scales, over_items, equal_shares(cell))
        low[cell], high[cell] = items.ends(over_items, step, level)
    return low, high


def _pairwise_proportions(values: NDArray[np.float32], level: float) -> tuple[Floats, Floats]:
    """Return the intervals of ``pairwise_differences`` for values of 0 and 1.

    Single precision counts up to 16 million items without error.
    """
    cells, n = values.shape
    both, totals = values @ values.T, values.sum(axis=1)
    low, high = np.empty((cells, cells)), np.empty((cells, cells))
    for start in range(0, cells, ROWS):
        rows = np.s_[start : start + ROWS]
        wins, losses = (total - both[rows].astype(float) for total in (totals[rows, None], totals))
        below, above = _bonett_price(wins, losses, n, level)
        np.maximum(below, -1.0, out=low[rows])
        np.minimum(above, 1.0, out=high[rows])
    return low, high


# Forms of results --------------------------------------------------------------------------------


def _p_or_none(p: Floats) -> float | None:
    return None if np.isnan(p) else float(p)


def _around(mean: Floats, half: Floats) -> Interval | None:
    return _between_ends(mean - half, mean + half)


def _between_ends(low: Floats, high: Floats) -> Interval | None:
    return None if np.isnan(low) else (float(low), float(high))


def as_ratio(
    kind: RatioKind, log_value: float, log_ci: Interval | None, p: float | None, method: str
) -> Difference:
    """Convert a log ratio and its interval to a ratio or a speedup.

    Parameters
    ----------
    kind : {"ratio", "speedup"}
        Direction of the ratio.
    log_value : float
        ``log(ours / theirs)``.
    log_ci : tuple of float, optional
        Its interval; one that spans more than a factor of a million is left out.
    p : float, optional
        Two-sided p; NaN becomes None.
    method : str
        Method of the interval, in words.

    Returns
    -------
    Difference
        The interval is widened to contain the value.
    """
    sign = 1.0 if kind == "ratio" else -1.0
    p = None if p is None or np.isnan(p) else p
    value = float(np.exp(sign * log_value))
    if log_ci is None or log_ci[1] - log_ci[0] > MAX_LOG_WIDTH:
        return Difference(kind, value, None, p, method)
    low, high = sorted(float(np.exp(sign * end)) for end in log_ci)
    return Difference(kind, value, (min(low, value), max(high, value)), p, method)


def _is_binary(values: Floats) -> bool:
    return bool(np.all((values == 0) | (values == 1)))
