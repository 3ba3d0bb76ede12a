"""Format figures for people: with as many digits as their uncertainty leaves, and with their unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from attrs import frozen

from qx.contract.records import Metric
from qx.results.records import Comparison

Interval = tuple[float, float]

NOTHING = "-"
#: Marks behind differences that are not called clear, by the reason.
MARKS = {"interval": "?", "noise floor": "~", "correction": "^", "builds": "#", "margin": "<"}
#: Relative width of an interval below which a figure counts as one without spread.
ROUNDING = 1e-9
#: Largest number of decimal places.
MAX_PLACES = 9
#: Number from which on a narrow table writes an exponent.
NARROW_MOST = 1e6


@frozen
class FigureText:
    """A figure of the table in words: a value, its comparison with the baseline, and the interval of that."""

    value: str
    delta: str = ""
    #: Interval of the comparison, where it does not fit into a plus-minus.
    interval: str = ""
    #: Speedup against the runtime baseline.
    runtime: str = ""


class Valued(Protocol):
    """An object with a value, and perhaps an interval."""

    @property
    def value(self) -> float | None:
        """The value."""

    @property
    def ci(self) -> Interval | None:
        """The interval of the value."""


def value(measurement: Valued, metric: Metric) -> str:
    """Return a value with its unit and half of its 95 % interval, the longer half where they differ.

    The half is a percentage where the metric is compared by ratio, else in the unit.
    """
    assert measurement.value is not None
    if metric.unit == "fraction":
        return percentage(measurement.value, measurement.ci)
    half = _half(measurement.value, measurement.ci)
    if metric.compare == "difference" and half:
        places = _places(half)
        return f"{with_unit(_fixed(measurement.value, places), metric.unit)} ±{half:.{places}f}"
    shown = quantity(measurement.value, metric.unit)
    return f"{shown} {_share(half / abs(measurement.value))}" if half and measurement.value else shown


def quantity(number: float, unit: str) -> str:
    """Return a number with its unit, to three significant digits; bytes in kB, MB or GB."""
    if unit == "fraction":
        return f"{100 * number:.1f} %"
    if unit == "bytes":
        for scale, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
            if abs(number) >= 0.9995 * scale:
                return f"{significant(number / scale)} {name}"
        return f"{number:.0f} bytes"
    return with_unit(significant(number), unit)


def comparison(compared: Comparison, metric: Metric, why: str | None = None) -> tuple[str, str]:
    """Return a comparison of two cells, and its interval where that is written separately.

    ``why`` is a key of ``MARKS``: the reason why the comparison is not called clear, where the comparison
    itself does not say so.
    """
    mark = MARKS.get(why or unclear(compared) or "", "")
    if compared.kind == "difference":
        number, interval = difference(compared.value, compared.ci, metric.unit)
        return number + mark, interval
    half = _half(compared.value, compared.ci)
    if half is None:
        return f"{significant(compared.value)}x ±?", ""
    if not half:
        return f"{exact_ratio(compared.value)}{mark}", ""
    if not mark:
        return ratio(compared.value, compared.ci), ""
    assert compared.ci is not None
    places = max(2, _places(half))
    if not compared.ci[0] <= 1.0 <= compared.ci[1]:
        # One digit or two more, where without them an interval that excludes 1 would seem to end there.
        places = min(places + 2, max(places, *map(_distinct_places, compared.ci)))
    return f"{_fixed(compared.value, places)}x{mark}", _bracket(compared.ci, places)


def unclear(compared: Comparison) -> str | None:
    """Return why a comparison is not called clear, as a key of ``MARKS``; None where it is, or is exact."""
    if compared.clear is not False or not _half(compared.value, compared.ci):
        return None
    assert compared.ci is not None
    neutral = 0.0 if compared.kind == "difference" else 1.0
    return "interval" if compared.ci[0] <= neutral <= compared.ci[1] else "noise floor"


def exact_ratio(number: float) -> str:
    """Return a ratio without an interval, with as many digits as show that it is not 1."""
    return f"{_fixed(number, max(_significant_places(number), _distinct_places(number)))}x"


def ratio(number: float, ci: Sequence[float] | None) -> str:
    """Return a ratio with half of its interval in percent."""
    half = _half(number, ci)
    return f"{ratio_interval(number, ci)[0]} {_share(half / number)}" if half else exact_ratio(number)


def ratio_interval(number: float, ci: Sequence[float] | None) -> tuple[str, str]:
    """Return a ratio, and its interval in brackets."""
    half = _half(number, ci)
    if not half:
        return exact_ratio(number), ""
    places = max(_significant_places(number), min(4, _places(half)))
    return f"{_fixed(number, places)}x", _bracket(ci, places)


def difference(number: float, ci: Sequence[float] | None, unit: str) -> tuple[str, str]:
    """Return a difference with its sign, and its interval in brackets; fractions in percentage points."""
    scale, word = (100.0, "pt") if unit == "fraction" else (1.0, unit)
    ends = None if ci is None else (scale * ci[0], scale * ci[1])
    half = _half(scale * number, ends)
    places = _places(half) if half else 2
    if unit == "fraction":
        # Differences may be as small as one item of ten thousand, which is a hundredth of a point.
        places = max(2, places)
    if not half:
        places = max(places, _distinct_places(scale * number, neutral=0.0))
    text = with_unit(_fixed(scale * number, places, sign="+"), word)
    if ends is None:
        return f"{text} ±?", ""
    return text, _bracket(ends, places, sign="+") if half else ""


def deviation(number: float, unit: str) -> str:
    """Return a standard deviation with its unit, to two digits; fractions in percentage points."""
    if unit == "fraction":
        return f"{significant(100 * number, 2)} pt"
    return quantity(number, unit) if unit == "bytes" else with_unit(significant(number, 2), unit)


def span(smallest: float, largest: float, spread: float, unit: str) -> str:
    """Return the smallest and the largest of several values, with digits that their spread leaves."""
    if unit == "fraction":
        places = max(1, _places(100 * spread))
        return f"{_fixed(100 * smallest, places)} to {_fixed(100 * largest, places)} %"
    return f"{quantity(smallest, unit)} to {quantity(largest, unit)}"


def of_100(share: float) -> str:
    """Return a share as ``12 of 100``; it is 0 or 100 only where it is exactly none or all."""
    if 0 < share < 0.005:
        return "<1 of 100"
    if 0.995 <= share < 1:
        return ">99 of 100"
    return f"{100 * share:.0f} of 100"


def percentage(number: float, ci: Sequence[float] | None) -> str:
    """Return a share in percent with half of its interval, or all of it where half would leave 0 to 100."""
    ends = None if ci is None else (100 * ci[0], 100 * ci[1])
    half = _half(100 * number, ends)
    if not half:
        return quantity(number, "fraction")
    places = _places(half)
    if not half <= 100 * number <= 100 - half:
        return f"{_fixed(100 * number, places)} % {_bracket(ends, places)}"
    return f"{_fixed(100 * number, places)} % ±{half:.{places}f}"


def seconds(number: float) -> str:
    """Return a duration in seconds."""
    return f"{number:.1f} s" if number < 99.95 else f"{number:.0f} s"


def significant(number: float, digits: int = 3) -> str:
    """Return a number to so many significant digits, without an exponent."""
    return _fixed(number, _significant_places(number, digits))


def with_unit(number: str, unit: str) -> str:
    """Return a number followed by its unit."""
    return f"{number} {unit}".rstrip()


def relative_half(compared: Comparison) -> float | None:
    """Return half of the interval as a share of the value."""
    half = _half(compared.value, compared.ci)
    return None if half is None or not compared.value else half / abs(compared.value)


def _half(number: float, ci: Sequence[float] | None) -> float | None:
    if ci is None:
        return None
    half = max(ci[1] - number, number - ci[0])
    return half if half > ROUNDING * abs(number) else 0.0


def _share(half: float) -> str:
    # A hundredth of a percent is enough; smaller shares are rounded up to it and not down to 0.
    percentage = max(100 * half, 0.01)
    return f"±{percentage:.{min(2, _places(percentage))}f} %"


def _bracket(ci: Sequence[float] | None, places: int, sign: str = "") -> str:
    return "" if ci is None else f"[{_fixed(ci[0], places, sign)}, {_fixed(ci[1], places, sign)}]"


def _fixed(number: float, places: int, sign: str = "") -> str:
    # Adding zero removes the sign of a rounded -0.0.
    return f"{round(number, places) + 0.0:{sign},.{places}f}"


def _places(half: float) -> int:
    """Return the decimal places that an uncertainty leaves: one digit of it, two where the first is 1."""
    if not math.isfinite(half):
        return 0
    mantissa, exponent = f"{half:.1e}".split("e")
    return max(0, (2 if mantissa.startswith("1") else 1) - 1 - int(exponent))


def _distinct_places(number: float, neutral: float = 1.0) -> int:
    """Return the smallest number of decimal places that shows a number to differ from ``neutral``.

    0 where it does not differ, and ``MAX_PLACES`` where fewer places do not show it.
    """
    if number == neutral:
        return 0
    distinct = (places for places in range(MAX_PLACES) if round(number, places) != neutral)
    return next(distinct, MAX_PLACES)


def _significant_places(number: float, digits: int = 3) -> int:
    if not number or not math.isfinite(number):
        return 0
    return max(0, digits - 1 - int(f"{number:.{digits - 1}e}".split("e")[1]))


# Figures of a narrow table, whose heading has the unit ---------------------------------------------


@frozen
class Scale:
    """The unit that a column has in its heading, and how many of the metric's own units it is."""

    unit: str
    factor: float = 1.0


