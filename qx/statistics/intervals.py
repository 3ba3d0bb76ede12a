"""What results with intervals look like, exact comparisons, and decisions on comparisons.

An ``Estimate`` is the value of one metric for one cell, a ``Difference`` compares two cells. The modules
``over_waves`` and ``over_items`` compute both from samples. This one compares values without sampling
error, and decides on comparisons: whether a difference is clear, whether the control raises an alarm,
and which p values remain after correction for their number.

Two conventions hold in all three modules. Log ratios are ``log(ours / theirs)``. An interval is a pair
``(low, high)``, None where there are too few values. ``tests/unit/test_stats.py`` repeats the simulations
behind each choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from attrs import field, frozen
from attrs.validators import in_

from qx.statistics.student_t import Floats, finite

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


def neutral(kind: str) -> float:
    """Return the value that stands for no difference, by the kind of a comparison."""
    return 0.0 if kind == "difference" else 1.0


def size(value: float, kind: str) -> float:
    """Return how far a comparison is from no difference: in its unit, or for ratios on the log scale."""
    return abs(value) if kind == "difference" else abs(math.log(value))


def log_margin(margin: float, kind: str) -> float:
    """Return a metric's margin on the scale of ``size``."""
    return margin if kind == "difference" else math.log1p(margin)


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
    def neutral(self) -> float:
        """The value that stands for no difference: 0 of a difference, 1 of a ratio or a speedup."""
        return neutral(self.kind)

    @property
    def size(self) -> float:
        """How far the value is from no difference: in its unit, or for ratios on the log scale."""
        return size(self.value, self.kind)

    @property
    def includes_neutral(self) -> bool | None:
        """Whether the interval holds 'no difference'; None without an interval."""
        return None if self.ci is None else self.ci[0] <= self.neutral <= self.ci[1]

    @property
    def is_finite(self) -> bool:
        """Whether value and interval are finite, and for ratios above 0, so that they have a logarithm."""
        numbers = (self.value, *(self.ci or ()))
        return all(map(math.isfinite, numbers)) and (self.kind == "difference" or min(numbers) > 0)


# Values without sampling error -------------------------------------------------------------------


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
    none = neutral(kind)
    return Difference(kind, none, (none, none), 1.0, "the same on every item")


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


# Decisions ---------------------------------------------------------------------------------------


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


# Forms of results --------------------------------------------------------------------------------


def p_or_none(p: Floats) -> float | None:
    """Return a p value as a float, or None where it is NaN, since there was no test."""
    return None if np.isnan(p) else float(p)


def around(mean: Floats, half: Floats) -> Interval | None:
    """Return the interval of the given half width around a mean, or None where either is NaN."""
    return between_ends(mean - half, mean + half)


def between_ends(low: Floats, high: Floats) -> Interval | None:
    """Return an interval with these ends, or None where they are NaN."""
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
