"""How well a user wants to know the quality of configs, such as ``--quality-precision 0.2pt``."""

from __future__ import annotations

import math

from attrs import frozen

from qx.contract.records import Metric
from qx.errors import UsageError
from qx.foreign import to_line
from qx.results.constraints import AMOUNT, MAX_QUOTED
from qx.results.run_record import ItemLooks

OPTION = "--quality-precision"
#: Units of an amount that is a number of points, the hundredths of a share.
POINTS = ("pt", "pts", "point", "points")
#: Beyond so many times the precision the number of items that would be needed says nothing.
MOST_TIMES = 1e6
#: Forms of the amount, for messages.
FORMS = "points of a share, such as 0.2pt, or a number in the unit of another metric, such as 0.01"


@frozen(kw_only=True)
class QualityPrecision:
    """The half-width that the interval of every difference from the baseline is to have, or less."""

    #: Above 0, in points where ``is_points``, else in the metric's unit; of a ratio a share of 1.
    amount: float
    is_points: bool
    #: The amount as the user wrote it, without spaces.
    text: str

    @property
    def words(self) -> str:
        """The option as it is written on the command line."""
        return f"{OPTION} {self.text}"

    def half_width(self, metric: Metric) -> float:
        """Return the half-width on the scale of a metric. Raises ``UsageError`` where its unit is another."""
        is_share = metric.compare == "difference" and metric.unit in ("fraction", "points")
        if is_share is not self.is_points:
            expected = "points, such as 0.2pt" if is_share else "a number without a unit, such as 0.01"
            compared = "difference" if metric.compare == "difference" else "ratio"
            raise UsageError(
                f"{self.words}: {metric.name} judges the answers, in {metric.unit or 'no unit'}, and is "
                f"compared by {compared}: expected {expected}"
            )
        return self.amount / 100 if metric.unit == "fraction" and is_share else self.amount


def read_quality_precision(text: str | None) -> QualityPrecision | None:
    """Read the text of the option; None without one. Raises ``UsageError`` in one line."""
    if text is None:
        return None
    words = f"{OPTION} {to_line(text.strip(), MAX_QUOTED)}"
    match = AMOUNT.fullmatch(text.strip())
    if match is None or match[3] not in ("", *POINTS):
        raise UsageError(f"{words}: expected {FORMS}")
    if match[1] or float(match[2]) == 0:
        raise UsageError(f"{words}: it must be above 0, since no interval has no width; expected {FORMS}")
    return QualityPrecision(amount=float(match[2]), is_points=bool(match[3]), text=match[2] + match[3])


# In words ----------------------------------------------------------------------------------------


def words_of(looks: ItemLooks, metric: Metric | None, widest: str) -> str:
    """Say after how many items the evaluation ended, why, and what that saved.

    ``metric`` is the metric of quality, and ``widest`` the name of the cell with the widest interval.
    """
    total = looks.planned[-1]
    after = f"{looks.items:,} of {total:,} items" if looks.items < total else f"all {total:,} items"
    if metric is None:
        return f"{OPTION} {looks.precision}: no answers of the baseline are judged, so {after} were evaluated"
    if looks.is_reached:
        known = f"{metric.name} of every config is known against the baseline to within {looks.precision}"
        saved = f"; {_saved(looks)}" if looks.items < total else ""
        return f"stopped after {after}: {known}{saved}"
    if looks.widest is None:
        lacking = (
            f"{widest} has no interval against the baseline" if widest else "there is nothing to compare"
        )
        return f"{looks.precision} is not reached with {after}: {metric.name} of {lacking}"
    reason = ", which is what the time was enough for" if looks.is_out_of_time else ""
    half_width = amount_in_words(looks.widest, metric)
    needed = _needed(looks, read_quality_precision(looks.precision), metric)
    return (
        f"{looks.precision} is not reached with {after}{reason}: {metric.name} of {widest} is known against "
        f"the baseline to within {half_width}; at most about {needed:,} items would be needed"
    )


def amount_in_words(half_width: float, metric: Metric) -> str:
    """Return half of an interval as the user writes a precision: ``0.31pt``, or a plain number."""
    if metric.compare == "difference" and metric.unit == "fraction":
        return f"{100 * half_width:.3g}pt"
    return f"{half_width:.3g}" + ("pt" if metric.compare == "difference" and metric.unit == "points" else "")


def _saved(looks: ItemLooks) -> str:
    share = f"that saved {100 * (1 - looks.items / looks.planned[-1]):.0f} % of the items"
    seconds = round(looks.seconds_saved or 0)
    if not seconds:
        return share
    return f"{share}, about {f'{seconds} s' if seconds < 120 else f'{seconds / 60:,.0f} min'} of evaluation"


def _needed(looks: ItemLooks, precision: QualityPrecision | None, metric: Metric) -> int:
    """Return how many items are probably needed, to two digits: widths shrink with their root."""
    assert precision is not None
    assert looks.widest is not None
    times = min(looks.widest / precision.half_width(metric), MOST_TIMES)
    exact = max(1.0, looks.items * times**2)
    scale = 10 ** max(0, math.floor(math.log10(exact)) - 1)
    return int(math.ceil(exact / scale) * scale)