@frozen
class NarrowText:
    """A figure in words, without its unit: the number, half of its interval, and the mark behind it."""

    number: str = ""
    #: Such as ``±0.7``, or ``±1.2%`` where it is a share of the number; empty where there is no interval.
    half: str = ""
    mark: str = ""


def scale_of(unit: str, values: Sequence[float]) -> Scale:
    """Return the scale for a column of values with this unit: of bytes that of the largest."""
    if unit == "fraction":
        return Scale("%", 0.01)
    if unit == "bytes":
        largest = max(map(abs, values), default=0.0)
        for factor, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
            if largest >= 0.9995 * factor:
                return Scale(name, factor)
    return Scale(unit)


def narrow_value(measurement: Valued, metric: Metric, scale: Scale) -> NarrowText:
    """Return a value in the unit of ``scale``, with half of its 95 % interval as ``value`` has it."""
    assert measurement.value is not None
    scaled = measurement.value / scale.factor
    if abs(scaled) >= NARROW_MOST:
        return NarrowText(f"{scaled:.2e}")
    half = _half(measurement.value, measurement.ci)
    in_unit = metric.unit == "fraction" or metric.compare == "difference"
    if half and in_unit:
        half /= scale.factor
        places = _places(half)
        return NarrowText(_fixed(scaled, places), f"±{half:.{places}f}")
    number = _fixed(scaled, 1) if metric.unit == "fraction" else significant(scaled)
    return NarrowText(number, _narrow_share(half / abs(measurement.value)) if half and scaled else "")


