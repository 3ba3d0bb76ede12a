"""Compute results from raw samples: values, intervals, deltas, the noise floor, the front and the picks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from attrs import evolve

from qx.analysis import builds, on_items
from qx.analysis.axes import DRAWS, deciding, draw_values, front_axes, make_axis
from qx.analysis.constraints import judge
from qx.analysis.details import details, reported
from qx.analysis.picks import picks_by_aim
from qx.analysis.quantity import Quantity
from qx.analysis.threads import thread_speedups
from qx.contract.figures import CALL, Figure, Point
from qx.contract.records import Arrays, Metric, Outcome
from qx.contract.tasks import CLASSIFICATION
from qx.results.cells import most_similar
from qx.results.recording import Recording
from qx.results.records import (
    NOT_ANALYSED,
    NOT_APPLICABLE,
    AxisResult,
    BuildSpread,
    CellResult,
    Comparison,
    ConfigResult,
    FrontResult,
    Measurement,
    NoiseFloor,
    OutputsResult,
    PairResult,
    PickResult,
    Results,
    UndecidedResult,
)
from qx.results.run_record import Environment, Measuring, RunRecord
from qx.results.summary import joined, part
from qx.statistics import intervals, over_items, pareto
from qx.statistics.output_error import output_error

#: Method of the baseline's comparison with itself.
ITSELF = "itself"
#: Most cells of the front that every cell is compared with.
MOST_COMPARED = 16


def analyse(
    *,
    run: RunRecord,
    environment: Environment,
    metrics: Mapping[str, Metric],
    configs: Mapping[str, ConfigResult],
    cells: Mapping[str, CellResult],
    recording: Recording,
    failures: Mapping[tuple[str, str], tuple[Outcome, str]],
    errors: Sequence[OutputsResult] = (),
) -> Results:
    """Compute the results of a run from its samples, for each workload by itself and across workloads.

    ``failures`` maps ``(cell, metric)`` to outcome and cause, for metrics that could not be measured in a
    cell that ended well otherwise. ``errors`` are those of the outputs that are not kept whole.
    """
    whole = Results(
        run=run,
        environment=environment,
        metrics=metrics,
        configs=configs,
        cells=cells,
        measurements=(),
        axes=(),
        front={},
        picks=(),
        noise_floor=(),
    )
    parts = {
        name: _analyse_workload(part(whole, name), recording, failures, errors) for name in run.workloads
    }
    if len(parts) == 1:
        return next(iter(parts.values()))
    return evolve(joined(whole, parts), thread_speedups=tuple(thread_speedups(parts, recording)))


def without_figures(
    *,
    run: RunRecord,
    environment: Environment,
    metrics: Mapping[str, Metric],
    configs: Mapping[str, ConfigResult],
    cells: Mapping[str, CellResult],
    recording: Recording,
    failures: Mapping[tuple[str, str], tuple[Outcome, str]],
) -> Results:
    """Return the results of a run whose analysis has failed: all that cannot be had from the samples again.

    The arguments are those of ``analyse``, which ``recompute`` passes the same ones from these results.
    """
    measurements = []
    for cell, result in cells.items():
        for metric in metrics.values():
            for point in metric.points(run.points) or (None,):
                series = recording.get(cell, Figure(metric.name, point))
                outcome: Outcome = "failed"
                cause: str | None = NOT_ANALYSED
                if (cell, metric.name) in failures:
                    outcome, cause = failures[cell, metric.name]
                if result.outcome != "ok":
                    outcome, cause = result.outcome, result.cause
                elif cause == NOT_ANALYSED and series is None:
                    outcome, cause = "unsupported", NOT_APPLICABLE
                blank = _blank(metric, point, cell, result)
                details = {} if series is None else reported(series)
                measurements.append(evolve(blank, outcome=outcome, cause=cause, details=details))
    return Results(
        run=evolve(run, analysed=False),
        environment=environment,
        metrics=metrics,
        configs=configs,
        cells=cells,
        measurements=tuple(measurements),
        axes=(),
        front={},
        picks=(),
        noise_floor=(),
    )


def _analyse_workload(
    results: Results,
    recording: Recording,
    failures: Mapping[tuple[str, str], tuple[Outcome, str]],
    errors: Sequence[OutputsResult],
) -> Results:
    """Return the results of one workload with all figures computed."""
    run, metrics, configs, cells = results.run, results.metrics, results.configs, results.cells
    baseline, recording = run.baseline, recording.select(cells)
    # Another workload of the run may have further kinds of call.
    recorded = {figure.point for series in recording.series.values() for figure in series}
    points = [point for point in run.points if point.call == CALL or point in recorded]
    not_ok = {cell for cell, result in cells.items() if result.outcome != "ok"}
    sittings = run.sittings_of(next(iter(run.workloads)))
    quantities = [
        Quantity(
            metrics[name],
            point,
            recording,
            baseline,
            not_ok | {cell for cell, metric in failures if metric == name},
            sittings,
        )
        for name in metrics
        for point in (metrics[name].points(points) if metrics[name].per_point else (None,))
    ]
    control = next((cell for cell, result in cells.items() if result.control), None)
    ok_cells = [cell for cell, result in cells.items() if result.outcome == "ok" and not result.control]
    outputs = output_errors(ok_cells, baseline, recording) or tuple(
        error for error in errors if error.cell in ok_cells
    )
    below_0_db = {output.cell for output in outputs if output.is_below_0_db}
    floors = tuple(_noise_floors(quantities, control)) if control else ()
    candidates = [cell for cell in ok_cells if cell not in below_0_db]
    front, picks, axes = _front(quantities, candidates, run.seed, floors, run.measuring)
    if cells[baseline].outcome != "ok":
        # Without the baseline nothing shows whether the other cells do what the model does.
        picks = []
    runtime_baselines = {
        cell: most_similar(cells, result, configs[result.config].runtime_baseline)
        for cell, result in cells.items()
    }
    counterparts = {
        cell: most_similar(cells, result, configs[result.config].counterpart, same_options=True)
        for cell, result in cells.items()
    }
    on_front = most_likely(front)
    measurements = tuple(
        _measurement(
            quantity,
            cell,
            result,
            failures.get((cell, quantity.metric.name)),
            samples=run.samples,
            control=control,
            seed=run.seed,
            against=[
                *filter(None, [runtime_baselines[cell], counterparts[cell]]),
                *(other for other in on_front if other != cell),
            ],
        )
        for cell, result in cells.items()
        for quantity in quantities
        if not result.control or quantity.is_from_launches
    )
    analysed = evolve(
        results,
        measurements=measurements,
        axes=tuple(axes),
        front=front,
        picks=tuple(pick for pick in picks if isinstance(pick, PickResult)),
        undecided=tuple(pick for pick in picks if isinstance(pick, UndecidedResult)),
        outputs=outputs,
        noise_floor=floors,
        pairs=tuple(
            _pair(cell, other, recording, run.workloads[cells[cell].workload].task)
            for cell, other in counterparts.items()
            if other is not None and {cell, other} <= set(ok_cells)
        ),
    )
    return evolve(analysed, limits=judge(analysed, run.constraints))


def most_likely(front: Mapping[str, FrontResult]) -> list[str]:
    """Return the cells of the front that every cell is compared with, in their order.

    Of a large front, which noise or a sweep makes, these are the cells that are most likely on it: figures
    then grow with the number of cells, and not with its square.
    """
    on_front = [cell for cell, result in front.items() if result.on_front]
    likely = sorted(on_front, key=lambda cell: -(front[cell].probability or 0.0))[:MOST_COMPARED]
    return [cell for cell in on_front if cell in likely]


def _pair(cell: str, counterpart: str, recording: Recording, task: str | None) -> PairResult:
    """Return how often two cells put the same class highest; None where the outputs are no class scores."""
    blank = PairResult(cell=cell, counterpart=counterpart, agreement=None, ci=None, n=0)
    ours, theirs = (recording.answers(name) for name in (cell, counterpart))
    if task != CLASSIFICATION or ours is None or theirs is None:
        return blank
    (our_answers, our_classes), (their_answers, their_classes) = ours, theirs
    if (len(our_answers), our_classes) != (len(their_answers), their_classes):
        return blank
    level = on_items.level_of(0.95, *recording.series.get(cell, {}).values())
    share = over_items.item_mean((our_answers == their_answers).astype(float), level)
    return evolve(blank, agreement=share.value, ci=share.ci, n=share.n)


def output_errors(ok_cells: Sequence[str], baseline: str, recording: Recording) -> tuple[OutputsResult, ...]:
    """Return how far each output of each cell is from the baseline's, where both are kept."""
    theirs = recording.outputs.get(baseline)
    if theirs is None or baseline not in ok_cells:
        return ()
    return tuple(
        result
        for cell in ok_cells
        if cell != baseline and cell in recording.outputs
        for result in _output_errors(cell, recording.outputs[cell], theirs)
    )


