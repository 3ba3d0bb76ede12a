"""Compare runs with the first of them: every metric of every cell, verdicts corrected for all the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from attrs import evolve, frozen

from qx.comparison.causes import cause_of
from qx.comparison.pairs import NotComparable, Pair
from qx.comparison.records import FALSE_ALARMS, OUTPUTS, About, Change, Compared, Verdict, WhySame
from qx.comparison.sources import Source, machine, refusal, versions
from qx.contract.records import Metric
from qx.errors import UsageError
from qx.results.columns import Column
from qx.results.records import CellResult
from qx.statistics import intervals


@frozen(eq=False)
class Found:
    """A change before its verdict, which waits for the p values of all others."""

    change: Change
    difference: intervals.Difference | None = None
    floor: intervals.Difference | None = None
    metric: Metric | None = None


def compare(sources: Sequence[Source], *, other_calibration: bool = False) -> Compared:
    """What changed from the first run to each of the others. Raises ``UsageError`` for what is refused."""
    base, *others = sources
    for ours in others:
        if reason := refusal(base, ours, other_calibration=other_calibration):
            raise UsageError(f"not comparable: {reason}")
    found = [one for ours in others for one in _changes(base, ours)]
    tested = [index for index, one in enumerate(found) if _p(one) is not None]
    adjusted = dict(
        zip(tested, intervals.holm([p for one in found if (p := _p(one)) is not None]), strict=True)
    )
    metrics = {
        name: metric for source in reversed(sources) for name, metric in source.results.metrics.items()
    }
    judged = [_judged(one, adjusted.get(index)) for index, one in enumerate(found)]
    return Compared(
        runs=tuple(_about(source) for source in sources),
        workloads=dict(base.results.run["workloads"]),
        metrics=metrics,
        changes=tuple(
            evolve(change, cause=None if change.metric is None else cause_of(change.metric, metrics))
            for change in judged
        ),
        tests=len(tested),
        expected_false_alarms=FALSE_ALARMS * len(tested),
    )


def _p(found: Found) -> float | None:
    return None if found.difference is None else found.difference.p


def _about(source: Source) -> About:
    run, environment = source.results.run, source.results.environment
    loud = [floor for floor in source.results.noise_floor if floor.alarm]
    notes = []
    if loud:
        titles = ", ".join(Column.of(floor.metric, floor.params).title for floor in loud)
        notes.append(f"its control differs from its baseline by more than chance (99.9 %) in {titles}")
    if run.get("measuring", {}).get("quick"):
        notes.append("it was a quick look, whose intervals claim too much")
    if below := [one.cell for one in source.results.outputs if one.is_below_0_db]:
        notes.append(f"not the same network any more (outputs below 0 dB): {', '.join(below)}")
    if source.recording is None:
        notes.append("its raw samples are not there")
    return About(
        label=source.label,
        run=str(run.get("id", "unknown")),
        started=run.get("started"),
        python=str(environment.get("python", "unknown")),
        versions=versions(source),
        machine=machine(source),
        fingerprint=source.fingerprint,
        samples=source.recording is not None,
        notes=tuple(notes),
    )


# What there is to compare -------------------------------------------------------------------------


def _changes(base: Source, ours: Source) -> Iterator[Found]:
    """Every change of one run, in the order of the base; what is new comes last."""
    met = set()
    for name, cell in base.results.cells.items():
        if cell.control:
            continue
        other = ours.partner(base, name)
        if other is None:
            yield Found(_whole(ours, name, cell, "gone", "it is not in this run"))
            continue
        met.add(other)
        yield from _of_cell(Pair(base, ours, name, other))
    for name, cell in ours.results.cells.items():
        if not cell.control and name not in met:
            yield Found(_whole(ours, name, cell, "new", f"not in {base.label}; {ending(cell)}"))


def ending(cell: CellResult) -> str:
    """How a cell ended, in words."""
    if cell.outcome == "ok":
        return "ended well"
    place = f" in {cell.stage}" if cell.stage else ""
    return f"{cell.outcome.replace('_', ' ')}{place}: {cell.cause or 'no cause is known'}"


def _whole(ours: Source, name: str, cell: CellResult, verdict: Verdict, reason: str) -> Change:
    """A row about the cell as a whole."""
    return Change(
        run=ours.label,
        workload=cell.workload,
        cell=name,
        config=cell.config,
        options=dict(cell.options),
        threads=cell.threads,
        metric=None,
        verdict=verdict,
        reason=reason,
    )


def _of_cell(pair: Pair) -> Iterator[Found]:
    cells = pair.base.results.cells[pair.base_cell], pair.ours.results.cells[pair.our_cell]
    before, after = (cell.outcome == "ok" for cell in cells)
    if not (before and after):
        verdict: Verdict = "gone" if before else "new" if after else "not comparable"
        reason = ending(cells[1])
        if not (before or after) and ending(cells[0]) == reason:
            reason = f"in both runs {reason}"
        elif not before:
            reason = f"{reason}; in {pair.base.label} {ending(cells[0])}"
        yield Found(_whole(pair.ours, pair.base_cell, cells[0], verdict, reason))
        return
    blank = _whole(pair.ours, pair.base_cell, cells[0], "not comparable", "")
    columns = [
        column
        for source, name in ((pair.base, pair.base_cell), (pair.ours, pair.our_cell))
        for cell, column in source.measurements
        if cell == name
    ]
    if (outputs := _outputs(pair, blank)) is not None:
        yield Found(outputs)
    for column in dict.fromkeys(columns):
        yield from _of_metric(pair, column, blank)


def _of_metric(pair: Pair, column: Column, blank: Change) -> Iterator[Found]:
    before = pair.base.measurements.get((pair.base_cell, column))
    after = pair.ours.measurements.get((pair.our_cell, column))
    having = (pair.ours if after is not None else pair.base).metric(column)
    row = evolve(
        blank,
        metric=column.metric,
        params=dict(column.params),
        unit=having.unit,
        better=having.better,
        reason=None,
    )
    figures = tuple(one is not None and one.value is not None for one in (before, after))
    if not any(figures):
        return
    if figures != (True, True):
        verdict: Verdict = "gone" if figures[0] else "new"
        (missing, run) = (after, pair.ours) if figures[0] else (before, pair.base)
        told = f"not measured in {run.label}" if missing is None else f"{run.label}: {missing.cause}"
        yield Found(evolve(row, verdict=verdict, reason=told))
        return
    bases = list(pair.bases(column))
    for basis in bases:
        base, ours = pair.sides(column, basis)
        shown = evolve(row, basis=basis, base=base, ours=ours)
        try:
            difference = pair.compared(column, basis)
        except NotComparable as reason:
            yield Found(evolve(shown, reason=str(reason)))
            continue
        yield Found(shown, difference, pair.floor(column, basis), having)


def _outputs(pair: Pair, blank: Change) -> Change | None:
    """The outputs of the evaluation, item by item; None where either run kept none."""
    kept = [
        None if source.recording is None else source.recording.outputs.get(cell)
        for source, cell in ((pair.base, pair.base_cell), (pair.ours, pair.our_cell))
    ]
    before, after = kept
    if before is None or after is None:
        return None
    row = evolve(blank, metric=OUTPUTS, basis="outputs", unit="fraction", kind="agreeing")
    if before.shape != after.shape:
        return evolve(row, reason=f"their shapes are {before.shape} and {after.shape}")
    if np.array_equal(before, after):
        return evolve(row, verdict="same", reason="equal bit for bit", value=1.0, ci=(1.0, 1.0))
    largest = f"the largest difference of an output is {float(np.abs(after - before).max()):.3g}"
    if before.ndim < 2 or before.shape[-1] < 2:
        return evolve(row, verdict="changed", reason=largest, kind=None)
    alike = (before.argmax(-1) == after.argmax(-1)).ravel()
    other = int(np.count_nonzero(~alike))
    return evolve(
        row,
        verdict="changed" if other else "same",
        reason=f"{other:,} of {len(alike):,} answers differ; {largest}",
        value=float(alike.mean()),
        ci=intervals.wilson(len(alike) - other, len(alike)).ci,
        method="Wilson over items",
    )


# Verdicts -----------------------------------------------------------------------------------------


def _judged(found: Found, adjusted: float | None) -> Change:
    difference, metric = found.difference, found.metric
    if difference is None or metric is None:
        return found.change
    change = evolve(
        found.change,
        kind=difference.kind,
        value=difference.value,
        ci=difference.ci,
        p=difference.p,
        p_adjusted=adjusted,
        method=difference.method,
        beyond_margin=_size(difference.value, difference.kind) > _margin(metric, difference.kind),
        within_margin=_within(difference, metric),
    )
    if difference.ci is None:
        return evolve(change, reason=difference.reason or "too few launches for an interval")
    why_same = _why_same(difference, adjusted, found.floor, metric)
    if why_same is not None or difference.value == _neutral(difference):
        return evolve(change, verdict="same", why_same=why_same)
    return evolve(change, verdict=_direction(difference, metric))


def _why_same(
    difference: intervals.Difference,
    adjusted: float | None,
    floor: intervals.Difference | None,
    metric: Metric,
) -> WhySame | None:
    """Why a difference is no change; None where it is one, and where there is no difference at all."""
    assert difference.ci is not None
    if difference.ci[0] == difference.ci[1] == _neutral(difference):
        return None
    if difference.ci[0] <= _neutral(difference) <= difference.ci[1]:
        return "interval"
    if adjusted is not None and adjusted > FALSE_ALARMS:
        return "correction"
    if floor is not None and not _larger(difference, floor):
        return "noise floor"
    beyond = _size(difference.value, difference.kind) > _margin(metric, difference.kind)
    return None if beyond else "margin"


def _direction(difference: intervals.Difference, metric: Metric) -> Verdict:
    if metric.better == "neither":
        return "changed"
    more = difference.value > _neutral(difference)
    if difference.kind == "speedup":
        more = not more
    return "better" if more == (metric.better == "higher") else "worse"


def _neutral(difference: intervals.Difference) -> float:
    """The value of no difference."""
    return 0.0 if difference.kind == "difference" else 1.0


def _larger(difference: intervals.Difference, floor: intervals.Difference) -> bool:
    return _size(difference.value, difference.kind) > _size(floor.value, floor.kind)


def _size(value: float, kind: str) -> float:
    """How far a change is from none."""
    return abs(value) if kind == "difference" else float(abs(np.log(value)))


def _margin(metric: Metric, kind: str) -> float:
    return metric.margin if kind == "difference" else float(np.log1p(metric.margin))


def _within(difference: intervals.Difference, metric: Metric) -> bool | None:
    if difference.ci is None or not metric.margin:
        return None
    margin = _margin(metric, difference.kind)
    return all(_size(end, difference.kind) <= margin for end in difference.ci)
