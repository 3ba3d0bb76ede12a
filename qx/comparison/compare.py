"""Compare runs with the first of them, every metric of every cell, with verdicts corrected together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from qx.comparison.causes import cause_of
from qx.comparison.pairs import NotComparable, Pair
from qx.comparison.records import (
    FALSE_ALARMS,
    OUTPUTS,
    OWN_OUTPUTS,
    Change,
    ComparedRun,
    RunComparison,
    Verdict,
    WhySame,
)
from qx.comparison.sources import (
    Source,
    differing_weights,
    how_made,
    machine,
    note_on_weights,
    notes_on_items,
    refusal,
    versions,
)
from qx.contract.figures import Figure
from qx.contract.records import Metric
from qx.errors import UsageError
from qx.results.recording import Recording
from qx.results.records import CellResult
from qx.statistics import intervals, over_items


@frozen(eq=False)
class UnjudgedChange:
    """A change without a verdict, which depends on the p values of all changes."""

    change: Change
    difference: intervals.Difference | None = None
    #: Difference that the noise of the two runs shows in the same terms.
    floor: intervals.Difference | None = None
    metric: Metric | None = None
    #: The same difference, with an interval that other builds of both runs would not leave.
    over_builds: intervals.Difference | None = None


def compare(
    sources: Sequence[Source], *, other_calibration: bool = False, other_weights: bool = False
) -> RunComparison:
    """Return what changed from the first run to each of the others.

    Raises ``UsageError`` for runs that cannot be compared. Runs of other weights, or with other calibration
    data, can be where that is allowed.
    """
    base, *others = sources
    for ours in others:
        if reason := refusal(base, ours, other_calibration=other_calibration, other_weights=other_weights):
            raise UsageError(f"not comparable: {reason}")
    changes = [change for ours in others for change in _changes(base, ours)]
    p_values = {index: p for index, change in enumerate(changes) if (p := _p(change)) is not None}
    adjusted = dict(zip(p_values, intervals.holm([*p_values.values()]), strict=True))
    metrics = {
        name: metric for source in reversed(sources) for name, metric in source.results.metrics.items()
    }
    with_other_weights = {(ours.label, name) for ours in others for name in differing_weights(base, ours)}
    judged = [_judge(change, adjusted.get(index)) for index, change in enumerate(changes)]
    return RunComparison(
        runs=_compared_runs(sources),
        workloads=dict(base.results.run.workloads),
        metrics=metrics,
        changes=tuple(evolve(change, cause=_cause(change, metrics, with_other_weights)) for change in judged),
        tests=len(p_values),
        expected_false_alarms=FALSE_ALARMS * len(p_values),
    )


def _cause(
    change: Change, metrics: Mapping[str, Metric], with_other_weights: Set[tuple[str, str]]
) -> str | None:
    """Return the name that a change is counted under.

    Where a run, named first, has other weights for a workload, what its cells have against their own baseline
    is no effect of the other outputs.
    """
    if change.metric is None:
        return None
    cause = cause_of(change.metric, metrics)
    metric = metrics.get(change.metric)
    is_relative = metric is not None and metric.phase == "derived" and cause == OUTPUTS
    is_other = (change.run, change.workload) in with_other_weights
    return OWN_OUTPUTS if is_relative and is_other else cause


def _p(change: UnjudgedChange) -> float | None:
    return None if change.difference is None else change.difference.p


def _compared_runs(sources: Sequence[Source]) -> tuple[ComparedRun, ...]:
    """Describe the runs, each with its commit among its notes where they were made of different ones."""
    runs = tuple(_compared_run(source, sources[0]) for source in sources)
    if len({run.commit for run in runs}) == 1:
        return runs
    return tuple(evolve(run, notes=(f"commit {run.commit or 'not recorded'}", *run.notes)) for run in runs)


def _compared_run(source: Source, base: Source) -> ComparedRun:
    run, environment = source.results.run, source.results.environment
    alarms = [floor for floor in source.results.noise_floor if floor.alarm]
    note = None if source is base else note_on_weights(base, source)
    notes = [*notes_on_items(source), *([] if note is None else [note])]
    if alarms:
        titles = ", ".join(str(floor.figure) for floor in alarms)
        notes.append(f"its control differs from its baseline by more than chance (99.9 %) in {titles}")
    if run.is_quick:
        notes.append("it was a quick look, whose intervals are too narrow")
    if run.measuring is not None and run.measuring.cut_short:
        notes.append("it ended before enough waves, so its intervals are too narrow")
    notes += how_made(source)
    if below := [outputs.cell for outputs in source.results.outputs if outputs.is_below_0_db]:
        notes.append(f"not the same network any more (outputs below 0 dB): {', '.join(below)}")
    if source.recording is None:
        notes.append("its raw samples are missing")
    return ComparedRun(
        label=source.label,
        run=run.id,
        started=run.started,
        python=environment.python,
        versions=versions(source),
        machine=machine(source),
        fingerprint=source.fingerprint,
        commit=environment.commit,
        samples=source.recording is not None,
        notes=tuple(notes),
        other_weights=() if source is base else differing_weights(base, source),
    )


# Differences before verdicts -----------------------------------------------------------------------


def _changes(base: Source, ours: Source) -> Iterator[UnjudgedChange]:
    """Yield every change of one run in the order of the base's cells, then its new cells."""
    matched = set()
    for name, cell in base.results.cells.items():
        if cell.control:
            continue
        other = ours.partner(base, name)
        if other is None:
            yield UnjudgedChange(_change_of_cell(ours, name, cell, "gone", "it is not in this run"))
            continue
        matched.add(other)
        yield from _changes_of_cell(Pair(base, ours, name, other))
    for name, cell in ours.results.cells.items():
        if not cell.control and name not in matched:
            reason = f"not in {base.label}; {ending(cell)}"
            yield UnjudgedChange(_change_of_cell(ours, name, cell, "new", reason))


