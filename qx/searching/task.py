"""What a search is for, and whether the items can show it at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from attrs import frozen

from qx.analysis import on_items
from qx.contract.records import Metric
from qx.errors import UsageError
from qx.results.constraints import Constraint, bound_of
from qx.results.recording import Series
from qx.searching.figures import Limit
from qx.searching.race import ERROR, FINALISTS
from qx.searching.report import SearchReport
from qx.statistics.over_items import ends_of_pairs
from qx.statistics.sequential import power_of_items

#: Shares of answers that a config may change, of which the search says how likely it can verify them.
CHANGED = (0.01, 0.02, 0.04)


@frozen(kw_only=True)
class Task:
    """What is searched for, and where."""

    constraints: tuple[Constraint, ...]
    #: What is minimized, by a word of ``AIMS`` (``qx.results.constraints``).
    minimize: str
    #: Ranges of options, as the user writes them.
    ranges: tuple[str, ...] = ()
    #: Candidates that are sampled of each config with ranges.
    trials: int = 32
    #: Whether layers may stay in float.
    has_layers: bool = True
    #: Seconds that the race may take; None: as many as it needs.
    max_time: float | None = None

    def check(self) -> None:
        """Raise ``UsageError`` for a task that no search can have."""
        drop = next((one for one in self.constraints if one.aim == "drop"), None)
        if drop is None:
            raise UsageError(
                "--max-drop is needed: without it the smallest or fastest wins, whatever it answers; such as "
                "--max-drop 0.5pt"
            )
        if drop.amount == 0:
            raise UsageError(
                f"{drop.words}: no number of items can show that nothing at all is lost; give more than 0"
            )
        if self.trials < 1:
            raise UsageError(f"--trials must be at least 1, not {self.trials}")

    @property
    def drop(self) -> Constraint:
        """The constraint on quality."""
        return next(one for one in self.constraints if one.aim == "drop")


def make_report(task: Task) -> SearchReport:
    """Return the report of a search that has not begun."""
    words = tuple(one.words for one in task.constraints)
    return SearchReport(constraints=words, minimized=task.minimize)


def check_judges(task: Task, judges: Sequence[Metric], workload: str, items: int) -> None:
    """Raise ``UsageError`` where nothing judges the answers, or where the items are too few for all judges.

    ``judges`` are the metrics that may judge the answers, as far as that is known before anything is built.
    """
    if all(record.phase == "derived" for record in judges):
        raise UsageError(
            f"{task.drop.words}: nothing judges the answers of {workload}: a search needs right answers, or "
            f"--score"
        )
    highest = max(judges, key=lambda record: record.quality)
    # Whether there is a score is known once the baseline has been evaluated.
    if not highest.takes_score and highest.samples == "per_item" and highest.unit == "fraction":
        _check_items(task, items, _half_width, abs(bound_of(task.drop, highest).edge))


def what_items_show(task: Task, limit: Limit, base: Series, items: int) -> list[str]:
    """Return what the items can show of the quality, in words. Raises ``UsageError`` where it is too little.

    ``base`` has the baseline's samples on some of the items. Half of the items choose, and half verify.
    """
    metric = limit.metric
    if metric.samples != "per_item":
        return []
    neutral = 1.0 if limit.bound.kind == "ratio" else 0.0
    room = abs(limit.bound.edge - neutral)
    compared = on_items.compare(metric, base, base, 1 - 2 * ERROR)
    if set(base.values) <= {0.0, 1.0}:
        _check_items(task, items, _half_width, room)
    elif compared is not None and compared.ci is not None:
        # An interval that rests on pseudo-items alone shrinks with the number of items.
        whole = max(abs(end - neutral) for end in compared.ci) * len(base.values)
        _check_items(task, items, lambda count: whole / count, room)
    held_out = items - items // 2
    if metric.unit != "fraction":
        return []
    changed = _listed([f"{100 * share:g}" for share in CHANGED], "or")
    powers = _listed([f"{100 * _power(share, room, held_out):.0f}" for share in CHANGED])
    return [
        f"{held_out:,} items verify. A config that loses nothing and changes {changed} % of the answers is "
        f"shown to be within {task.drop.text} in {powers} of 100 searches."
    ]


def _check_items(task: Task, items: int, half_width: Callable[[int], float], limit: float) -> None:
    """Raise ``UsageError`` where half of the items cannot show that of a config that changes nothing."""
    if half_width(items - items // 2) <= limit:
        return
    raise UsageError(
        f"{task.drop.words}: {items:,} items cannot show that, even of a config that changes no answer; "
        f"{2 * _least_items(half_width, limit):,} can, half of which choose and half verify: give more "
        f"--data, a larger --eval-n or a larger --max-drop"
    )


def what_is_judged_late(limits: Sequence[Limit]) -> list[str]:
    """Return a sentence for each constraint that the race cannot judge."""
    return [
        f"{limit.constraint.words} is judged in the final only: an absolute amount of {limit.metric.name} "
        f"drifts with the machine."
        for limit in limits
        if not limit.constraint.is_paired
    ]


def _listed(words: Sequence[str], last: str = "and") -> str:
    """Return words as a list in a sentence."""
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def _power(changed: float, limit: float, items: int) -> float:
    return power_of_items(math.sqrt(changed), limit, ERROR / FINALISTS, items)


def _half_width(items: int) -> float:
    """Return how much may be lost at most, by the interval of a config that changed none of these answers."""
    return math.inf if items < 2 else -ends_of_pairs(0, 0, items, 1 - 2 * ERROR)[0]


def _least_items(half_width: Callable[[int], float], limit: float) -> int:
    """Return the smallest number of items that can show a loss to be within the limit."""
    enough = 2
    while half_width(enough) > limit:
        enough *= 2
    too_few = enough // 2
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if half_width(middle) > limit:
            too_few = middle
        else:
            enough = middle
    return enough
