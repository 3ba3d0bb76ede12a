"""Group-sequential tests: looks that are fixed in advance, and the error that each of them may spend.

A test that is repeated as data come in errs more often than each single test. Lan & DeMets (1983) let a
function of the share of the data say how much of the error has been spent by each look. Boundaries follow by
integrating over the paths that have not crossed an earlier one (Armitage, McPherson & Rowe, 1969). They are
computed for sums of normal increments. Other tests use the levels of the boundaries in place of the
boundaries themselves (Jennison & Turnbull, 2000, section 3.8), as t over few waves does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeAlias

import numpy as np
from scipy.special import ndtr, ndtri

from qx.statistics.student_t import Floats

#: Maps the share of the data (0 to 1) and the error of all looks to the error that may be spent by then.
Spending: TypeAlias = Callable[[float, float], float]
#: Number of nodes of the integration over paths, and how many standard deviations below 0 it begins.
NODES, TAIL = 400, 8.5
#: Number of halvings in the search for a boundary.
HALVINGS = 60


def pocock(share: float, error: float) -> float:
    """Return the error spent by a share of the data as Pocock's test spends it: nearly as much at each look.

    Parameters
    ----------
    share : float
        Share of the data, 0 to 1.
    error : float
        One-sided error of all looks.

    Returns
    -------
    float
        ``error * log(1 + (e - 1) * share)`` (Lan & DeMets, 1983).
    """
    return error * math.log(1 + (math.e - 1) * share)


def obrien_fleming(share: float, error: float) -> float:
    """Return the error spent by a share of the data as the test of O'Brien & Fleming spends it: late.

    Parameters
    ----------
    share : float
        Share of the data, above 0 and up to 1.
    error : float
        One-sided error of all looks.

    Returns
    -------
    float
        ``2 - 2 * Phi(z / sqrt(share))`` with the normal quantile ``z`` of ``1 - error / 2`` (Lan & DeMets,
        1983).
    """
    return 2 * float(ndtr(ndtri(error / 2) / math.sqrt(share)))


def boundaries(shares: Sequence[float], error: float, spending: Spending = pocock) -> list[float]:
    """Compute the one-sided boundaries of a standardised sum at each look.

    Parameters
    ----------
    shares : sequence of float, length looks
        Share of the data at each look, ascending, the last at most 1.
    error : float
        Probability that a sum without effect is beyond the boundary at any look, above 0 and below 0.5.
    spending : callable
        How much of the error is spent by a share, ``pocock`` or ``obrien_fleming``.

    Returns
    -------
    list of float, length looks
        Boundaries in standard deviations: a test stops where the standardised sum is above.

    Raises
    ------
    ValueError
        The shares do not ascend from above 0 to at most 1, or the error is not within its bounds.
    """
    steps = np.diff([0.0, *shares])
    if not len(steps) or min(steps) <= 0 or shares[-1] > 1 + 1e-12 or not 0 < error < 0.5:
        raise ValueError(f"shares must ascend to at most 1 and the error be below 0.5: {shares}, {error}")
    # Where the sums of paths that go on lie, and how likely each is: at the beginning all at 0.
    places, weights = np.zeros(1), np.ones(1)
    found, spent = [], 0.0
    for share, step in zip(shares, steps, strict=True):
        allowed = max(spending(share, error) - spent, 0.0)
        edge = _edge(places, weights, math.sqrt(step), math.sqrt(share), allowed)
        spent += float(weights @ ndtr((places - edge) / math.sqrt(step)))
        found.append(edge / math.sqrt(share))
        places, weights = _continued(places, weights, math.sqrt(step), math.sqrt(share), edge)
    return found


def levels(shares: Sequence[float], error: float, spending: Spending = pocock) -> list[float]:
    """Compute the one-sided error that a test at each look may have by itself.

    Parameters
    ----------
    shares, error, spending
        As for ``boundaries``.

    Returns
    -------
    list of float, length looks
        Errors of single tests. An interval of level ``1 - 2 * error`` has that error at either end.
    """
    return [float(ndtr(-edge)) for edge in boundaries(shares, error, spending)]


def _edge(places: Floats, weights: Floats, deviation: float, scale: float, allowed: float) -> float:
    """Return the sum that the paths exceed with the probability that is allowed at this look."""
    low, high = -TAIL * scale, 2 * TAIL * scale
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if float(weights @ ndtr((places - middle) / deviation)) > allowed:
            low = middle
        else:
            high = middle
    return high


def _continued(
    places: Floats, weights: Floats, deviation: float, scale: float, edge: float
) -> tuple[Floats, Floats]:
    """Return places and weights of the paths below the edge after one more look (Gauss-Legendre)."""
    nodes, node_weights = _nodes()
    low = -TAIL * scale
    sums = low + (edge - low) * (nodes + 1) / 2
    steps = (sums[:, None] - places[None, :]) / deviation
    density = np.exp(-(steps**2) / 2) @ weights / (deviation * math.sqrt(2 * math.pi))
    return sums, density * node_weights * (edge - low) / 2


@cache
def _nodes() -> tuple[Floats, Floats]:
    """Return nodes and weights of the integration, which are the eigenvalues of a large matrix."""
    return np.polynomial.legendre.leggauss(NODES)


# Stopping when intervals are narrow ----------------------------------------------------------------

#: Smallest share of the items at the first of several looks; each further look has about twice as many, and
#: at a look there are at most this share of the items of the next.
FIRST_LOOK, CLOSEST = 1 / 16, 0.55
#: Share of its error that an interval may have at a single look: three tails of six.
ERROR_AT_A_LOOK = 2 / 3


def items_at_looks(total: int, size: int, least: int) -> tuple[int, ...]:
    """Plan after how many items is looked at how narrow the intervals are: half as many at each look before.

    Parameters
    ----------
    total : int
        Number of all items, at which the last look is.
    size : int
        Number of items in a batch. Looks are at whole batches, but for the last.
    least : int
        Number of items below which no interval can be narrow enough, whatever they show.

    Returns
    -------
    tuple of int
        Ascending numbers of items, the last of them ``total``.
    """
    looks, share = [total], 0.5
    while share >= FIRST_LOOK:
        count = math.ceil(total * share / size) * size
        if least <= count <= CLOSEST * looks[0]:
            looks.insert(0, count)
        share /= 2
    return tuple(looks)


def level_at_a_look(level: float) -> float:
    """Compute the level of an interval where the number of items was decided by the widths of intervals.

    Where sampling ends when intervals are narrow, whatever their values are, each of them needs nearly the
    level that is claimed (Chow & Robbins, 1965): for normal data the width says nothing about the value. Of
    few answers that change in one direction it does: a set with fewer of them has a narrower interval around
    a smaller value. So where looks double the items, the interval may miss at the look at which it may
    already be narrow by the one tail that makes it narrow, and at the next by both. Each of these three tails
    has a third of the error, in place of a half; earlier looks are too wide, and at a later one it is narrow
    for sure, since widths shrink by a factor of 1.4 from one look to the next. Simulated in
    ``benchmarks/narrow.py``. The intervals of Jennison & Turnbull (1989), which hold at all looks together,
    also where the *values* decide, would need half as many items more.

    Parameters
    ----------
    level : float
        Level that is claimed, such as 0.95.

    Returns
    -------
    float
        Level at which the interval is computed.
    """
    return 1 - (1 - level) * ERROR_AT_A_LOOK


def p_at_a_look(p: float) -> float:
    """Compute the p that belongs to an interval of ``level_at_a_look``, from that of a single look."""
    return min(1.0, p / ERROR_AT_A_LOOK)


# How many items a decision needs -------------------------------------------------------------------


def items_for_power(deviation: float, effect: float, error: float, power: float) -> int:
    """Compute how many items a one-sided test of a mean needs.

    Parameters
    ----------
    deviation : float
        Standard deviation of the values of items.
    effect : float
        How far the mean lies from the limit, above 0.
    error : float
        One-sided error of the test.
    power : float
        Probability that the test shows the effect.

    Returns
    -------
    int
        Number of items by the normal approximation.
    """
    quantiles = float(ndtri(1 - error)) + float(ndtri(power))
    return max(1, math.ceil((max(quantiles, 0.0) * deviation / effect) ** 2))


def power_of_items(deviation: float, effect: float, error: float, items: int) -> float:
    """Compute how often a one-sided test of a mean over items shows an effect.

    Parameters
    ----------
    deviation, effect, error
        As for ``items_for_power``.
    items : int
        Number of items.

    Returns
    -------
    float
        Probability by the normal approximation.
    """
    return float(ndtr(effect * math.sqrt(items) / deviation - ndtri(1 - error)))
