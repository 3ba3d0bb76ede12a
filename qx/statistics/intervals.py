"""Intervals and tests: the value of one metric for a cell, and the comparison of two cells.

It knows samples and how they were taken, and no metric by name. Conventions that hold throughout: log
ratios are ``log(ours / theirs)``; a wave or launch that is missing is NaN; an interval is a pair
``(low, high)``, None where there are too few values to tell. What was simulated before each choice is
simulated again in ``tests/unit/test_stats.py``.
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
#: Cells whose pairs are worked on at a time, so that they stay in the processor's cache.
ROWS = 128
#: Of a ratio's interval, upper over lower end on the log scale: what is wider says nothing.
WIDEST = float(np.log(1e6))
#: How a ratio is told: ``ours / theirs``, or ``theirs / ours``.
RatioKind: TypeAlias = Literal["ratio", "speedup"]


@frozen
class Estimate:
    """The value of one metric for one cell, in the metric's unit, from ``n`` independent samples."""

    value: float
    ci: Interval | None
    n: int
    #: Why there is no interval, where the number of samples does not say it.
    reason: str = ""


@frozen
class Difference:
    """How one cell compares with another.

    ``p`` is two-sided, against 'no difference'; None where there is no test. ``method`` says in words
    where the interval comes from, ``reason`` why there is none where the number of samples does not say it.
    """

    kind: Literal["ratio", "speedup", "difference"] = field(validator=in_(("ratio", "speedup", "difference")))
    value: float
    ci: Interval | None
    p: float | None
    method: str = ""
    reason: str = ""

    @property
    def is_finite(self) -> bool:
        """Whether its value and both ends of its interval are numbers, of ratios with a logarithm."""
        numbers = (self.value, *(self.ci or ()))
        return all(map(math.isfinite, numbers)) and (self.kind == "difference" or min(numbers) > 0)


# Accuracy and other values per item ---------------------------------------------------------------


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """Estimate a proportion with the score interval (Wilson, 1927), without continuity correction."""
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"a proportion needs 0 <= successes <= n and n >= 1, not {successes} of {n}")
    z = float(ndtri(0.5 + level / 2))
    share = successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    # At the ends the formula gives 0 and 1 but for rounding, which would leave the value outside.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Estimate(value=share, ci=(low, high), n=n)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """Estimate a proportion with the exact interval (Clopper & Pearson, 1934), which holds either tail."""
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"a proportion needs 0 <= successes <= n and n >= 1, not {successes} of {n}")
    tail = (1 - level) / 2
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return Estimate(value=successes / n, ci=(low, high), n=n)


