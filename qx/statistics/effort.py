"""How much more would have to be measured to tell cells apart that a run does not tell apart.

``excess`` is by how many times the widest of the 95 % intervals is too wide, above 1.
"""

from __future__ import annotations

import math

from scipy.special import stdtrit

#: More waves than this are not asked for: the estimate is too rough to carry so far.
MOST_WAVES = 10_000


def waves_needed(excess: float, waves: int) -> int | None:
    """Waves after which an interval over ``waves`` waves should be narrower by the factor ``excess``.

    An interval shrinks with the root of the number of waves and with Student's t, as long as the waves to
    come are like those before. None where more than ``MOST_WAVES`` would be needed, and for a single wave.
    """
    if waves < 2:
        return None
    allowed = _relative_half_width(waves) / excess
    if _relative_half_width(MOST_WAVES) > allowed:
        return None
    too_few, enough = waves, MOST_WAVES
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if _relative_half_width(middle) <= allowed:
            enough = middle
        else:
            too_few = middle
    return enough


def items_needed(excess: float, items: int) -> int:
    """Items after which an interval over ``items`` items should be narrower by the factor ``excess``."""
    return math.ceil(items * excess**2)


def _relative_half_width(waves: int) -> float:
    """Half of a 95 % interval over so many waves, in standard deviations of a wave."""
    return float(stdtrit(waves - 1, 0.975)) / math.sqrt(waves)
