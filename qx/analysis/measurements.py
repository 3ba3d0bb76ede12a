"""From raw samples to results: values, intervals, deltas, the noise floor, the front and the picks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from attrs import evolve

from qx.analysis.picks import picks_by_aim
from qx.analysis.quantity import DRAWS, Quantity
from qx.contract.records import Metric, Outcome
from qx.contract.tasks import CLASSIFICATION
from qx.results.recording import Recording
from qx.results.records import (
    NOT_APPLICABLE,
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
from qx.results.results_file import cell_of
from qx.results.summary import joined, part
from qx.statistics import intervals, pareto
from qx.statistics.output_error import output_error
from qx.values import JsonMapping, JsonObject

#: The method of the baseline's comparison with itself.
ITSELF = "itself"


def analyse(
    *,
    run: JsonMapping,
    environment: JsonMapping,
    metrics: Mapping[str, Metric],
    configs: Mapping[str, ConfigResult],
    cells: Mapping[str, CellResult],
    recording: Recording,
    failures: Mapping[tuple[str, str], tuple[Outcome, str]],
) -> Results:
    """Compute everything that is computed from samples: for each workload by itself, and across them.

    ``failures`` maps ``(cell, metric)`` to outcome and cause of what could not be measured in a cell that
    else ended well.
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
    parts = {name: _analysed(part(whole, name), recording, failures) for name in run["workloads"]}
    return joined(whole, parts) if len(parts) > 1 else next(iter(parts.values()))


def _analysed(
    plain: Results,
    recording: Recording,
    failures: Mapping[tuple[str, str], tuple[Outcome, str]],
) -> Results:
    """The results of one workload, with all that is computed."""
    run, metrics, configs, cells = plain.run, plain.metrics, plain.configs, plain.cells
    baseline, recording = run["baseline"], recording.of(cells)
    badly = {cell for cell, result in cells.items() if result.outcome != "ok"}
    quantities = [
        Quantity(
            metrics[name],
            size,
            recording,
            baseline,
            badly | {cell for cell, what in failures if what == name},
        )
        for name in metrics
        for size in (run["batch_sizes"] if metrics[name].per_batch_size else (None,))
    ]
    control = next((cell for cell, result in cells.items() if result.control), None)
    well = [cell for cell, result in cells.items() if result.outcome == "ok" and not result.control]
    outputs = _outputs(well, baseline, recording)
    below = {one.cell for one in outputs if one.is_below_0_db}
    floors = tuple(_noise_floors(quantities, control)) if control else ()
    judged = [cell for cell in well if cell not in below]
    front, picks, axes = _front(quantities, judged, run["seed"], floors, run.get("measuring", {}))
    if cells[baseline].outcome != "ok":
        # It is not known whether the others do what the model does.
        picks = []
    runtime = {
        cell: cell_of(cells, result, configs[result.config].runtime_baseline)
        for cell, result in cells.items()
    }
    counterpart = {
        cell: cell_of(cells, result, configs[result.config].counterpart, alike=True)
        for cell, result in cells.items()
    }
    on_front = [cell for cell, result in front.items() if result.on_front]
    measurements = tuple(
        _measurement(
            quantity,
            cell,
            result,
            failures.get((cell, quantity.metric.name)),
            samples=run["samples"],
            control=control,
            against=[
                *filter(None, [runtime[cell], counterpart[cell]]),
                *(other for other in on_front if other != cell),
            ],
        )
        for cell, result in cells.items()
        for quantity in quantities
        if not result.control or quantity.in_launches
    )
    return evolve(
        plain,
        measurements=measurements,
        axes=tuple(axes),
        front=front,
        picks=tuple(one for one in picks if isinstance(one, PickResult)),
        undecided=tuple(one for one in picks if isinstance(one, UndecidedResult)),
        outputs=outputs,
        noise_floor=floors,
        pairs=tuple(
            _pair(cell, other, recording, _task(run, cells[cell].workload))
            for cell, other in counterpart.items()
            if other is not None and {cell, other} <= set(well)
        ),
    )


def _task(run: JsonMapping, workload: str) -> str | None:
    """The task of a workload; of runs that did not record it, that which all workloads had then."""
    found: str | None = run["workloads"][workload].get("task", CLASSIFICATION)
    return found


def _pair(cell: str, counterpart: str, recording: Recording, task: str | None) -> PairResult:
    """How far two cells that should behave the same do; unknown where outputs are no scores to choose by."""
    ours, theirs = (recording.outputs.get(one) for one in (cell, counterpart))
    # Of one column everything is the highest.
    if (
        task != CLASSIFICATION
        or ours is None
        or theirs is None
        or ours.ndim != 2
        or ours.shape[1] < 2
        or ours.shape != theirs.shape
    ):
        return PairResult(cell=cell, counterpart=counterpart, agreement=None, ci=None, n=0)
    same = intervals.item_mean((ours.argmax(axis=1) == theirs.argmax(axis=1)).astype(float))
    return PairResult(cell=cell, counterpart=counterpart, agreement=same.value, ci=same.ci, n=same.n)


