"""Decide whether the results meet each rule, breach it, or have intervals too wide to tell."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
from attrs import evolve, frozen
from scipy.special import ndtri, stdtrit

from qx.analysis.quantity import OF_ITEMS, Quantity
from qx.comparison.compare import ending
from qx.comparison.pairs import NotComparable, NotInBase, Pair
from qx.comparison.records import Basis
from qx.comparison.sources import Source, note_on_weights, notes_on_items, refusal
from qx.contract.figures import Figure
from qx.contract.records import Metric
from qx.errors import UsageError
from qx.gate.rules import ABSOLUTE, Rule, Rules
from qx.results import numbers
from qx.results.cells import most_similar
from qx.statistics import intervals

Verdict: TypeAlias = Literal["met", "breached", "too wide", "not applicable"]
#: Outcomes without a figure that breach no rule, unless the rule names the config.
EXCUSED = ("unsupported", "unavailable")
#: Method of an interval that is computed without the samples.
STORED_METHOD = "from the stored 95 % interval, widened"


@frozen(kw_only=True)
class Decision:
    """The decision on one rule for one metric of one cell."""

    rule: Rule
    workload: str
    config: str
    cell: str
    figure: Figure
    verdict: Verdict
    #: Figure that was compared with the limit, with its interval, in words.
    seen: str = ""
    #: Reason why there is no figure.
    reason: str | None = None
    method: str = ""
    #: Time that the decision took in seconds, most of which goes into intervals.
    seconds: float = 0.0

    @property
    def line(self) -> str:
        """The decision in one line."""
        subject = f"{self.cell}: {self.figure}"
        return f"{subject}: {self.reason or self.seen} ({self.rule.text}; rule {self.rule.number})"


@frozen(kw_only=True)
class Ruling:
    """All decisions on the results of one run."""

    decisions: tuple[Decision, ...]
    false_alarms: float
    #: Number of decisions that rest on an interval, and the level of each interval.
    intervals: int
    level: float
    #: What a reader should know of the results and of BASE before trusting the decisions.
    notes: tuple[str, ...] = ()

    def with_verdict(self, verdict: Verdict) -> list[Decision]:
        """Return the decisions with this verdict."""
        return [decision for decision in self.decisions if decision.verdict == verdict]

    def passes(self, *, strict: bool) -> bool:
        """Whether no rule is breached and, if strict, no interval is too wide to tell."""
        return not self.with_verdict("breached") and not (strict and self.with_verdict("too wide"))


@frozen
class Evidence:
    """A figure that is compared with a limit."""

    #: Whether the figure is a value, a difference, a ratio or a speedup.
    kind: str
    value: float
    ci: tuple[float, float] | None
    method: str
    #: Difference that the control shows, which is noise.
    floor: intervals.Difference | None = None
    #: Reason why there is no interval, where it is known.
    reason: str = ""


def decide(
    rules: Rules,
    source: Source,
    base: Source | None = None,
    *,
    other_calibration: bool = False,
    other_weights: bool = False,
) -> Ruling:
    """Decide every rule on every cell that it selects. Raises ``UsageError``.

    A rule is breached where the whole interval lies beyond the limit. The level of the intervals is chosen so
    that the probability of any false alarm is at most ``rules.false_alarms`` (Bonferroni). What is measured
    in launches must also be beyond the limit by more than the control shows.
    """
    rules.check(source.results, has_base=base is not None)
    note = None
    if base is not None:
        if reason := refusal(base, source, other_calibration=other_calibration, other_weights=other_weights):
            raise UsageError(f"not comparable: {reason}")
        if any(rule.against_base for rule in rules.rules):
            note = note_on_weights(base, source)
    cases = list(_cases(rules, source))
    preliminary = [
        _without_runtime_baseline(rule, source, cell, figure) or _unmeasured(rule, source, cell, figure)
        for rule, cell, figure in cases
    ]
    interval_count = sum(
        decision is None and not source.is_exact(cell, figure)
        for decision, (_, cell, figure) in zip(preliminary, cases, strict=True)
    )
    level = 1 - 2 * rules.false_alarms / max(1, interval_count)
    decisions = [
        decision or _timed(partial(_decide_case, rule, source, base, cell, figure, level))
        for decision, (rule, cell, figure) in zip(preliminary, cases, strict=True)
    ]
    if base is not None:
        decisions += _missing_cells(rules, source, base)
    if not decisions:
        raise UsageError(f"{rules.place}: no rule applies to any cell of {source.place}")
    return Ruling(
        decisions=tuple(decisions),
        false_alarms=rules.false_alarms,
        intervals=interval_count,
        level=level,
        notes=(*notes_on_items(source), *(() if note is None else (note,))),
    )


def _cases(rules: Rules, source: Source) -> Iterator[tuple[Rule, str, Figure]]:
    """Yield each rule with every cell and figure that it selects."""
    results = source.results
    figures = dict.fromkeys(measured.figure for measured in results.measurements)
    for rule in rules.rules:
        for name, cell in results.cells.items():
            is_reference = results.configs[cell.config].reference
            if cell.control or not rule.selects(cell.config, cell.workload_name, is_reference=is_reference):
                continue
            for figure in figures:
                if figure.metric == rule.metric and rule.is_for(figure.point):
                    yield rule, name, figure


def _without_figure(
    rule: Rule, source: Source, cell: str, figure: Figure, verdict: Verdict, reason: str
) -> Decision:
    result = source.results.cells[cell]
    return Decision(
        rule=rule,
        workload=result.workload,
        config=result.config,
        cell=cell,
        figure=figure,
        verdict=verdict,
        reason=reason,
    )


def _without_runtime_baseline(rule: Rule, source: Source, cell: str, figure: Figure) -> Decision | None:
    """Return the decision on a rule against the runtime baseline for a config without one, else None."""
    config = source.results.configs[source.results.cells[cell].config]
    if not rule.against_runtime_baseline or config.runtime_baseline is not None:
        return None
    return _without_figure(rule, source, cell, figure, "not applicable", "its config has no runtime baseline")


def _unmeasured(rule: Rule, source: Source, cell: str, figure: Figure) -> Decision | None:
    """Return the decision on a cell without a figure, else None. It is a breach if a figure is required."""
    result, measured = source.results.cells[cell], source.measurements.get((cell, figure))
    if result.outcome != "ok":
        reason, outcome = ending(result), str(result.outcome)
    elif measured is None:
        reason, outcome = "not measured", "unsupported"
    elif measured.value is None:
        reason, outcome = measured.cause or "no cause is known", str(measured.outcome)
    else:
        return None
    is_excused = outcome in EXCUSED and not rule.configs
    verdict: Verdict = "not applicable" if is_excused else "breached"
    return _without_figure(rule, source, cell, figure, verdict, f"no figure: {reason}")


def _missing_cells(rules: Rules, source: Source, base: Source) -> Iterator[Decision]:
    """Yield decisions on cells of the base that rules against it select and the results lack."""
    matched = {base.partner(source, name) for name, cell in source.results.cells.items() if not cell.control}
    for rule in rules.rules:
        if not rule.against_base:
            continue
        for name, cell in base.results.cells.items():
            is_reference = base.results.configs[cell.config].reference
            if (
                cell.control
                or name in matched
                or not rule.selects(cell.config, cell.workload_name, is_reference=is_reference)
            ):
                continue
            figure = Figure(rule.metric)
            yield _without_figure(rule, base, name, figure, "too wide", f"gone: it is in {base.place} only")


def _timed(decide_case: Callable[[], Decision]) -> Decision:
    """Return a decision with the time that it takes."""
    began = time.perf_counter()
    decision = decide_case()
    return evolve(decision, seconds=time.perf_counter() - began)


def _decide_case(
    rule: Rule, source: Source, base: Source | None, cell: str, figure: Figure, level: float
) -> Decision:
    """Decide a rule on a cell that has a figure, with an interval at this level."""
    metric = source.metric(figure)
    decision = _without_figure(rule, source, cell, figure, "too wide", "")
    try:
        if rule.limit in ABSOLUTE:
            evidence = _value(source, cell, figure, level)
        elif rule.against == "base":
            assert base is not None
            evidence = _against_base(rule, source, base, cell, figure, level)
        else:
            evidence = _within_run(rule, source, cell, figure, level)
    except NotInBase as error:
        verdict: Verdict = "too wide" if rule.configs else "not applicable"
        return evolve(decision, verdict=verdict, reason=f"new: {error}")
    except NotComparable as error:
        return evolve(decision, reason=f"cannot be decided: {error}")
    words = _in_words(evidence, metric) + _spread_in_words(source, cell, figure)
    decision = evolve(decision, reason=None, seen=words, method=evidence.method)
    if evidence.ci is None:
        parts = filter(None, (f"{words}, without an interval", evidence.reason))
        return evolve(decision, seen=": ".join(parts))
    verdict, is_beyond = _verdict(rule, evidence)
    if verdict == "too wide" and is_beyond:
        # By the interval alone the rule would be breached.
        decision = evolve(decision, seen=f"{words}, no larger than the noise that the control shows")
    return evolve(decision, verdict=verdict)


# Figures to compare with limits -------------------------------------------------------------------


def _value(source: Source, cell: str, figure: Figure, level: float) -> Evidence:
    """Return the value of a cell."""
    measured = source.measurements[cell, figure]
    if source.recording is not None:
        quantity = source.quantity(cell, figure)
        estimate, floor = quantity.estimate(cell, level), _floor(source, cell, quantity)
        return Evidence("value", estimate.value, estimate.ci, "from the samples", floor, estimate.reason)
    assert measured.value is not None
    ci = _widened(measured.value, measured.ci, measured.n, source, cell, figure, level)
    reason = measured.without_interval or ""
    return Evidence("value", measured.value, ci, STORED_METHOD, _stored_floor(source, cell, figure), reason)


def _within_run(rule: Rule, source: Source, cell: str, figure: Figure, level: float) -> Evidence:
    """Compare a cell with its baseline in the run, or with its runtime baseline."""
    measured, metric = source.measurements[cell, figure], source.metric(figure)
    other = source.baseline(cell) if rule.against == "baseline" else _runtime_baseline(source, cell)
    if other is None:
        raise NotComparable(f"its {rule.against.replace('_', ' ')} is missing or failed")
    if other == cell:
        neutral = intervals.neutral(metric.compare)
        return Evidence(metric.compare, neutral, (neutral, neutral), "itself")
    if source.recording is not None:
        quantity = source.quantity(cell, figure)
        compared = quantity.compare(cell, other, level)
        if compared is None:
            raise NotComparable("the results do not compare it with that")
        if quantity.are_identical(cell, other):
            compared = intervals.no_difference(metric.compare)
        floor, reason = _floor(source, cell, quantity), compared.reason
        return Evidence(compared.kind, compared.value, compared.ci, compared.method, floor, reason)
    stored = [measured.vs_baseline] if other == source.baseline(cell) else measured.comparisons
    for comparison in stored:
        if comparison is not None and comparison.against in (None, other):
            # The comparison rests on the waves of both cells, at most as many as either has.
            n = min(measured.n, source.measurements[other, figure].n)
            is_relative = comparison.kind != "difference"
            ci = _widened(
                comparison.value, comparison.ci, n, source, cell, figure, level, is_relative=is_relative
            )
            reason = measured.without_interval or ""
            return Evidence(
                comparison.kind,
                comparison.value,
                ci,
                STORED_METHOD,
                _stored_floor(source, cell, figure),
                reason,
            )
    raise NotComparable("the results do not compare it with that")


def _floor(source: Source, cell: str, quantity: Quantity) -> intervals.Difference | None:
    """Return the difference that the control shows. None for metrics not measured in launches."""
    control = source.control(cell)
    if control is None or not quantity.is_from_launches:
        return None
    return quantity.compare(control, quantity.baseline)


def _stored_floor(source: Source, cell: str, figure: Figure) -> intervals.Difference | None:
    """Return the difference that the control shows, from the results alone, for a run without samples."""
    for floor in source.results.noise_floor:
        is_same_workload = floor.workload in (None, source.results.cells[cell].workload)
        if is_same_workload and floor.figure == figure:
            kind = source.metric(figure).compare
            return intervals.Difference(kind, floor.value, floor.ci, None)
    return None


def _runtime_baseline(source: Source, cell: str) -> str | None:
    cells, own = source.results.cells, source.results.cells[cell]
    baseline = most_similar(cells, own, source.results.configs[own.config].runtime_baseline)
    return baseline if baseline is not None and cells[baseline].outcome == "ok" else None


def _against_base(
    rule: Rule, source: Source, base: Source, cell: str, figure: Figure, level: float
) -> Evidence:
    """Compare a cell with the same cell of the base."""
    partner = base.partner(source, cell)
    if partner is None:
        raise NotInBase(f"it is not in {base.place}")
    before = base.measurements.get((partner, figure))
    if before is None or before.value is None:
        raise NotInBase(f"{base.place} has no value of it")
    pair = Pair(base, source, partner, cell)
    launch_basis: Basis = "direct" if rule.directly else "own baseline"
    basis = pair.basis_without_launches(figure) or launch_basis
    if basis == "own baseline" and pair.is_baseline:
        raise NotComparable("a baseline has no ratio to itself; directly = true compares it on one machine")
    compared = pair.compared(figure, basis, level)
    # What another draw of calibration items changes is no change of the recipe.
    compared = pair.widened(figure, compared, level) or compared
    return Evidence(compared.kind, compared.value, compared.ci, compared.method, pair.floor(figure, basis))


def _widened(
    value: float,
    ci: tuple[float, float] | None,
    n: int,
    source: Source,
    cell: str,
    figure: Figure,
    level: float,
    *,
    is_relative: bool = False,
) -> tuple[float, float] | None:
    """Return a 95 % interval at another level.

    Its ends are taken for quantiles of Student's t with ``n - 1`` degrees of freedom, or for metrics of items
    of the normal distribution. None where no interval follows.
    """
    if source.is_exact(cell, figure):
        return ci
    of_items = source.metric(figure).samples in OF_ITEMS
    # Earlier versions gave a single value of unknown error an interval of no width.
    if ci is None or (of_items and source.metric(figure).samples == "exact") or (not of_items and n < 2):
        return None

    def quantile(share: float) -> float:
        return float(ndtri(share) if of_items else stdtrit(n - 1, share))

    widening = quantile(0.5 + level / 2) / quantile(0.975)
    if is_relative:
        logs = [widening * float(np.log(end / value)) for end in ci]
        if logs[1] - logs[0] > intervals.MAX_LOG_WIDTH:
            return None
        low, high = (value * float(np.exp(end)) for end in logs)
    else:
        low, high = (value + widening * (end - value) for end in ci)
    return low, high


# The verdict --------------------------------------------------------------------------------------


def _verdict(rule: Rule, evidence: Evidence) -> tuple[Verdict, bool]:
    """Return the verdict, and whether the whole interval is beyond the limit."""
    assert evidence.ci is not None
    limit = _limit(rule, evidence.kind)
    low, high = evidence.ci
    is_upper = _is_upper(rule, evidence.kind)
    if high <= limit if is_upper else low >= limit:
        return "met", False
    is_beyond = low > limit if is_upper else high < limit
    return "breached" if is_beyond and _is_beyond_noise(evidence, limit) else "too wide", is_beyond


def _limit(rule: Rule, kind: str) -> float:
    """Return the limit of a rule on a value, a difference, a ratio or a speedup."""
    amount = rule.amount
    if rule.limit in (*ABSOLUTE, "smallest_speedup"):
        return amount
    signed = -amount if rule.limit == "largest_drop" else amount
    if kind == "difference":
        return signed
    return 1 + signed if kind == "ratio" else 1 / (1 + signed)


def _is_upper(rule: Rule, kind: str) -> bool:
    """Whether the figure must not be above the limit, rather than below it."""
    is_upper = rule.limit in ("largest", "largest_increase")
    is_inverted = kind == "speedup" and rule.limit in ("largest_drop", "largest_increase")
    return not is_upper if is_inverted else is_upper


def _is_beyond_noise(evidence: Evidence, limit: float) -> bool:
    """Whether the figure is farther from the limit than the control is from the baseline."""
    if evidence.floor is None:
        return True
    if "difference" in (evidence.kind, evidence.floor.kind):
        return abs(evidence.value - limit) > abs(evidence.floor.value)
    if min(evidence.value, limit) <= 0:
        return True
    return bool(abs(np.log(evidence.value / limit)) > abs(np.log(evidence.floor.value)))


def _spread_in_words(source: Source, cell: str, figure: Figure) -> str:
    """Return how much builds of a cell differ, behind its figure; empty where that is not known."""
    built = source.measurements[cell, figure].builds
    if built is None or not built.deviation:
        return ""
    deviation = numbers.deviation(built.deviation, source.metric(figure).unit)
    return f", sd between {len(built.values)} builds {deviation}"


def _in_words(evidence: Evidence, metric: Metric) -> str:
    value, ci = evidence.value, evidence.ci
    if evidence.kind == "difference":
        parts = numbers.difference(value, ci, metric.unit)
    elif evidence.kind != "value":
        parts = numbers.ratio_interval(value, ci)
    else:
        is_point = ci is None or ci[0] == ci[1]
        ends = () if is_point or ci is None else tuple(numbers.quantity(end, metric.unit) for end in ci)
        parts = numbers.quantity(value, metric.unit), f"[{', '.join(ends)}]" if ends else ""
    return " ".join(filter(None, parts))
