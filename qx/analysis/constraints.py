"""Hold the cells of a run against the constraints that the user set."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from qx.errors import UsageError
from qx.results.constraints import Bound, Constraint, Verdict, bound_of, metric_of
from qx.results.records import Comparison, LimitResult, Measurement, Results
from qx.results.summary import part
from qx.statistics.intervals import Difference


def judge(results: Results, constraints: Sequence[Constraint]) -> tuple[LimitResult, ...]:
    """Return each constraint with the verdict on each cell of one workload that has a figure of it.

    The axes of the results say which metric judges the answers.
    """
    return tuple(_judge(results, constraint) for constraint in constraints)


def with_constraints(results: Results, constraints: Sequence[Constraint]) -> Results:
    """Return results held against other constraints, for each workload by itself."""
    whole = evolve(results, run=evolve(results.run, constraints=tuple(constraints)), limits=())
    names = list(whole.run.workloads)
    limits = {name: judge(part(whole, name), constraints) for name in names}
    if len(names) == 1:
        return evolve(whole, limits=limits[names[0]])
    return evolve(
        whole, limits=tuple(evolve(limit, workload=name) for name in names for limit in limits[name])
    )


def check_judged(results: Results) -> None:
    """Raise ``UsageError`` where no row at all could be judged by one of the constraints."""
    for limit in results.limits:
        if not any(other.verdicts for other in results.limits if other.constraint == limit.constraint):
            raise UsageError(limit.reason)


def ratio_to_baseline(
    compared: Comparison | Difference | None,
) -> tuple[float, tuple[float, float] | None] | None:
    """Return the ratio of a cell to the baseline (ours / theirs), and its interval."""
    if compared is None or compared.kind == "difference" or min([compared.value, *(compared.ci or ())]) <= 0:
        return None
    if compared.kind == "ratio":
        return compared.value, compared.ci
    return 1 / compared.value, None if compared.ci is None else (1 / compared.ci[1], 1 / compared.ci[0])


def _judge(results: Results, constraint: Constraint) -> LimitResult:
    blank = LimitResult(constraint=constraint)
    is_drop = constraint.aim == "drop"
    axes = [results.metrics[axis.metric] for axis in results.axes]
    metric = metric_of(constraint, axes if is_drop else results.metrics.values())
    unjudged = f"{constraint.words}: no row can be judged by it, since"
    if metric is None:
        what = "no axis of the front judges answers" if is_drop else "nothing that was measured says it"
        return evolve(blank, reason=f"{unjudged} {what}")
    blank = evolve(blank, metric=metric.name)
    try:
        bound = bound_of(constraint, metric)
    except UsageError as error:
        return evolve(blank, reason=str(error))
    measured = [entry for entry in results.measurements if entry.metric == metric.name]
    if not measured:
        return evolve(blank, reason=f"{unjudged} {metric.name} is not measured")
    # As on the front, the first point counts.
    figure = measured[0].figure
    verdicts = {
        entry.cell: verdict
        for entry in measured
        if entry.figure == figure and not results.cells[entry.cell].control
        if (verdict := _verdict(bound, entry)) is not None
    }
    reason = "" if verdicts else f"{unjudged} no config can be compared in {metric.name}"
    return evolve(blank, point=figure.point, verdicts=verdicts, reason=reason)


def _verdict(bound: Bound, measured: Measurement) -> Verdict | None:
    """Return the verdict on one figure; None where the cell has none."""
    if measured.value is None:
        return None
    if bound.kind == "value":
        return bound.verdict(measured.value, measured.ci)
    compared = measured.vs_baseline
    figure = ratio_to_baseline(compared) if bound.kind == "ratio" else _difference(compared)
    return None if figure is None else bound.verdict(*figure)


def _difference(compared: Comparison | None) -> tuple[float, tuple[float, float] | None] | None:
    return None if compared is None else (compared.value, compared.ci)