def _outputs(well: Sequence[str], baseline: str, recording: Recording) -> tuple[OutputsResult, ...]:
    """How far the outputs of the cells that ended well are from the baseline's, where both are kept."""
    theirs = recording.outputs.get(baseline)
    if theirs is None or baseline not in well:
        return ()
    errors = {
        cell: output_error(recording.outputs[cell], theirs)
        for cell in well
        if cell != baseline and cell in recording.outputs
    }
    return tuple(
        OutputsResult(cell=cell, sqnr_db=error.sqnr_db, is_below_0_db=error.is_below_0_db)
        for cell, error in errors.items()
    )


# Measurements -------------------------------------------------------------------------------------


def _measurement(
    quantity: Quantity,
    cell: str,
    result: CellResult,
    failure: tuple[Outcome, str] | None,
    *,
    samples: str,
    control: str | None,
    against: Sequence[str],
) -> Measurement:
    metric = quantity.metric
    blank = Measurement(
        workload=result.workload,
        cell=cell,
        config=result.config,
        metric=metric.name,
        params=quantity.params,
        value=None,
        unit=metric.unit,
        better=metric.better,
        ci=None,
        n=0,
        outcome="ok",
    )
    if result.outcome != "ok":
        return evolve(blank, outcome=result.outcome, cause=result.cause)
    if failure is not None:
        return evolve(blank, outcome=failure[0], cause=failure[1])
    if cell not in quantity.measured:
        return evolve(blank, outcome="unsupported", cause=NOT_APPLICABLE)
    estimate = quantity.estimate(cell)
    floor = quantity.compare(control, quantity.baseline) if control and quantity.in_launches else None
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
        samples_ref=f"{samples}#{cell}|{metric.name}|{quantity.batch_size or ''}|values",
        vs_baseline=compared.get(quantity.baseline) or _self_comparison(quantity, cell),
        comparisons=tuple(
            evolve(comparison, against=other) for other, comparison in compared.items() if other in against
        ),
        details=quantity.details(cell),
    )


def _comparison(
    difference: intervals.Difference, floor: intervals.Difference | None, against: str | None
) -> Comparison:
    neutral = 0.0 if difference.kind == "difference" else 1.0
    if floor is not None:
        clear: bool | None = intervals.clear(difference, floor)
    else:
        clear = None if difference.ci is None else not difference.ci[0] <= neutral <= difference.ci[1]
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
    """The baseline against itself, so that every row has its delta."""
    if cell != quantity.baseline:
        return None
    neutral = 0.0 if quantity.metric.compare == "difference" else 1.0
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
        if not quantity.in_launches:
            continue
        difference = quantity.compare(control, quantity.baseline)
        if difference is None:
            continue
        floors.append(
            NoiseFloor(
                metric=quantity.metric.name,
                params=quantity.params,
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
    judged: Sequence[str],
    seed: int,
    floors: Sequence[NoiseFloor],
    measuring: JsonMapping,
) -> tuple[dict[str, FrontResult], list[PickResult | UndecidedResult], list[JsonObject]]:
    """The front over the metrics that are axes, each at its first batch size; and the picks."""
    figures = [{cell for cell in judged if quantity.comparable(cell)} for quantity in quantities]
    first = {quantity.metric.name: quantity for quantity in reversed(quantities)}
    candidates = {
        quantity: having
        for quantity, having in zip(quantities, figures, strict=True)
        if first[quantity.metric.name] is quantity
        and quantity.metric.better != "neither"
        and (quantity.metric.axis or quantity.metric.pick)
        # A metric that no cell has figures of (a workload without labels) would empty the front.
        and having
    }
    on = [quantity for quantity in candidates if quantity.metric.axis]
    cells = [cell for cell in judged if all(cell in candidates[quantity] for quantity in on)]
    told = [{"metric": quantity.metric.name, **quantity.params} for quantity in on]
    if not cells or not on:
        return {}, [], told
    axes = {quantity: quantity.axis(cells) for quantity in on}
    front = pareto.front(list(axes.values()))
    generator = np.random.default_rng(seed)
    count = max((int(quantity.waves) for quantity in candidates if quantity.in_launches), default=1)
    waves = generator.integers(0, count, size=(DRAWS, count))
    probability = pareto.membership(
        [quantity.draws(cells, waves, generator) for quantity in on], [axis.margin for axis in axes.values()]
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
    return results, picks_by_aim(candidates, axes, cells, on_front, floors, measuring), told
