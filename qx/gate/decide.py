"""Hold the rules against the results: met, breached, or too wide to tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import numpy as np
from attrs import evolve, frozen
from scipy.special import ndtri, stdtrit

from qx.analysis.quantity import OF_ITEMS, Quantity
from qx.comparison.compare import ending
from qx.comparison.pairs import New, NotComparable, Pair
from qx.comparison.records import Basis
from qx.comparison.sources import Source, refusal
from qx.contract.records import Metric
from qx.errors import UsageError
from qx.gate.rules import ABSOLUTE, Rule, Rules
from qx.results import numbers
from qx.results.columns import Column
from qx.results.results_file import cell_of
from qx.statistics import intervals

Verdict: TypeAlias = Literal["met", "breached", "too wide", "not applicable"]
#: A cell that ended so is passed over by rules that do not name its config.
EXCUSED = ("unsupported", "unavailable")
STORED = "from the stored 95 % interval, widened"


@frozen(kw_only=True)
class Decision:
    """One rule on one metric of one cell."""

    rule: Rule
    workload: str
    config: str
    cell: str
    column: Column
    verdict: Verdict
    #: What was seen, with its interval, in words.
    seen: str = ""
    #: Why there is nothing to be seen.
    reason: str | None = None
    method: str = ""

    @property
    def line(self) -> str:
        """In one line."""
        about = f"{self.cell}: {self.column.title}"
        return f"{about}: {self.reason or self.seen} ({self.rule.told}; rule {self.rule.number})"


@frozen(kw_only=True)
class Ruling:
    """All decisions."""

    decisions: tuple[Decision, ...]
    false_alarms: float
    #: How many decisions rest on an interval, and the level of each of these.
    intervals: int
    level: float

    def of(self, verdict: Verdict) -> list[Decision]:
        """Those that ended so."""
        return [one for one in self.decisions if one.verdict == verdict]

    def passes(self, *, strict: bool) -> bool:
        """No breach; and strictly, nothing that is too wide to tell."""
        return not self.of("breached") and not (strict and self.of("too wide"))


@frozen
class Seen:
    """A figure that is held against a limit; floor is what the noise looks like in the same terms."""

    kind: str
    value: float
    ci: tuple[float, float] | None
    method: str
    floor: intervals.Difference | None = None
    #: Why there is no interval, where that is known.
    reason: str = ""


def decide(
    rules: Rules, source: Source, base: Source | None = None, *, other_calibration: bool = False
) -> Ruling:
    """Decide every rule on every cell that it selects. Raises ``UsageError``.

    A breach is told where the whole interval lies beyond the limit, at a level at which all breaches together
    are false alarms with a probability of ``rules.false_alarms`` at most (Bonferroni). What is measured in
    launches must also be beyond the limit by more than the control shows.
    """
    rules.check(source.results, based=base is not None)
    if base is not None and (reason := refusal(base, source, other_calibration=other_calibration)):
        raise UsageError(f"not comparable: {reason}")
    cases = list(_cases(rules, source))
    told = [
        _without_runtime_baseline(rule, source, cell, column) or _unmeasured(rule, source, cell, column)
        for rule, cell, column in cases
    ]
    interval_count = sum(
        one is None and not source.is_exact(cell, column)
        for one, (_, cell, column) in zip(told, cases, strict=True)
    )
    level = 1 - 2 * rules.false_alarms / max(1, interval_count)
    decisions = [
        one or _decided(rule, source, base, cell, column, level)
        for one, (rule, cell, column) in zip(told, cases, strict=True)
    ]
    if base is not None:
        decisions += _gone(rules, source, base)
    if not decisions:
        raise UsageError(f"{rules.place}: no rule is about any cell of {source.place}")
    return Ruling(
        decisions=tuple(decisions),
        false_alarms=rules.false_alarms,
        intervals=interval_count,
        level=level,
    )


def _cases(rules: Rules, source: Source) -> Iterator[tuple[Rule, str, Column]]:
    """Rules with the cells and columns that they are about."""
    results = source.results
    columns = dict.fromkeys(Column.of(one.metric, one.params) for one in results.measurements)
    for rule in rules.rules:
        for name, cell in results.cells.items():
            reference = results.configs[cell.config].reference
            if cell.control or not rule.selects(cell.config, cell.workload, reference=reference):
                continue
            for column in columns:
                size = dict(column.params).get("batch_size")
                if column.metric == rule.metric and (not rule.batch_sizes or size in rule.batch_sizes):
                    yield rule, name, column


def _blank(rule: Rule, source: Source, cell: str, column: Column, verdict: Verdict, reason: str) -> Decision:
    ended = source.results.cells[cell]
    return Decision(
        rule=rule,
        workload=ended.workload,
        config=ended.config,
        cell=cell,
        column=column,
        verdict=verdict,
        reason=reason,
    )


def _without_runtime_baseline(rule: Rule, source: Source, cell: str, column: Column) -> Decision | None:
    """The decision where the rule is against the runtime baseline, and the config is of no such runtime."""
    config = source.results.configs[source.results.cells[cell].config]
    if not rule.against_runtime_baseline or config.runtime_baseline is not None:
        return None
    return _blank(rule, source, cell, column, "not applicable", "its config has no runtime baseline")


def _unmeasured(rule: Rule, source: Source, cell: str, column: Column) -> Decision | None:
    """The decision where there is no figure: a breach, unless nobody said that there must be one."""
    ended, measured = source.results.cells[cell], source.measurements.get((cell, column))
    if ended.outcome != "ok":
        reason, outcome = ending(ended), str(ended.outcome)
    elif measured is None:
        reason, outcome = "not measured", "unsupported"
    elif measured.value is None:
        reason, outcome = measured.cause or "no cause is known", str(measured.outcome)
    else:
        return None
    excused = outcome in EXCUSED and not rule.configs
    return _blank(
        rule, source, cell, column, "not applicable" if excused else "breached", f"no figure: {reason}"
    )


def _gone(rules: Rules, source: Source, base: Source) -> Iterator[Decision]:
    """Cells of the base that rules against it select, and that the results lack."""
    met = {base.partner(source, name) for name, cell in source.results.cells.items() if not cell.control}
    for rule in rules.rules:
        if not rule.against_base:
            continue
        for name, cell in base.results.cells.items():
            reference = base.results.configs[cell.config].reference
            if (
                cell.control
                or name in met
                or not rule.selects(cell.config, cell.workload, reference=reference)
            ):
                continue
            column = Column.of(rule.metric, {})
            yield _blank(rule, base, name, column, "too wide", f"gone: it is in {base.place} only")


def _decided(
    rule: Rule, source: Source, base: Source | None, cell: str, column: Column, level: float
) -> Decision:
    metric = source.metric(column)
    blank = _blank(rule, source, cell, column, "too wide", "")
    try:
        if rule.limit in ABSOLUTE:
            seen = _value(source, cell, column, level)
        elif rule.against == "base":
            assert base is not None
            seen = _against_base(rule, source, base, cell, column, level)
        else:
            seen = _within(rule, source, cell, column, level)
    except New as reason:
        return evolve(
            blank, verdict="too wide" if rule.configs else "not applicable", reason=f"new: {reason}"
        )
    except NotComparable as reason:
        return evolve(blank, reason=f"cannot be told: {reason}")
    told = _in_words(seen, metric)
    blank = evolve(blank, reason=None, seen=told, method=seen.method)
    if seen.ci is None:
        return evolve(blank, seen=": ".join(filter(None, (f"{told}, without an interval", seen.reason))))
    verdict, beyond = _verdict(rule, seen)
    if verdict == "too wide" and beyond:
        # The interval alone would be a breach.
        blank = evolve(blank, seen=f"{told}, no larger than the noise that the control shows")
    return evolve(blank, verdict=verdict)


# What is held against the limit -------------------------------------------------------------------


def _value(source: Source, cell: str, column: Column, level: float) -> Seen:
    measured = source.measurements[cell, column]
    if source.recording is not None:
        quantity = source.quantity(cell, column)
        estimate, floor = quantity.estimate(cell, level), _floor(source, cell, quantity)
        return Seen("value", estimate.value, estimate.ci, "from the samples", floor, estimate.reason)
    assert measured.value is not None
    ci = _widened(measured.value, measured.ci, measured.n, source, cell, column, level)
    reason = measured.without_interval or ""
    return Seen("value", measured.value, ci, STORED, _stored_floor(source, cell, column), reason)


def _within(rule: Rule, source: Source, cell: str, column: Column, level: float) -> Seen:
    """Against the baseline of the run, or the runtime's."""
    measured, metric = source.measurements[cell, column], source.metric(column)
    other = source.baseline(cell) if rule.against == "baseline" else _runtime_baseline(source, cell)
    if other is None:
        raise NotComparable(f"there is no {rule.against.replace('_', ' ')} that ended well")
    if other == cell:
        neutral = 0.0 if metric.compare == "difference" else 1.0
        return Seen(metric.compare, neutral, (neutral, neutral), "itself")
    if source.recording is not None:
        quantity = source.quantity(cell, column)
        compared = quantity.compare(cell, other, level)
        if compared is None:
            raise NotComparable("it has no comparison with it")
        if quantity.are_identical(cell, other):
            compared = intervals.no_difference(metric.compare)
        floor, reason = _floor(source, cell, quantity), compared.reason
        return Seen(compared.kind, compared.value, compared.ci, compared.method, floor, reason)
    stored = [measured.vs_baseline] if other == source.baseline(cell) else measured.comparisons
    for one in stored:
        if one is not None and one.against in (None, other):
            # Of the waves of both, which are no more than either has.
            n = min(measured.n, source.measurements[other, column].n)
            relative = one.kind != "difference"
            ci = _widened(one.value, one.ci, n, source, cell, column, level, relative=relative)
            reason = measured.without_interval or ""
            return Seen(one.kind, one.value, ci, STORED, _stored_floor(source, cell, column), reason)
    raise NotComparable("it has no comparison with it")


