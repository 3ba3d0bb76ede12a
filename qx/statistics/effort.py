"""Estimate how much more must be measured before a run can tell cells apart.

``excess`` is the factor, above 1, by which the widest of the 95 % intervals is too wide.
"""

from __future__ import annotations

import math

from scipy.special import stdtrit

#: Largest number of waves that is recommended: beyond it the estimate is too rough.
MOST_WAVES = 10_000


def waves_needed(excess: float, waves: int) -> int | None:
    """Estimate how many waves make an interval narrower by the factor ``excess``.

    An interval shrinks with the root of the number of waves and with Student's t, as long as later waves
    are like the earlier ones.

    Parameters
    ----------
    excess : float
        Factor by which the interval is too wide, above 1.
    waves : int
        Number of waves that the interval comes from.

    Returns
    -------
    int or None
        Number of waves in total; None for a single wave, and where more than ``MOST_WAVES`` are needed.
    """
    if waves < 2:
        return None
    target = _relative_half_width(waves) / excess
    if _relative_half_width(MOST_WAVES) > target:
        return None
    too_few, enough = waves, MOST_WAVES
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if _relative_half_width(middle) <= target:
            enough = middle
        else:
            too_few = middle
    return enough


def items_needed(excess: float, items: int) -> int:
    """Estimate how many items make an interval narrower by the factor ``excess``.

    Parameters
    ----------
    excess : float
        Factor by which the interval is too wide, above 1.
    items : int
        Number of items that the interval comes from.

    Returns
    -------
    int
        Number of items in total.
    """
    return math.ceil(items * excess**2)


def _relative_half_width(waves: int) -> float:
    """Return half of the width of a 95 % interval over ``waves`` waves, in standard deviations of a wave."""
    return float(stdtrit(waves - 1, 0.975)) / math.sqrt(waves)
