"""Several workloads in one run: the results of each, and a summary of configs over all workloads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve

from qx.results.records import CellResult, Measurement, Results, SummaryFigure, SummaryResult


def part(results: Results, workload: str) -> Results:
    """Return the results of one workload, as if it had been run alone."""
    if len(results.run.workloads) == 1:
        return results
    record = results.run.workloads[workload]
    cells = {name: cell for name, cell in results.cells.items() if cell.workload == workload}
    return evolve(
        results,
        run=evolve(
            results.run,
            baseline=results.run.baseline_of(workload),
            workloads={workload: record},
            measuring=record.measuring,
        ),
        cells=cells,
        measurements=tuple(
            measurement for measurement in results.measurements if measurement.workload == workload
        ),
        axes=tuple(evolve(axis, workload=None) for axis in results.axes if axis.workload == workload),
        front={name: front for name, front in results.front.items() if name in cells},
        picks=tuple(pick for pick in results.picks if pick.cell in cells),
        noise_floor=tuple(floor for floor in results.noise_floor if floor.workload == workload),
        pairs=tuple(pair for pair in results.pairs if pair.cell in cells),
        summary=(),
        thread_speedups=(),
        undecided=tuple(
            undecided for undecided in results.undecided if cells.keys() >= {*undecided.contenders}
        ),
        outputs=tuple(outputs for outputs in results.outputs if outputs.cell in cells),
        limits=tuple(evolve(limit, workload=None) for limit in results.limits if limit.workload == workload),
    )


def joined(whole: Results, parts: Mapping[str, Results]) -> Results:
    """Return the results of all workloads, from those of each: the opposite of ``part``."""

    def concatenate(name: str) -> tuple[Any, ...]:
        return tuple(record for results in parts.values() for record in getattr(results, name))

    combined = evolve(
        whole,
        measurements=concatenate("measurements"),
        axes=tuple(evolve(axis, workload=name) for name, results in parts.items() for axis in results.axes),
        front={cell: front for results in parts.values() for cell, front in results.front.items()},
        picks=concatenate("picks"),
        noise_floor=tuple(
            evolve(floor, workload=name) for name, results in parts.items() for floor in results.noise_floor
        ),
        pairs=concatenate("pairs"),
        undecided=concatenate("undecided"),
        outputs=concatenate("outputs"),
        limits=tuple(
            evolve(limit, workload=name) for name, results in parts.items() for limit in results.limits
        ),
    )
    workloads = {cell.workload_name for cell in whole.cells.values()}
    # Over numbers of threads of one workload there is nothing to sum up.
    return evolve(combined, summary=tuple(_summary(combined)) if len(workloads) > 1 else ())


def _summary(results: Results) -> Iterable[SummaryResult]:
    rows: dict[str, dict[str, CellResult]] = {}
    for name, cell in results.cells.items():
        if not cell.control:
            rows.setdefault(cell.row, {})[name] = cell
    axes = dict.fromkeys(axis.figure for axis in results.axes)
    for row, cells in rows.items():
        compared = [
            measurement
            for measurement in results.measurements
            if measurement.cell in cells and measurement.vs_baseline is not None
        ]
        figures = (
            _figure([measurement for measurement in compared if measurement.figure == figure])
            for figure in axes
        )
        yield SummaryResult(
            row=row,
            config=next(iter(cells.values())).config,
            succeeded=tuple(cell.workload for cell in cells.values() if cell.outcome == "ok"),
            on_front=tuple(
                cell.workload
                for name, cell in cells.items()
                if name in results.front and results.front[name].on_front
            ),
            figures=tuple(figure for figure in figures if figure is not None),
        )


def _figure(measurements: Sequence[Measurement]) -> SummaryFigure | None:
    """Return the mean over workloads: geometric of ratios and speedups, arithmetic of differences."""
    compared = [
        (measurement.vs_baseline, measurement.workload)
        for measurement in measurements
        if measurement.vs_baseline is not None
    ]
    if not compared:
        return None
    kind = compared[0][0].kind
    values = [comparison.value for comparison, _ in compared]
    if kind == "difference":
        mean = math.fsum(values) / len(values)
    else:
        mean = math.exp(math.fsum(map(math.log, values)) / len(values)) if min(values) > 0 else math.nan
    if not math.isfinite(mean):
        return None
    return SummaryFigure(
        metric=measurements[0].metric,
        point=measurements[0].point,
        kind=kind,
        value=mean,
        smallest=min(values),
        largest=max(values),
        workloads=tuple(workload for _, workload in compared),
    )
