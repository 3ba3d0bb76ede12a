"""Group changes by their cause, so that each cause is counted once however many figures show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from attrs import frozen

from qx.comparison.records import OUTPUTS, Change, Verdict
from qx.contract.records import Metric

#: Verdict on a cause. ``mixed``: better in one figure and worse in another. ``same?``: no figure shows a
#: change that matters, but some figure's interval leaves room for one.
CauseVerdict: TypeAlias = Verdict | Literal["mixed", "same?"]
#: Verdicts by precedence: a cause has the first of those that its changes have.
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
#: Verdicts on causes of which no change is shown.
UNCHANGED: tuple[CauseVerdict, ...] = ("same?", "same")


@frozen(kw_only=True)
class Cause:
    """Changes of one cell in one run that share a cause: a metric, and the metrics that derive from it."""

    verdict: CauseVerdict
    #: Changes that show the cause, without those whose verdict is ``same`` and those that repeat another.
    changes: tuple[Change, ...]


def cause_of(metric: str, metrics: Mapping[str, Metric]) -> str:
    """Return the name that the changes of a metric are counted under.

    It is the metric at the root of those that this one derives from, or the outputs for a metric of
    predictions.
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
    """Return the causes of the changes of one cell in one run, the worst first."""
    groups: dict[str | None, list[Change]] = {}
    for change in changes:
        groups.setdefault(change.cause, []).append(change)
    unsorted = [_cause(group, metrics) for group in groups.values()]
    return sorted(unsorted, key=lambda cause: ORDER.index(cause.verdict))


def _cause(group: Sequence[Change], metrics: Mapping[str, Metric]) -> Cause:
    changed = [change for change in group if change.verdict != "same"]
    if not changed:
        is_open = any(change.within_margin is False for change in group)
        return Cause(verdict="same?" if is_open else "same", changes=())
    if any(change.verdict in ("better", "worse") for change in changed):
        # Where one figure says better or worse, another that only says changed adds nothing.
        changed = [change for change in changed if change.verdict != "changed"]
    changed_metrics = {change.metric for change in changed}
    sources = [change for change in changed if not changed_metrics & {*_sources(change.metric, metrics)}]
    # Metrics that derive from each other have no source.
    shown = sources or changed
    verdicts: set[CauseVerdict] = {change.verdict for change in shown}
    verdict = "mixed" if {"better", "worse"} <= verdicts else min(verdicts, key=ORDER.index)
    return Cause(verdict=verdict, changes=tuple(shown))


def _sources(metric: str | None, metrics: Mapping[str, Metric]) -> tuple[str, ...]:
    return metrics[metric].derived_from if metric is not None and metric in metrics else ()