def _output_errors(cell: str, ours: Arrays, theirs: Arrays) -> Iterator[OutputsResult]:
    """Yield the error of each of the baseline's outputs; one that the cell lacks is another network's."""
    for name, expected in theirs.items():
        if name not in ours:
            yield OutputsResult(cell=cell, output=name, sqnr_db=None, is_below_0_db=True)
            continue
        error = output_error(ours[name], expected)
        yield OutputsResult(cell=cell, output=name, sqnr_db=error.sqnr_db, is_below_0_db=error.is_below_0_db)


# Measurements -------------------------------------------------------------------------------------


def _measurement(
    quantity: Quantity,
    cell: str,
    result: CellResult,
    failure: tuple[Outcome, str] | None,
    *,
    samples: str,
    control: str | None,
    seed: int,
    against: Sequence[str],
) -> Measurement:
    metric = quantity.metric
    blank = _blank(metric, quantity.point, cell, result)
    if result.outcome != "ok":
        return evolve(blank, outcome=result.outcome, cause=result.cause)
    if failure is not None:
        return evolve(blank, outcome=failure[0], cause=failure[1])
    if cell not in quantity.measured:
        return evolve(blank, outcome="unsupported", cause=NOT_APPLICABLE)
    estimate = quantity.estimate(cell)
    floor = quantity.compare(control, quantity.baseline) if control and quantity.is_from_launches else None
    compared = {
        other: _comparison(difference, floor, None if other == quantity.baseline else other)
        for other in dict.fromkeys([quantity.baseline, *against])
        if other != cell and (difference := quantity.compare(cell, other)) is not None
    }
    return evolve(
        blank,
        value=estimate.value,
        ci=estimate.ci,
        n=estimate.n,
        without_interval=estimate.reason or None,
        samples_ref=f"{samples}#{cell}|{quantity.figure.key}|values",
        vs_baseline=compared.get(quantity.baseline) or _self_comparison(quantity, cell),
        comparisons=tuple(
            evolve(comparison, against=other) for other, comparison in compared.items() if other in against
        ),
        builds=_spread(quantity, cell, result, seed),
        details=details(quantity, cell),
    )


