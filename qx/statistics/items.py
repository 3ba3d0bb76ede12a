"""Intervals of means over items, and of statistics that move with items as means do.

An 8-bit model often changes 1 to 20 answers of 500, and what a mean over all items is said to be then rests
on those few. The usual interval (Wald, Student's t, the bootstrap) knows only the items that were seen to
change: with one expected it is missed in 37 of 100 sets, because in so many none is seen. So some
*pseudo-items* are supposed to either side, as Bonett & Price (2012) do for pairs of right and wrong: each
moves the mean by one ``step``, which is as far as an item can be expected to move it.

Two further things are needed where an interval is asked for at more than 95 %, because it decides by one of
its ends (``qx gate``, or one of many classes): more pseudo-items, since fewer unseen items are excluded; and
what Johnson (1978) adds for skewness, to the longer side only. ``benchmarks/few_items.py`` simulates all of
it.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtr, stdtrit

from qx.statistics.student_t import Floats, quotient

#: Up to this level the two tails of an interval are held together, above it each by itself.
TOGETHER = 0.95
#: Where most items are alike, a mean over fewer others than this has no interval.
FEWEST = 10
#: Influences that differ by a smaller share of their range are alike: statistics round.
ALIKE = 1e-9
#: Why there is no interval, where that is for want of items.
TOO_FEW = f"fewer than {FEWEST} items differ from all the others"


@frozen(eq=False)
class Moments:
    """What an interval of a mean is made of; all of one shape, the items reduced."""

    mean: Floats
    #: Standard error of the mean.
    error: Floats
    #: How many items.
    count: int
    #: The third central moment over the second, over the number of items: in units of the mean.
    lean: Floats
    #: How far the item that is farthest from the mean moves it.
    largest: Floats


def moments(values: Floats) -> Moments:
    """Reduce the last axis, which is that of the items."""
    count = values.shape[-1]
    mean = values.mean(axis=-1)
    apart = values - mean[..., None]
    squares = (apart**2).sum(axis=-1)
    largest = np.abs(apart).max(axis=-1)
    # In units of the largest: cubes of what a metric may give are no numbers any more.
    scaled = apart / np.where(largest > 0, largest, 1.0)[..., None]
    cubes = largest * quotient((scaled**3).sum(axis=-1), (scaled**2).sum(axis=-1))
    return Moments(
        mean=mean,
        error=np.sqrt(squares / count / (count - 1)) if count > 1 else np.full_like(mean, np.nan),
        count=count,
        lean=np.nan_to_num(cubes) / count,
        largest=largest / count,
    )


def pseudo_items(level: float) -> float:
    """How many items are supposed to either side: one up to 95 %, and above it more.

    There it is a quarter of the squared normal quantile, as one nearly is at 95 %, and no fewer than so many
    that where no item was seen to change the interval ends at what would then have a chance of one tail.
    """
    if level <= TOGETHER:
        return 1.0
    quantile = float(ndtri(0.5 + level / 2))
    unseen = -float(np.log((1 - level) / 2))
    return max(quantile**2 / 4, (unseen / quantile) ** 2 / 2)


def outward(lean: Floats, level: float) -> tuple[Floats, Floats]:
    """What is added to the lower and to the upper end for skewness (Johnson, 1978), never inward."""
    if level <= TOGETHER:
        return np.zeros_like(lean), np.zeros_like(lean)
    shift = (2 * float(ndtri(0.5 + level / 2)) ** 2 + 1) / 6 * lean
    return np.minimum(shift, 0.0), np.maximum(shift, 0.0)


def ends(over_items: Moments, step: ArrayLike, level: float) -> tuple[Floats, Floats]:
    """Ends of the interval of a mean; NaN below two items."""
    error = _padded(over_items.error, step, level)
    half = stdtrit(max(over_items.count - 1, 1), 0.5 + level / 2) * error
    below, above = outward(over_items.lean, level)
    return over_items.mean - half + below, over_items.mean + half + above


def p_value(over_items: Moments, step: ArrayLike) -> Floats:
    """Two-sided p against a mean of 0, of the test that the 95 % interval is; NaN below two items."""
    error = _padded(over_items.error, step, TOGETHER)
    still = np.where(over_items.mean == 0, 0.0, np.inf)
    steps = np.where(error > 0, np.abs(quotient(over_items.mean, error)), still)
    freedom = max(over_items.count - 1, 1)
    return np.asarray(np.where(np.isnan(error), np.nan, 2 * stdtr(freedom, -steps)), dtype=float)


def _padded(error: Floats, step: ArrayLike, level: float) -> Floats:
    return np.sqrt(error**2 + 2 * pseudo_items(level) * np.asarray(step, dtype=float) ** 2)


@frozen(eq=False)
class Scale:
    """How far the items of one cell are from each other, over the number of items: as they move its mean."""

    extent: Floats
    deviation: Floats

    @classmethod
    def of(cls, values: Floats) -> Scale:
        """Reduce the last axis, which is that of the items."""
        count = values.shape[-1]
        return cls(np.asarray(np.ptp(values, axis=-1) / count), np.asarray(values.std(axis=-1) / count))


def step_between(ours: Scale, theirs: Scale, over_items: Moments, alike: ArrayLike) -> Floats:
    """How far one item more may move the difference of two means, whose moments are ``over_items``.

    ``alike`` is the share of items that are the same in both. Where that is most of them, any two items may
    turn out to differ by as much as items differ at all. Else each item differs a little, and one that is not
    seen is supposed to differ by a standard deviation of the items, or as much as the one that differs most.
    """
    spread = np.where(
        np.asarray(alike) > 0.5,
        np.maximum(ours.extent, theirs.extent),
        np.maximum(ours.deviation, theirs.deviation),
    )
    return np.asarray(np.maximum(over_items.largest, spread), dtype=float)


def too_few(values: Floats) -> bool:
    """Most items have one value, and so few have another that nothing can be said of those unseen."""
    apart = np.abs(values - np.median(values))
    other = int(np.count_nonzero(apart > ALIKE * apart.max(initial=0.0)))
    return len(values) > 1 and 2 * other < len(values) and other < FEWEST