def _floor(source: Source, cell: str, quantity: Quantity) -> intervals.Difference | None:
    """What the control of a cell's workload appears to differ by; None of what no launch gives."""
    control = source.control(cell)
    if control is None or not quantity.is_from_launches:
        return None
    return quantity.compare(control, quantity.baseline)


def _stored_floor(source: Source, cell: str, column: Column) -> intervals.Difference | None:
    """The same, of a run whose samples are not there."""
    for one in source.results.noise_floor:
        of = one.workload in (None, source.results.cells[cell].workload)
        if of and Column.of(one.metric, one.params) == column:
            kind = source.metric(column).compare
            return intervals.Difference(kind, one.value, one.ci, None)
    return None


def _runtime_baseline(source: Source, cell: str) -> str | None:
    cells, own = source.results.cells, source.results.cells[cell]
    found = cell_of(cells, own, source.results.configs[own.config].runtime_baseline)
    return found if found is not None and cells[found].outcome == "ok" else None


def _against_base(rule: Rule, source: Source, base: Source, cell: str, column: Column, level: float) -> Seen:
    partner = base.partner(source, cell)
    if partner is None:
        raise New(f"it is not in {base.place}")
    before = base.measurements.get((partner, column))
    if before is None or before.value is None:
        raise New(f"{base.place} has no figure of it")
    pair = Pair(base, source, partner, cell)
    launched: Basis = "direct" if rule.directly else "own baseline"
    basis = pair.without_launches(column) or launched
    if basis == "own baseline" and pair.is_baseline:
        raise NotComparable("a baseline has no ratio to itself; directly = true compares it on one machine")
    compared = pair.compared(column, basis, level)
    return Seen(compared.kind, compared.value, compared.ci, compared.method, pair.floor(column, basis))