def _blank(metric: Metric, point: Point | None, cell: str, result: CellResult) -> Measurement:
    """Return a measurement without a value."""
    return Measurement(
        workload=result.workload,
        cell=cell,
        config=result.config,
        metric=metric.name,
        point=point,
        value=None,
        unit=metric.unit,
        better=metric.better,
        ci=None,
        n=0,
        outcome="ok",
    )


def _spread(quantity: Quantity, cell: str, result: CellResult, seed: int) -> BuildSpread | None:
    """Return how a figure differs between the builds of a cell; None where it was measured in one build."""
    if quantity.metric.phase not in builds.PHASES or not result.further_builds:
        return None
    by_seed = builds.series_of_builds(quantity.recording, cell, result, quantity.figure, seed)
    has_baseline = cell != quantity.baseline and quantity.baseline in quantity.measured
    baseline = quantity.series(quantity.baseline) if has_baseline else None
    return builds.spread(quantity.metric, by_seed, baseline)


def _comparison(
    difference: intervals.Difference, floor: intervals.Difference | None, against: str | None
) -> Comparison:
    if floor is not None:
        clear: bool | None = intervals.clear(difference, floor)
    else:
        clear = None if difference.includes_neutral is None else not difference.includes_neutral
    return Comparison(
        kind=difference.kind,
        value=difference.value,
        ci=difference.ci,
        p=difference.p,
        against=against,
        clear=clear,
        method=difference.method or (f"no interval: {difference.reason}" if difference.reason else ""),
    )


