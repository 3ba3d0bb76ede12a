"""Changes that have one cause, so that each is counted once however many figures show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from attrs import frozen

from qx.comparison.records import OUTPUTS, Change, Verdict
from qx.contract.records import Metric

#: What can be said of a cause. ``mixed``: better in one figure and worse in another. ``same?``: no change
#: that matters is shown, and some figure's interval leaves room for one.
CauseVerdict: TypeAlias = Verdict | Literal["mixed", "same?"]
#: The first of several verdicts is that of their cause.
ORDER: tuple[CauseVerdict, ...] = (
    "worse",
    "mixed",
    "better",
    "changed",
    "gone",
    "new",
    "not comparable",
    "same?",
    "same",
)
#: Nothing is shown to have changed.
UNCHANGED: tuple[CauseVerdict, ...] = ("same?", "same")


@frozen(kw_only=True)
class Cause:
    """What changed of a cell in one run: a metric, at all batch sizes and bases, and what derives from it."""

    verdict: CauseVerdict
    #: The changes that show it; without those that are the same and those that only repeat another.
    changes: tuple[Change, ...]


def cause_of(metric: str, metrics: Mapping[str, Metric]) -> str:
    """The name that the changes of a metric are counted under: what it derives from, at the root.

    Metrics of predictions derive from the outputs.
    """
    seen: set[str] = set()
    while metric in metrics and metric not in seen:
        seen.add(metric)
        record = metrics[metric]
        if record.phase == "predictions":
            return OUTPUTS
        metric = next(iter(record.derived_from), metric)
    return metric


def causes(changes: Iterable[Change], metrics: Mapping[str, Metric]) -> list[Cause]:
    """The causes of the changes of one cell in one run, the worst first."""
    groups: dict[str | None, list[Change]] = {}
    for change in changes:
        groups.setdefault(change.cause, []).append(change)
    every_cause = [_cause(group, metrics) for group in groups.values()]
    return sorted(every_cause, key=lambda cause: ORDER.index(cause.verdict))


def _cause(group: Sequence[Change], metrics: Mapping[str, Metric]) -> Cause:
    apart = [change for change in group if change.verdict != "same"]
    if not apart:
        is_open = any(change.within_margin is False for change in group)
        return Cause(verdict="same?" if is_open else "same", changes=())
    if any(change.verdict in ("better", "worse") for change in apart):
        # Where a metric says how good or bad it is, that something changed goes without saying.
        apart = [change for change in apart if change.verdict != "changed"]
    changed_metrics = {change.metric for change in apart}
    sources = [change for change in apart if not changed_metrics & {*_sources(change.metric, metrics)}]
    # Metrics that derive from each other have no source.
    shown = sources or apart
    verdicts: set[CauseVerdict] = {change.verdict for change in shown}
    verdict = "mixed" if {"better", "worse"} <= verdicts else min(verdicts, key=ORDER.index)
    return Cause(verdict=verdict, changes=tuple(shown))


def _sources(metric: str | None, metrics: Mapping[str, Metric]) -> tuple[str, ...]:
    return metrics[metric].derived_from if metric is not None and metric in metrics else ()
