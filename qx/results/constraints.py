"""What a user accepts of a config, such as ``--max-drop 0.5pt``: read from texts, held against figures."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from attrs import frozen

from qx.amounts import BYTES
from qx.contract.records import Metric
from qx.errors import UsageError
from qx.foreign import to_line

#: Whether a cell meets a constraint, by the whole of its 95 % interval, by a part of it, or by nothing of it.
Verdict: TypeAlias = Literal["surely", "perhaps", "no"]
#: Verdicts, the worst first.
VERDICTS: tuple[Verdict, ...] = ("no", "perhaps", "surely")
#: What can be limited, each with the option that limits it.
OPTIONS = {"drop": "--max-drop", "time": "--max-latency", "size": "--max-size", "memory": "--max-memory"}
#: What can be minimized, by the word of the user.
AIMS = {option.removeprefix("--max-"): aim for aim, option in OPTIONS.items() if aim != "drop"}
#: Forms of each amount, for messages.
FORMS = {
    "drop": "points, as in 0.5pt, the unit of the metric, or a share where it is compared by ratio, as in 2%",
    "time": "a time or a share of the baseline's, as in 2ms, 500us or 0.5x",
    "size": "a size or a share of the baseline's, as in 10MB, 800kB, 10MiB or 0.3x",
    "memory": "a size or a share of the baseline's, as in 200MB, 1GiB or 0.5x",
}
#: A number with a unit behind it.
AMOUNT = re.compile(r"(-?)([0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})\s*(\S{0,20})")
#: Unit of an amount that is a share of the baseline's.
TIMES = "x"
#: Seconds in each unit of time.
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "\N{MICRO SIGN}s": 1e-6, "ns": 1e-9}
#: Bytes in a MiB, the unit of metrics of memory.
MIB = 2**20
#: Number of letters of a text that a message quotes.
MAX_QUOTED = 60


@frozen(kw_only=True)
class Constraint:
    """The largest amount of one quantity that a user accepts."""

    #: What is limited: ``drop`` (of quality, from the baseline), ``time`` of a call, ``size`` or ``memory``.
    aim: str
    #: Largest accepted amount in ``unit``.
    amount: float
    #: ``s`` of a time, ``bytes`` of a size and of memory, ``x`` for a share of the baseline's; of a drop
    #: the unit that the user wrote, which may be empty.
    unit: str
    #: The amount as the user wrote it.
    text: str

    @property
    def words(self) -> str:
        """The constraint as it is written on the command line."""
        return f"{OPTIONS[self.aim]} {self.text}"

    @property
    def is_share(self) -> bool:
        """Whether it limits the share of the baseline's amount."""
        return self.unit == TIMES

    @property
    def is_paired(self) -> bool:
        """Whether it limits what is exact, or compared with the baseline on the same items or in one wave."""
        return self.aim in ("drop", "size") or self.is_share


@frozen(kw_only=True)
class Bound:
    """A constraint on the scale of a metric: which figure is limited, and where."""

    #: ``value`` of the cell, its ``difference`` from the baseline, or its ``ratio`` (ours / theirs) to it.
    kind: Literal["value", "difference", "ratio"]
    edge: float
    #: Whether figures above the edge are refused, rather than those below it.
    is_upper: bool = True

    def verdict(self, value: float, interval: tuple[float, float] | None) -> Verdict:
        """Return whether a figure with its interval is within the bound; perhaps where it has no interval."""
        if interval is None or not all(map(math.isfinite, (value, *interval))):
            return "perhaps"
        held = [self.holds(end) for end in interval]
        return "surely" if all(held) else "perhaps" if any(held) else "no"

    def holds(self, value: float) -> bool:
        """Return whether a value is within the bound."""
        return value <= self.edge if self.is_upper else value >= self.edge

    def excess(self, value: float) -> float:
        """Return how far a value is beyond the bound, in its unit; negative within it."""
        return value - self.edge if self.is_upper else self.edge - value


# Reading ------------------------------------------------------------------------------------------


def read_constraints(texts: Mapping[str, Sequence[str]]) -> tuple[Constraint, ...]:
    """Read constraints from texts by what they limit. Raises ``UsageError`` in one line.

    Each quantity has at most one amount of its own and one share of the baseline's.
    """
    constraints = [read_constraint(aim, text) for aim in OPTIONS for text in texts.get(aim, ())]
    first: dict[tuple[str, bool], Constraint] = {}
    for constraint in constraints:
        former = first.setdefault((constraint.aim, constraint.is_share), constraint)
        if former is not constraint:
            raise UsageError(
                f"{OPTIONS[constraint.aim]} was set twice, to {former.text} and to {constraint.text}: "
                f"give one of them"
            )
    return tuple(constraints)


def read_constraint(aim: str, text: str) -> Constraint:
    """Read the amount of one constraint. Raises ``UsageError`` that says which forms there are."""
    words = f"{OPTIONS[aim]} {to_line(text.strip(), MAX_QUOTED)}"
    match = AMOUNT.fullmatch(text.strip())
    unit = None if match is None else _unit(aim, match[3])
    if match is None or unit is None:
        raise UsageError(f"{words}: expected {FORMS[aim]}")
    name, scale = unit
    amount = float(match[2]) * scale
    if match[1] or (amount == 0 and aim != "drop"):
        least = "0 or more" if aim == "drop" else "above 0"
        raise UsageError(f"{words}: it must be {least}, else nothing can meet it; expected {FORMS[aim]}")
    return Constraint(aim=aim, amount=amount, unit=name, text=text.strip())