def _self_comparison(quantity: Quantity, cell: str) -> Comparison | None:
    """Return the comparison of the baseline with itself, so that every row has its delta; else None."""
    if cell != quantity.baseline:
        return None
    neutral = intervals.neutral(quantity.metric.compare)
    return Comparison(
        kind=quantity.metric.compare,
        value=neutral,
        ci=(neutral, neutral),
        p=None,
        clear=False,
        method=ITSELF,
    )


def _noise_floors(quantities: Sequence[Quantity], control: str) -> list[NoiseFloor]:
    floors = []
    for quantity in quantities:
        if not quantity.is_from_launches:
            continue
        difference = quantity.compare(control, quantity.baseline)
        if difference is None:
            continue
        floors.append(
            NoiseFloor(
                metric=quantity.metric.name,
                point=quantity.point,
                kind=difference.kind,
                value=difference.value,
                ci=difference.ci,
                alarm=intervals.control_alarm(difference),
            )
        )
    return floors


# Front and picks ----------------------------------------------------------------------------------


def _front(
    quantities: Sequence[Quantity],
    candidates: Sequence[str],
    seed: int,
    floors: Sequence[NoiseFloor],
    measuring: Measuring | None,
) -> tuple[dict[str, FrontResult], list[PickResult | UndecidedResult], list[AxisResult]]:
    """Return the front over the metrics that are axes, at their first batch size, the picks and the axes."""
    cells_by_quantity = deciding(quantities, candidates)
    on_axes, _ = front_axes(cells_by_quantity)
    cells = [cell for cell in candidates if all(cell in cells_by_quantity[quantity] for quantity in on_axes)]
    names = [AxisResult(metric=quantity.metric.name, point=quantity.point) for quantity in on_axes]
    if not cells or not on_axes:
        return {}, [], names
    axes = {quantity: make_axis(quantity, cells) for quantity in on_axes}
    front = pareto.front(list(axes.values()))
    generator = np.random.default_rng(seed)
    launched = [quantity for quantity in cells_by_quantity if quantity.is_from_launches]
    count = max((quantity.by_wave.count for quantity in launched), default=1)
    waves = generator.integers(0, count, size=(DRAWS, count))
    probability = pareto.membership(
        [draw_values(quantity, cells, waves, generator) for quantity in on_axes],
        [axis.margin for axis in axes.values()],
    )
    results = {
        cell: FrontResult(
            on_front=bool(front.on_front[index]),
            dominated_by=tuple(cells[other] for other in front.dominated_by(index)),
            tied_with=tuple(cells[other] for other in front.tied_with(index)),
            probability=float(probability[index]),
        )
        for index, cell in enumerate(cells)
    }
    on_front = {cell for cell in cells if results[cell].on_front}
    picks = picks_by_aim(cells_by_quantity, axes, cells, on_front, floors, measuring)
    return results, picks, names