def _widened(
    value: float,
    ci: tuple[float, float] | None,
    n: int,
    source: Source,
    cell: str,
    column: Column,
    level: float,
    *,
    relative: bool = False,
) -> tuple[float, float] | None:
    """A 95 % interval at another level, as if its ends were quantiles of Student's t, or of the normal."""
    if source.is_exact(cell, column):
        return ci
    of_items = source.metric(column).samples in OF_ITEMS
    # One value of which nobody knows the error was once told with an interval of no width.
    if ci is None or (of_items and source.metric(column).samples == "exact") or (not of_items and n < 2):
        return None

    def quantile(share: float) -> float:
        return float(ndtri(share) if of_items else stdtrit(n - 1, share))

    wider = quantile(0.5 + level / 2) / quantile(0.975)
    if relative:
        logs = [wider * float(np.log(end / value)) for end in ci]
        if logs[1] - logs[0] > intervals.MAX_LOG_WIDTH:
            return None
        low, high = (value * float(np.exp(end)) for end in logs)
    else:
        low, high = (value + wider * (end - value) for end in ci)
    return low, high


# The verdict --------------------------------------------------------------------------------------


def _verdict(rule: Rule, seen: Seen) -> tuple[Verdict, bool]:
    """By the interval, at the limit put into the terms of what was seen; and whether all of it is beyond."""
    assert seen.ci is not None
    limit = _limit(rule, seen.kind)
    low, high = seen.ci
    upper = _is_upper(rule, seen.kind)
    if high <= limit if upper else low >= limit:
        return "met", False
    beyond = low > limit if upper else high < limit
    return "breached" if beyond and _beyond_noise(seen, limit) else "too wide", beyond


def _limit(rule: Rule, kind: str) -> float:
    """The limit on a value, a difference, a ratio or a speedup."""
    amount = rule.amount
    if rule.limit in (*ABSOLUTE, "smallest_speedup"):
        return amount
    signed = -amount if rule.limit == "largest_drop" else amount
    if kind == "difference":
        return signed
    return 1 + signed if kind == "ratio" else 1 / (1 + signed)


def _is_upper(rule: Rule, kind: str) -> bool:
    """What was seen must not be above the limit, rather than below."""
    above = rule.limit in ("largest", "largest_increase")
    return not above if kind == "speedup" and rule.limit in ("largest_drop", "largest_increase") else above


def _beyond_noise(seen: Seen, limit: float) -> bool:
    if seen.floor is None:
        return True
    if "difference" in (seen.kind, seen.floor.kind):
        return abs(seen.value - limit) > abs(seen.floor.value)
    if min(seen.value, limit) <= 0:
        return True
    return bool(abs(np.log(seen.value / limit)) > abs(np.log(seen.floor.value)))


def _in_words(seen: Seen, metric: Metric) -> str:
    if seen.kind == "difference":
        parts = numbers.difference(seen.value, seen.ci, metric.unit)
    elif seen.kind != "value":
        parts = numbers.ratio_interval(seen.value, seen.ci)
    else:
        exact = seen.ci is None or seen.ci[0] == seen.ci[1]
        ends = (
            () if exact or seen.ci is None else tuple(numbers.quantity(end, metric.unit) for end in seen.ci)
        )
        parts = numbers.quantity(seen.value, metric.unit), f"[{', '.join(ends)}]" if ends else ""
    return " ".join(filter(None, parts))
