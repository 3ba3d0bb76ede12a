"""Round numbers for the page, which needs no more digits than a plot shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from qx.values import JsonObject

#: A value with the ends of its interval, each None where there is none.
Ends: TypeAlias = tuple["float | None", "tuple[float, float] | None"]
#: Number of significant digits.
DIGITS = 6


def rounded(number: float | None, digits: int = DIGITS) -> float | None:
    """Return a number with so many significant digits; None for what JSON cannot express."""
    if number is None or not math.isfinite(number):
        return None
    short = float(f"{number:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def ends(values: Sequence[Ends]) -> JsonObject:
    """Return values and the ends of their intervals as three lists of equal length."""
    return {
        "middle": [rounded(middle) for middle, _ in values],
        "low": [None if interval is None else rounded(interval[0]) for _, interval in values],
        "high": [None if interval is None else rounded(interval[1]) for _, interval in values],
    }