def narrow_comparison(compared: Comparison, metric: Metric, scale: Scale) -> NarrowText:
    """Return a comparison with half of its interval, the longer one, and the mark if it is not clear."""
    mark = MARKS.get(unclear(compared) or "", "")
    half = _half(compared.value, compared.ci)
    scaled = compared.value / (scale.factor if compared.kind == "difference" else 1.0)
    if abs(scaled) >= NARROW_MOST:
        return NarrowText(f"{scaled:.2e}", mark=mark)
    if compared.kind == "difference":
        if not half:
            places = max(2, _distinct_places(scaled, neutral=0.0))
            return NarrowText(_fixed(scaled, places, sign="+"), "±?" if half is None else "", mark)
        half /= scale.factor
        places = _places(half)
        if metric.unit == "fraction":
            places = max(2, places)
        return NarrowText(_fixed(scaled, places, sign="+"), f"±{half:.{places}f}", mark)
    if not half:
        if half is None:
            return NarrowText(f"{significant(compared.value)}x", "±?", mark)
        return NarrowText(exact_ratio(compared.value), "", mark)
    places = max(_significant_places(compared.value), min(3, _places(half)))
    return NarrowText(f"{_fixed(compared.value, places)}x", _narrow_share(half / compared.value), mark)


def _narrow_share(half: float) -> str:
    percentage = max(100 * half, 0.01)
    return f"±{percentage:.{min(2 if percentage < 0.095 else 1, _places(percentage))}f}%"