def ending(cell: CellResult) -> str:
    """Say how a cell ended."""
    if cell.outcome == "ok":
        return "ended well"
    place = f" in {cell.stage}" if cell.stage else ""
    return f"{cell.outcome.replace('_', ' ')}{place}: {cell.cause or 'no cause is known'}"


def _change_of_cell(ours: Source, name: str, cell: CellResult, verdict: Verdict, reason: str) -> Change:
    """Return a change of the cell as a whole."""
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


def _changes_of_cell(pair: Pair) -> Iterator[UnjudgedChange]:
    cells = pair.base.results.cells[pair.base_cell], pair.ours.results.cells[pair.our_cell]
    before, after = (cell.outcome == "ok" for cell in cells)
    if not (before and after):
        verdict: Verdict = "gone" if before else "new" if after else "not comparable"
        reason = ending(cells[1])
        if not (before or after) and ending(cells[0]) == reason:
            reason = f"in both runs {reason}"
        elif not before:
            reason = f"{reason}; in {pair.base.label} {ending(cells[0])}"
        yield UnjudgedChange(_change_of_cell(pair.ours, pair.base_cell, cells[0], verdict, reason))
        return
    blank = _change_of_cell(pair.ours, pair.base_cell, cells[0], "not comparable", "")
    figures = [
        figure
        for source, name in ((pair.base, pair.base_cell), (pair.ours, pair.our_cell))
        for cell, figure in source.measurements
        if cell == name
    ]
    if (outputs := _change_of_outputs(pair, blank)) is not None:
        yield UnjudgedChange(outputs)
    for figure in dict.fromkeys(figures):
        yield from _changes_of_metric(pair, figure, blank)


def _changes_of_metric(pair: Pair, figure: Figure, blank: Change) -> Iterator[UnjudgedChange]:
    before = pair.base.measurements.get((pair.base_cell, figure))
    after = pair.ours.measurements.get((pair.our_cell, figure))
    metric = (pair.ours if after is not None else pair.base).metric(figure)
    row = evolve(
        blank,
        metric=figure.metric,
        point=figure.point,
        unit=metric.unit,
        better=metric.better,
        reason=None,
    )
    has_value = tuple(measured is not None and measured.value is not None for measured in (before, after))
    if not any(has_value):
        return
    if not all(has_value):
        verdict: Verdict = "gone" if has_value[0] else "new"
        (missing, run) = (after, pair.ours) if has_value[0] else (before, pair.base)
        reason = f"not measured in {run.label}" if missing is None else f"{run.label}: {missing.cause}"
        yield UnjudgedChange(evolve(row, verdict=verdict, reason=reason))
        return
    for basis in list(pair.bases(figure)):
        base, ours = pair.sides(figure, basis)
        change = evolve(row, basis=basis, base=base, ours=ours)
        try:
            difference = pair.compared(figure, basis)
        except NotComparable as error:
            yield UnjudgedChange(evolve(change, reason=str(error)))
            continue
        floor, widened = pair.floor(figure, basis), pair.widened(figure, difference)
        yield UnjudgedChange(change, difference, floor, metric, widened)


def _change_of_outputs(pair: Pair, blank: Change) -> Change | None:
    """Compare the outputs of the evaluation item by item. None where either run kept nothing of them.

    Of outputs that are too large to be kept whole, their digests and the answers of classifiers are compared.
    """
    sides = ((pair.base, pair.base_cell), (pair.ours, pair.our_cell))
    before, after = (_shapes(source, cell) for source, cell in sides)
    if before is None or after is None:
        return None
    row = evolve(blank, metric=OUTPUTS, basis="outputs", unit="fraction", kind="agreeing")
    if before.keys() != after.keys():
        names = " and ".join(", ".join(shapes) for shapes in (before, after))
        return evolve(row, reason=f"their outputs are called {names}")
    if differing_name := next((name for name in before if before[name] != after[name]), None):
        shapes = f"{before[differing_name]} and {after[differing_name]}"
        return evolve(row, reason=f"their shapes are {shapes}")
    if pair.have_equal_outputs():
        return evolve(row, verdict="same", reason="equal bit for bit", value=1.0, ci=(1.0, 1.0))
    agrees, distance = _agreement(*((source.recording, cell) for source, cell in sides))
    if agrees is None:
        return evolve(row, verdict="changed", reason=distance, kind=None)
    differing = int(np.count_nonzero(~agrees))
    return evolve(
        row,
        verdict="changed" if differing else "same",
        reason=f"{differing:,} of {len(agrees):,} answers differ; {distance}",
        value=float(agrees.mean()),
        ci=over_items.wilson(len(agrees) - differing, len(agrees)).ci,
        method="Wilson over items",
    )