def _unit(aim: str, written: str) -> tuple[str, float] | None:
    """Return the unit of an amount and the factor to it; None where it is no unit of what is limited."""
    if aim == "drop":
        return (written, 1.0) if re.fullmatch(r"%|[^\W\d_]*", written) and written != TIMES else None
    if written.lower() == TIMES:
        return TIMES, 1.0
    if aim == "time":
        return ("s", SECONDS[written]) if written in SECONDS else None
    if not written:
        return ("bytes", 1.0) if aim == "size" else None
    scale = {**BYTES, "": 1}.get(written.lower().removesuffix("b"))
    return None if scale is None else ("bytes", float(scale))


# Which metric -------------------------------------------------------------------------------------


def judges_answers(metric: Metric) -> bool:
    """Return whether a metric judges what a model answers, rather than what the answer costs."""
    is_of_items = metric.phase == "derived" and metric.samples in ("per_item", "per_set")
    return (metric.phase == "predictions" or is_of_items) and metric.better != "neither"


def metric_of(constraint: Constraint, metrics: Iterable[Metric]) -> Metric | None:
    """Return the metric that a constraint limits, or None where there is none among these.

    They are known by what their records say: quality by the axis of the highest rank that judges answers, the
    others by their unit and their phase. Of several an axis of the front comes first.
    """
    fitting = [metric for metric in metrics if _fits(constraint.aim, metric)]
    axes = [metric for metric in fitting if metric.axis]
    if constraint.aim == "drop":
        return max(axes, key=lambda metric: metric.quality, default=None)
    return next(iter(axes or fitting), None)


def _fits(aim: str, metric: Metric) -> bool:
    if aim == "drop":
        return judges_answers(metric)
    if metric.better != "lower" or metric.compare == "difference":
        return False
    if aim == "time":
        return metric.unit in SECONDS and metric.phase == "block"
    if aim == "size":
        return metric.unit == "bytes" and metric.phase == "artifact"
    return metric.unit == "MiB" and metric.phase in ("fresh", "block")


def bound_of(constraint: Constraint, metric: Metric) -> Bound:
    """Return a constraint on the scale of a metric. Raises ``UsageError`` where its unit does not suit it."""
    amount = constraint.amount
    if constraint.is_share:
        return Bound(kind="ratio", edge=amount)
    if constraint.aim == "time":
        return Bound(kind="value", edge=amount / SECONDS[metric.unit])
    if constraint.aim == "size":
        return Bound(kind="value", edge=amount)
    if constraint.aim == "memory":
        return Bound(kind="value", edge=amount / MIB)
    return _bound_of_drop(constraint, metric)


def _bound_of_drop(constraint: Constraint, metric: Metric) -> Bound:
    if metric.phase == "derived":
        raise UsageError(
            f"{constraint.words}: answers are judged by {metric.name} here, which says how near they are to "
            f"the baseline's and not what is lost; a drop needs right answers or --score"
        )
    is_higher, unit = metric.better == "higher", constraint.unit
    if metric.compare != "difference":
        if unit != "%":
            raise UsageError(
                f"{constraint.words}: {metric.name} is compared by ratio, so a share is expected, such as 2%"
            )
        share = constraint.amount / 100
        if is_higher and share >= 1:
            raise UsageError(f"{constraint.words}: it must be below 100%, or everything meets it")
        return Bound(kind="ratio", edge=1 - share if is_higher else 1 + share, is_upper=not is_higher)
    is_points = metric.unit in ("fraction", "points")
    own = ("", "pt", "pts", "point", "points") if is_points else ("", metric.unit)
    if unit not in own:
        expected = "points, such as 0.5pt" if is_points else f"{metric.unit}, such as 0.5{metric.unit}"
        raise UsageError(f"{constraint.words}: {metric.name} is compared by difference, in {expected}")
    drop = constraint.amount / 100 if metric.unit == "fraction" else constraint.amount
    return Bound(kind="difference", edge=-drop if is_higher else drop, is_upper=not is_higher)


def check_constraints(constraints: Iterable[Constraint], metrics: Sequence[Metric]) -> None:
    """Raise ``UsageError`` for a constraint that no metric here can judge."""
    for constraint in constraints:
        metric = metric_of(constraint, metrics)
        if metric is None:
            raise UsageError(f"{constraint.words}: {_why_unjudged(constraint.aim, metrics)}")
        if constraint.aim != "drop":
            bound_of(constraint, metric)


def _why_unjudged(aim: str, metrics: Sequence[Metric]) -> str:
    names = ", ".join(metric.name for metric in metrics) or "none"
    if aim == "drop":
        axes = ", ".join(metric.name for metric in metrics if metric.axis) or "none"
        return f"no row can be judged by it, since no axis of the front judges answers (axes: {axes})"
    what = {"time": "time of a call", "size": "size of the artifact", "memory": "memory of a launch"}[aim]
    return f"no row can be judged by it, since no metric of the {what} is measured (measured: {names})"