def item_mean(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Estimate the mean over items ``[n]``.

    Values of 0 and 1: Wilson's interval, and above 95 % that of Clopper and Pearson, since Wilson's lies
    beside the truth in 0.2 % of sets, where 0.05 % are claimed (5 wrong of 500 expected). Any other values:
    Student's t with pseudo-items (``qx.statistics.items``), or no interval where too few items have another
    value.
    """
    row = finite(values)
    if _binary(row):
        proportion = wilson if level <= items.TOGETHER else clopper_pearson
        return proportion(int(row.sum()), len(row), level)
    over_items = items.moments(row)
    if items.too_few(row):
        return Estimate(value=float(over_items.mean), ci=None, n=len(row), reason=items.TOO_FEW)
    low, high = items.ends(over_items, over_items.largest, level)
    return Estimate(value=float(over_items.mean), ci=_between_ends(low, high), n=len(row))


def paired_difference(ours: ArrayLike, theirs: ArrayLike, level: float = 0.95) -> Difference:
    """Compare two cells on the same items: mean of ``ours`` less mean of ``theirs``, each ``[n]``.

    Values of 0 and 1: the adjusted Wald interval of Bonett & Price (2012), which adds one item to
    either kind of discordant pair, and the exact test of McNemar (1947), binomial on those pairs. Simulated
    (n of 500 to 10,000, accuracy 0.75 and 0.93, 1 to 800 discordant items expected) it covers 94.8 to
    97.6 % from ten discordant items on and more below, never less than 94.8; Wald's own falls to 63 %.
    Newcombe's (1998) method 10 covers the same, is up to 28 % wider where accuracy is high, and,
    unlike this one and the test, depends on how many items both cells get right. Above 95 % more items are
    added, and the longer side is made longer yet (``qx.statistics.items``): each tail then holds what it
    claims.

    Any other values: Student's t over the paired differences, with pseudo-items (``qx.statistics.items``).
    """
    first, second = _paired(finite(ours), finite(theirs))
    if not (_binary(first) and _binary(second)):
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
    scales = items.Scale.of(first), items.Scale.of(second)
    step = items.step_between(*scales, over_items, np.mean(first == second))
    p = float(items.p_value(over_items, step))
    test, ci = None if np.isnan(p) else p, _between_ends(*items.ends(over_items, step, level))
    return Difference("difference", float(over_items.mean), ci, test, method)


def no_difference(kind: Literal["ratio", "speedup", "difference"]) -> Difference:
    """Say that cells do not differ, where they are the same on every item and nothing else is asked."""
    neutral = 0.0 if kind == "difference" else 1.0
    return Difference(kind, neutral, (neutral, neutral), 1.0, "the same on every item")


def _paired(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    if first.shape != second.shape:
        raise ValueError(f"a comparison in pairs needs the same items, not {len(first)} and {len(second)}")
    return first, second


def _bonett_price(wins: Floats, losses: Floats, n: int, level: float) -> tuple[Floats, Floats]:
    """Ends of the adjusted Wald interval, for any shape of counts."""
    added = items.pseudo_items(level)
    more, less = (wins + added) / (n + 2 * added), (losses + added) / (n + 2 * added)
    centre = more - less
    together = level <= items.TOGETHER
    reach = ndtri(0.5 + level / 2) if together else stdtrit(max(n - 1, 1), 0.5 + level / 2)
    half = reach * np.sqrt((more + less - centre**2) / (n + 2 * added))
    # Moments of differences of 1, -1 and 0.
    mean, square = (wins - losses) / n, (wins + losses) / n
    cube = mean - 3 * mean * square + 2 * mean**3
    lean = np.nan_to_num(quotient(cube, square - mean**2)) / n
    below, above = items.outward(lean, level)
    return centre - half + below, centre + half + above


# Launches -----------------------------------------------------------------------------------------


def between_launches(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Estimate the median over launches from one value per launch, ``[launches]``, in the metric's unit.

    The launch is the unit of independent repetition (Kalibera & Jones, 2013). From six launches on (for
    95 %) the interval lies between interpolated order statistics (Hettmansperger & Sheather, 1986): it
    supposes no shape, always contains the median, and covers 94.2 to 95.3 % of the time in simulations with
    normal, exponential, log-normal, two-humped and outlying launch effects, n = 6 to 30. The t interval of
    the logs is for another quantity: with skewed effects its coverage falls to 83 % at 20 launches and 40 %
    at 30. Below six launches even the extremes cover too little, and it is used all the same (93 to 96 %),
    widened to contain the median. None for one launch.
    """
    launches = np.sort(finite(values))
    n, middle = len(launches), float(np.median(launches))
    if n == 1:
        return Estimate(value=middle, ci=None, n=1)
    if _order_coverage(1, n) >= level:
        return Estimate(value=middle, ci=_order_interval(launches, level), n=n)
    positive = bool(launches[0] > 0)
    mean, half, _ = student(*mean_and_error(np.log(launches) if positive else launches), level=level)
    if positive and 2 * half > WIDEST:
        return Estimate(value=middle, ci=None, n=n)
    low, high = (float(np.exp(end)) if positive else float(end) for end in (mean - half, mean + half))
    return Estimate(value=middle, ci=(min(low, middle), max(high, middle)), n=n)


def _order_coverage(depth: int, n: int) -> float:
    """How often the median lies between the ``depth``-th lowest and the ``depth``-th highest of ``n``."""
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
    """Compare two cells by one value per launch: ratio of the medians of launches.

    Either cell has positive values ``[waves]``. Position in the arrays is the wave; NaN where the cell has no
    launch in it. Only waves count that both have: t interval of the log ratio over them, which is centred on
    the geometric mean, so it is widened where it would not contain the ratio of medians, which is what a
    reader gets from the two values of the table. With one wave there is a value, and neither interval nor p.
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
    """Compare values that are the whole truth: the interval is the value itself, and there is no test."""
    if kind == "difference":
        return Difference(kind, ours - theirs, (ours - theirs, ours - theirs), None, "exact")
    if ours <= 0 or theirs <= 0:
        raise ValueError(f"a ratio needs positive values, not {ours} and {theirs}")
    value = ours / theirs if kind == "ratio" else theirs / ours
    return Difference(kind, value, (value, value), None, "exact")


def exact_or_none(
    ours: float, theirs: float, kind: Literal["ratio", "speedup", "difference"]
) -> Difference | None:
    """The same, but equal values have a ratio of 1, whatever they are; None where there is no ratio."""
    if kind != "difference" and ours == theirs:
        return Difference(kind, 1.0, (1.0, 1.0), None, "exact")
    if kind != "difference" and min(ours, theirs) <= 0:
        return None
    return exact(ours, theirs, kind)


# Ratios over waves --------------------------------------------------------------------------------


def ratio_interval(log_ratios: ArrayLike, level: float = 0.95, kind: RatioKind = "ratio") -> Difference:
    """Tell the ratio of two cells from its log in each wave, ``[waves]``: t interval over waves.

    ``log_ratios`` are ``log(ours / theirs)`` whatever the kind; waves that are NaN are left out. With one
    wave there is a value, and neither interval nor p. Simulated for 6 to 30 waves it covers 93.9 to 96.3 %
    where either or both cells have exponential launch effects; an exponential effect with nothing beside it
    is the worst found, 88 % at six waves.
    """
    mean, half, p = student(*mean_and_error(np.asarray(log_ratios, dtype=float)), level=level)
    if np.isnan(mean):
        raise ValueError("a ratio needs a wave that both cells have")
    return as_ratio(kind, float(mean), _around(mean, half), float(p), "log ratio, t over waves")


def difference_interval(differences: ArrayLike, level: float = 0.95) -> Difference:
    """Tell the difference of two cells from that in each wave, ``[waves]``: t interval over waves.

    Waves that are NaN are left out. With one wave there is a value, and neither interval nor p.
    """
    mean, half, p = student(*mean_and_error(np.asarray(differences, dtype=float)), level=level)
    if np.isnan(mean):
        raise ValueError("a difference needs a wave that both cells have")
    test = None if np.isnan(p) else float(p)
    return Difference("difference", float(mean), _around(mean, half), test, "difference, t over waves")


def independent(
    ours: ArrayLike,
    theirs: ArrayLike,
    kind: Literal["ratio", "speedup", "difference"],
    level: float = 0.95,
    where: str = "between runs",
) -> Difference:
    """Compare values that were taken apart, as in two runs: Welch's (1947) t interval of the means.

    Of a ratio or a speedup ``ours`` ``[n]`` and ``theirs`` ``[m]`` are logs: of times, or of ratios of times,
    whose own ratio is then told. ``where`` says in ``method`` what keeps them apart. NaN is left out. With
    fewer than two values on either side there is a value, and neither interval nor p.
    """
    parts = [mean_and_error(np.asarray(values, dtype=float)) for values in (ours, theirs)]
    mean, half, p = student_between(parts[0], parts[1], level=level)
    if np.isnan(mean):
        raise ValueError("a comparison needs a value on either side")
    if kind != "difference":
        return as_ratio(kind, float(mean), _around(mean, half), float(p), f"log ratio, Welch's t {where}")
    test = None if np.isnan(p) else float(p)
    return Difference(kind, float(mean), _around(mean, half), test, f"Welch's t {where}")


def ratio_of_means(
    ours: ArrayLike, theirs: ArrayLike, kind: RatioKind = "ratio", level: float = 0.95
) -> Difference:
    """Compare the means of two rows of positive values on the same items, ``[n]``, by their ratio.

    The interval is that of the linearised ratio estimator (Cochran, 1977, section 6.4) on the log scale: t of
    the residuals ``ours / mean(ours) - theirs / mean(theirs)``, with pseudo-items (``qx.statistics.items``).
    """
    first, second = _paired(finite(ours), finite(theirs))
    if first.mean() <= 0 or second.mean() <= 0:
        raise ValueError("a ratio needs positive means")
    shares = first / first.mean(), second / second.mean()
    residuals = items.moments(shares[0] - shares[1])
    scales = items.Scale.of(shares[0]), items.Scale.of(shares[1])
    step = items.step_between(*scales, residuals, np.mean(first == second))
    log_value = np.log(first.mean() / second.mean())
    moved = evolve(residuals, mean=np.asarray(log_value))
    low, high = items.ends(moved, step, level)
    ci, p = _between_ends(low, high), float(items.p_value(moved, step))
    return as_ratio(kind, float(log_value), ci, p, "ratio of means, t over items, with pseudo-items")


def half_width(log_ratios: ArrayLike, level: float = 0.95) -> Floats:
    """Relative half width of the interval of a ratio: ``[waves, ...]`` gives ``[...]``, 0.01 for +1 %.

    The side above the ratio is taken, the larger one. Infinite below two waves.
    """
    _, half, _ = student(*mean_and_error(np.asarray(log_ratios, dtype=float)), level=level)
    return np.asarray(np.where(np.isnan(half), np.inf, np.expm1(half)), dtype=float)


def enough(log_ratios: ArrayLike, precision: float, least: int = 6, level: float = 0.95) -> bool:
    """Say whether every cell has ``least`` waves and an interval within ``precision`` (0.02 for +-2 %).

    ``log_ratios`` ``[waves, cells]`` of each cell and the baseline. A cell with no wave is passed over; leave
    out one that has ceased to be measured, or it holds up all others. To stop on the width that is
    reported costs coverage, more so the earlier it may happen. Simulated with normal waves and a precision
    of half to twice their deviation, one cell alone covers 90.4 to 94.9 % from three waves and 92.6 to 95.2
    from six; three cells or more, which wait for each other, cover 94.6 to 95.2 from six.
    """
    ratios = np.asarray(log_ratios, dtype=float)
    counts = np.count_nonzero(~np.isnan(ratios), axis=0)
    done = (counts >= least) & (half_width(ratios, level) <= precision)
    return bool(np.any(counts)) and bool(np.all(done[counts > 0]))


def control_alarm(control: Difference, level: float = 0.999) -> bool:
    """Say whether what should be equal, as the control and the baseline, is not: at 99.9 %, by its p."""
    return control.p is not None and control.p < 1 - level


def clear(ratio: Difference, control: Difference) -> bool:
    """Say whether a difference is clear: its interval excludes none, and it is larger than the control's."""
    if (ratio.kind == "difference") != (control.kind == "difference"):
        raise ValueError(f"a {ratio.kind} cannot be held against a control's {control.kind}")
    if ratio.ci is None:
        return False
    if ratio.kind == "difference":
        return not ratio.ci[0] <= 0.0 <= ratio.ci[1] and abs(ratio.value) > abs(control.value)
    larger = abs(np.log(ratio.value)) > abs(np.log(control.value))
    return not ratio.ci[0] <= 1.0 <= ratio.ci[1] and bool(larger)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values, in the order given, for having looked at all of them (step-down: Holm, 1979)."""
    p = finite(p_values) if len(p_values) else np.empty(0)
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return [float(value) for value in adjusted]


# All pairs of cells, as the front wants them ------------------------------------------------------


def pairwise_over_waves(
    values: ArrayLike, baseline: int | None = None, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Intervals ``(low, high)`` of all differences over waves, ``[cells, cells]``, from ``[waves, cells]``.

    Give logs for ratios. A pair without two waves in common (two groups) is compared through ``baseline``,
    where one is given, else NaN: Welch's (1947) t interval of the difference of their differences to it.
    Where lower is better, transpose what comes back.
    """
    waves = np.asarray(values, dtype=float)
    present = (~np.isnan(waves)).astype(float)
    # Each cell from its own mean, or sums of squares would lose their digits.
    levels = quotient(np.nansum(waves, axis=0), present.sum(axis=0))
    held = np.where(present > 0, waves - levels, 0.0)
    cells = waves.shape[1]
    low, high = np.empty((cells, cells)), np.empty((cells, cells))
    to_base = None if baseline is None else _between(held, present, levels, np.array([baseline]))
    # Cells of a group next to each other: what shares waves then needs only these.
    order = np.argsort(present.argmax(axis=0), kind="stable")
    for start in range(0, cells, ROWS):
        rows = order[start : start + ROWS]
        seen = present[:, rows].any(axis=1)
        mean, error, count = _between(held[seen], present[seen], levels, rows)
        freedom = count - 1
        if to_base is not None and (apart := count < 2).any():
            # Of the baseline less each cell: signs change places.
            away, spread, shared = (part[0] for part in to_base)
            away_of, spread_of, shared_of = (part[rows, None] for part in (away, spread, shared))
            np.copyto(freedom, welch(spread_of, shared_of, spread, shared), where=apart)
            np.copyto(mean, away - away_of, where=apart)
            np.copyto(error, np.hypot(spread_of, spread), where=apart)
        half = quantiles(freedom, level) * error
        low[rows], high[rows] = mean - half, mean + half
    return low, high


def _between(
    held: Floats, present: Floats, levels: Floats, rows: NDArray[np.intp]
) -> tuple[Floats, Floats, Floats]:
    """Mean, standard error and count of the differences of some cells to all, each ``[rows, cells]``."""
    ours, there = held[:, rows], present[:, rows]
    count = there.T @ present
    mean = quotient(ours.T @ present - there.T @ held, count)
    total = (ours**2).T @ present + there.T @ held**2 - 2 * ours.T @ held - count * mean**2
    # Rounding may leave less than nothing of identical values.
    error = np.sqrt(quotient(np.maximum(total, 0.0), np.where(count >= 2, (count - 1) * count, 0)))
    return mean + levels[rows, None] - levels, error, count


def pairwise_differences(rows: Sequence[ArrayLike], level: float = 0.95) -> tuple[Floats, Floats]:
    """Intervals ``(low, high)`` of all paired differences, ``[cells, cells]``, from rows ``[n]`` of cells."""
    values = [np.asarray(row, dtype=float) for row in rows]
    if all(map(_binary, values)):
        return _pairwise_shares(np.array(values, dtype=np.float32), level)
    every = np.array(values)
    return pairwise_means(every, lambda cell: (every == every[cell]).mean(axis=1), level)


def pairwise_ratios(rows: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Intervals of the logs of all ratios of means, ``[cells, cells]``, from rows ``[cells, n]``."""
    every = np.asarray(rows, dtype=float)
    means = every.mean(axis=1)
    shares = every / means[:, None]
    low, high = pairwise_means(shares, lambda cell: (every == every[cell]).mean(axis=1), level)
    # The shares have a mean of 1 each, so the ends are those around a ratio of 1.
    apart = np.log(means[:, None] / means[None, :])
    return apart + low, apart + high


def pairwise_means(rows: Floats, alike: Callable[[int], Floats], level: float) -> tuple[Floats, Floats]:
    """Intervals of the differences of the means of all pairs of rows ``[cells, n]``.

    ``alike`` gives for a cell the share of items that are the same in it and in each other, ``[cells]``.
    """
    # Row by row, because [cells, cells, n] would not fit and the sum of squares would lose its digits.
    low, high = np.empty((len(rows), len(rows))), np.empty((len(rows), len(rows)))
    scales = items.Scale.of(rows)
    for cell, row in enumerate(rows):
        over_items, same = items.moments(row - rows), alike(cell)
        own = items.Scale(scales.extent[cell], scales.deviation[cell])
        step = items.step_between(own, scales, over_items, same)
        low[cell], high[cell] = items.ends(over_items, step, level)
    return low, high


def _pairwise_shares(shares: NDArray[np.float32], level: float) -> tuple[Floats, Floats]:
    """The same of values of 0 and 1. Single precision counts up to 16 million of them without error."""
    cells, n = shares.shape
    both, totals = shares @ shares.T, shares.sum(axis=1)
    low, high = np.empty((cells, cells)), np.empty((cells, cells))
    for start in range(0, cells, ROWS):
        rows = np.s_[start : start + ROWS]
        wins, losses = (total - both[rows].astype(float) for total in (totals[rows, None], totals))
        below, above = _bonett_price(wins, losses, n, level)
        np.maximum(below, -1.0, out=low[rows])
        np.minimum(above, 1.0, out=high[rows])
    return low, high


# What is told ------------------------------------------------------------------------------------


def _around(mean: Floats, half: Floats) -> Interval | None:
    return _between_ends(mean - half, mean + half)


def _between_ends(low: Floats, high: Floats) -> Interval | None:
    return None if np.isnan(low) else (float(low), float(high))


def as_ratio(
    kind: RatioKind, log_value: float, log_ci: Interval | None, p: float | None, method: str
) -> Difference:
    """Bring a log ratio, ours to theirs, and its interval into the form that the kind asks for.

    An interval that says no more than 'somewhere within a factor of a million' is told as none.
    """
    sign = 1.0 if kind == "ratio" else -1.0
    test = None if p is None or np.isnan(p) else p
    value = float(np.exp(sign * log_value))
    if log_ci is None or log_ci[1] - log_ci[0] > WIDEST:
        return Difference(kind, value, None, test, method)
    low, high = sorted(float(np.exp(sign * end)) for end in log_ci)
    return Difference(kind, value, (min(low, value), max(high, value)), test, method)


def _binary(values: Floats) -> bool:
    return bool(np.all((values == 0) | (values == 1)))