def _agreement(
    base: tuple[Recording | None, str], ours: tuple[Recording | None, str]
) -> tuple[NDArray[np.bool_] | None, str]:
    """Return for each item whether the answers are the same, and how far the outputs are apart, in words.

    None in the place of the first where outputs have no answers, which are the positions of highest values.
    """
    (before, base_cell), (after, our_cell) = base, ours
    assert before is not None
    assert after is not None
    theirs, own = before.outputs.get(base_cell), after.outputs.get(our_cell)
    if theirs is None or own is None:
        distance = "how far they are apart is not known, since they were too large to be kept"
        return _equal_answers(before.answers(base_cell), after.answers(our_cell)), distance
    difference = max(float(np.abs(own[name] - theirs[name]).max()) for name in theirs)
    distance = f"the largest difference of an output is {difference:.3g}"
    if base_cell in before.answer_traces or our_cell in after.answer_traces:
        return _equal_answers(before.answers(base_cell), after.answers(our_cell)), distance
    # The answers are those of the first output, which of a classifier are its scores.
    first, second = next(iter(theirs.values())), next(iter(own.values()))
    if first.ndim < 2 or first.shape[-1] < 2:
        return None, distance
    return (first.argmax(-1) == second.argmax(-1)).ravel(), distance


def _equal_answers(
    theirs: tuple[NDArray[np.integer], int] | None, ours: tuple[NDArray[np.integer], int] | None
) -> NDArray[np.bool_] | None:
    """Return for each item whether two cells put the same class highest; None where that is not known."""
    return None if theirs is None or ours is None else theirs[0] == ours[0]


def _shapes(source: Source, cell: str) -> dict[str, tuple[int, ...]] | None:
    """Return the shapes of a cell's outputs by name; None where nothing was kept of them."""
    if source.recording is None:
        return None
    if (outputs := source.recording.outputs.get(cell)) is not None:
        return {name: array.shape for name, array in outputs.items()}
    traces = source.recording.traces.get(cell)
    return None if traces is None else {name: trace.shape for name, trace in traces.items()}


# Verdicts -----------------------------------------------------------------------------------------


def _judge(unjudged: UnjudgedChange, adjusted: float | None) -> Change:
    """Return the change with its verdict. ``adjusted`` is its p value, corrected for all tests."""
    difference, metric = unjudged.difference, unjudged.metric
    if difference is None or metric is None:
        return unjudged.change
    change = evolve(
        unjudged.change,
        kind=difference.kind,
        value=difference.value,
        ci=difference.ci,
        p=difference.p,
        p_adjusted=adjusted,
        method=difference.method,
        beyond_margin=difference.size > intervals.log_margin(metric.margin, difference.kind),
        within_margin=_is_within_margin(difference, metric),
    )
    if difference.ci is None:
        return evolve(change, reason=difference.reason or "too few launches for an interval")
    why_same = _why_same(difference, adjusted, unjudged, metric)
    if unjudged.over_builds is not None:
        change = evolve(change, ci_over_builds=unjudged.over_builds.ci)
    if why_same is not None or difference.value == difference.neutral:
        return evolve(change, verdict="same", why_same=why_same)
    return evolve(change, verdict=_direction(difference, metric))


def _why_same(
    difference: intervals.Difference,
    adjusted: float | None,
    unjudged: UnjudgedChange,
    metric: Metric,
) -> WhySame | None:
    """Return why a difference is no change. None where it is a change, or no difference at all."""
    assert difference.ci is not None
    floor, widened = unjudged.floor, unjudged.over_builds
    if difference.ci[0] == difference.ci[1] == difference.neutral:
        return None
    if difference.includes_neutral:
        return "interval"
    if adjusted is not None and adjusted > FALSE_ALARMS:
        return "correction"
    if widened is not None and widened.includes_neutral:
        return "builds"
    if floor is not None and difference.size <= floor.size:
        return "noise floor"
    return None if difference.size > intervals.log_margin(metric.margin, difference.kind) else "margin"


def _direction(difference: intervals.Difference, metric: Metric) -> Verdict:
    if metric.better == "neither":
        return "changed"
    is_higher = difference.value > difference.neutral
    if difference.kind == "speedup":
        is_higher = not is_higher
    return "better" if is_higher == (metric.better == "higher") else "worse"


def _is_within_margin(difference: intervals.Difference, metric: Metric) -> bool | None:
    """Whether the whole interval is within the metric's margin. None without an interval or a margin."""
    if difference.ci is None or not metric.margin:
        return None
    margin = intervals.log_margin(metric.margin, difference.kind)
    return all(intervals.size(end, difference.kind) <= margin for end in difference.ci)
