"""Intervals of means over items, and of statistics that move with items as means do.

An 8-bit model often changes 1 to 20 answers of 500, and the mean over all items then rests on those few. The
usual interval (Wald, Student's t, the bootstrap) knows only the items that were seen to change: where one
change is expected, it misses the truth in 37 of 100 sets, because 37 of 100 sets show none. So *pseudo-items*
are added on either side, as Bonett & Price (2012) do for pairs of right and wrong answers: each moves the
mean by one ``step``, which is as far as an item can be expected to move it.

An interval at more than 95 %, of which one end decides (``qx gate``, or one of many classes), needs two more
things: more pseudo-items, since fewer unseen items are excluded, and the correction for skewness of Johnson
(1978), on the longer side only. ``benchmarks/few_items.py`` simulates all of it.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtr, stdtrit

from qx.statistics.student_t import Floats, quotient

#: Level up to which an interval holds for its two tails together; above it, for each tail by itself.
JOINT_LEVEL = 0.95
#: Number of items with another value that an interval needs where most items have one and the same value.
MIN_DIFFERING = 10
#: Share of the range of influences below which two of them count as equal, since statistics round.
EQUALITY_TOLERANCE = 1e-9
#: Reason for the lack of an interval where too few items differ.
TOO_FEW = f"fewer than {MIN_DIFFERING} items differ from all the others"


@frozen(eq=False)
class Moments:
    """The moments over items that an interval of a mean is computed from; all arrays have one shape."""

    mean: Floats
    #: Standard error of the mean.
    error: Floats
    #: Number of items.
    count: int
    #: Third central moment over the second and over the number of items, in units of the mean.
    skew: Floats
    #: How far the item that is farthest from the mean moves it.
    largest: Floats


def moments(values: Floats, *, with_skew: bool = True) -> Moments:
    """Compute the moments over the last axis, that of the items.

    Parameters
    ----------
    values : array of float, shape [..., n]
        One value per item.
    with_skew : bool
        Whether the skewness is computed, which only levels above 95 % need; else it is 0.

    Returns
    -------
    Moments
        Arrays of shape [...].
    """
    count = values.shape[-1]
    mean = values.mean(axis=-1)
    deviations = values - mean[..., None]
    squares = np.einsum("...i,...i->...", deviations, deviations)
    largest = np.maximum(deviations.max(axis=-1), -deviations.min(axis=-1))
    error = np.sqrt(squares / count / (count - 1)) if count > 1 else np.full_like(mean, np.nan)
    if not with_skew:
        return Moments(mean, error, count, np.zeros_like(mean), largest / count)
    # In units of the largest deviation: the cubes of the values themselves could overflow.
    scaled = deviations / np.where(largest > 0, largest, 1.0)[..., None]
    cubes = largest * quotient((scaled**3).sum(axis=-1), (scaled**2).sum(axis=-1))
    return Moments(
        mean=mean,
        error=error,
        count=count,
        skew=np.nan_to_num(cubes) / count,
        largest=largest / count,
    )


def pseudo_items(level: float) -> float:
    """Compute how many pseudo-items are added on either side: one up to 95 %, and more above it.

    Above 95 % it is a quarter of the squared normal quantile, which at 95 % is nearly one. It is at least as
    many as needed so that, where no item was seen to change, the interval ends at the rate of change that
    has the chance of one tail to go unseen.

    Parameters
    ----------
    level : float
        Confidence level, such as 0.95.

    Returns
    -------
    float
        Number of pseudo-items, not always whole.
    """
    if level <= JOINT_LEVEL:
        return 1.0
    quantile = float(ndtri(0.5 + level / 2))
    unseen = -float(np.log((1 - level) / 2))
    return max(quantile**2 / 4, (unseen / quantile) ** 2 / 2)


def skewness_shifts(skew: Floats, level: float) -> tuple[Floats, Floats]:
    """Compute how far skewness moves the ends of an interval outward (Johnson, 1978).

    Parameters
    ----------
    skew : array of float, shape [...]
        As in ``Moments``.
    level : float
        Confidence level; up to 95 % there is no shift.

    Returns
    -------
    below, above : arrays of float, shape [...]
        Added to the lower end (0 or less) and to the upper end (0 or more).
    """
    if level <= JOINT_LEVEL:
        return np.zeros_like(skew), np.zeros_like(skew)
    shift = (2 * float(ndtri(0.5 + level / 2)) ** 2 + 1) / 6 * skew
    return np.minimum(shift, 0.0), np.maximum(shift, 0.0)


def ends(over_items: Moments, step: ArrayLike, level: float) -> tuple[Floats, Floats]:
    """Compute the ends of the interval of a mean over items.

    Parameters
    ----------
    over_items : Moments
        Moments of shape [...].
    step : array-like of float, shape [...]
        How far one more item may move the mean.
    level : float
        Confidence level, such as 0.95.

    Returns
    -------
    low, high : arrays of float, shape [...]
        NaN where there are fewer than two items.
    """
    error = padded_error(over_items.error, step, level)
    half = stdtrit(max(over_items.count - 1, 1), 0.5 + level / 2) * error
    below, above = skewness_shifts(over_items.skew, level)
    return over_items.mean - half + below, over_items.mean + half + above


def p_value(over_items: Moments, step: ArrayLike) -> Floats:
    """Test a mean against 0 by inverting its 95 % interval.

    Parameters
    ----------
    over_items : Moments
        Moments of shape [...].
    step : array-like of float, shape [...]
        How far one more item may move the mean.

    Returns
    -------
    array of float, shape [...]
        Two-sided p; NaN where there are fewer than two items.
    """
    error = padded_error(over_items.error, step, JOINT_LEVEL)
    without_error = np.where(over_items.mean == 0, 0.0, np.inf)
    steps = np.where(error > 0, np.abs(quotient(over_items.mean, error)), without_error)
    freedom = max(over_items.count - 1, 1)
    return np.asarray(np.where(np.isnan(error), np.nan, 2 * stdtr(freedom, -steps)), dtype=float)


def padded_error(error: Floats, step: ArrayLike, level: float) -> Floats:
    """Compute the standard error of a mean with the pseudo-items added.

    Parameters
    ----------
    error : array of float, shape [...]
        Standard error without them.
    step : array-like of float, shape [...]
        How far one more item may move the mean.
    level : float
        Confidence level, on which the number of pseudo-items depends.

    Returns
    -------
    array of float, shape [...]
    """
    return np.sqrt(error**2 + 2 * pseudo_items(level) * np.asarray(step, dtype=float) ** 2)


@frozen(eq=False)
class Scale:
    """How far apart the items of one cell are, divided by the number of items: how far they move its mean."""

    #: Range of the items over their number.
    extent: Floats
    #: Standard deviation of the items over their number.
    deviation: Floats

    @classmethod
    def from_items(cls, values: Floats) -> Scale:
        """Compute the scale over the last axis, that of the items: ``[..., n]`` gives ``[...]``."""
        count = values.shape[-1]
        return cls(np.asarray(np.ptp(values, axis=-1) / count), np.asarray(values.std(axis=-1) / count))


def step_between(ours: Scale, theirs: Scale, over_items: Moments, equal_share: ArrayLike) -> Floats:
    """Estimate how far one more item may move the difference of two means.

    Where most items are the same in both cells, an unseen item may differ by as much as any two items do.
    Else each item differs a little, and an unseen one is expected to differ by a standard deviation of the
    items, or by as much as the one that differs most.

    Parameters
    ----------
    ours, theirs : Scale
        Scales of the two cells, of shape [...].
    over_items : Moments
        Moments of the differences, of shape [...].
    equal_share : array-like of float, shape [...]
        Share of items that are the same in both cells.

    Returns
    -------
    array of float, shape [...]
    """
    spread = np.where(
        np.asarray(equal_share) > 0.5,
        np.maximum(ours.extent, theirs.extent),
        np.maximum(ours.deviation, theirs.deviation),
    )
    return np.asarray(np.maximum(over_items.largest, spread), dtype=float)


def has_too_few_differing(values: Floats) -> bool:
    """Return whether too few items differ from the others for an interval of their mean.

    That is so where most items have one value, and fewer than ``MIN_DIFFERING`` have another.

    Parameters
    ----------
    values : array of float, shape [n]
        One value per item.

    Returns
    -------
    bool
    """
    deviations = np.abs(values - np.median(values))
    differing = int(np.count_nonzero(deviations > EQUALITY_TOLERANCE * deviations.max(initial=0.0)))
    return len(values) > 1 and 2 * differing < len(values) and differing < MIN_DIFFERING
