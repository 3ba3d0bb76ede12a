"""Several workloads in one run: the results of each, and a summary of configs over all workloads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve

from qx.results.records import Measurement, Results, SummaryFigure, SummaryResult
from qx.values import Json, JsonMapping


def baseline_of(run: JsonMapping, workload: str) -> str:
    """Return the baseline's cell of a workload."""
    return str(run["workloads"][workload].get("baseline", run["baseline"]))


def part(results: Results, workload: str) -> Results:
    """Return the results of one workload, as if it had been run alone."""
    if len(results.run["workloads"]) == 1:
        return results
    metadata = results.run["workloads"][workload]
    cells = {name: cell for name, cell in results.cells.items() if cell.workload == workload}
    return evolve(
        results,
        run={
            **results.run,
            "baseline": baseline_of(results.run, workload),
            "workloads": {workload: metadata},
            "measuring": metadata.get("measuring", {}),
        },
        cells=cells,
        measurements=tuple(
            measurement for measurement in results.measurements if measurement.workload == workload
        ),
        axes=tuple(
            {name: value for name, value in axis.items() if name != "workload"}
            for axis in results.axes
            if axis.get("workload") == workload
        ),
        front={name: front for name, front in results.front.items() if name in cells},
        picks=tuple(pick for pick in results.picks if pick.cell in cells),
        noise_floor=tuple(floor for floor in results.noise_floor if floor.workload == workload),
        pairs=tuple(pair for pair in results.pairs if pair.cell in cells),
        summary=(),
        undecided=tuple(
            undecided for undecided in results.undecided if cells.keys() >= {*undecided.contenders}
        ),
        outputs=tuple(outputs for outputs in results.outputs if outputs.cell in cells),
    )


def joined(whole: Results, parts: Mapping[str, Results]) -> Results:
    """Return the results of all workloads, from those of each: the opposite of ``part``."""

    def concatenate(name: str) -> tuple[Any, ...]:
        return tuple(record for results in parts.values() for record in getattr(results, name))

    combined = evolve(
        whole,
        measurements=concatenate("measurements"),
        axes=tuple({"workload": name, **axis} for name, results in parts.items() for axis in results.axes),
        front={cell: front for results in parts.values() for cell, front in results.front.items()},
        picks=concatenate("picks"),
        noise_floor=tuple(
            evolve(floor, workload=name) for name, results in parts.items() for floor in results.noise_floor
        ),
        pairs=concatenate("pairs"),
        undecided=concatenate("undecided"),
        outputs=concatenate("outputs"),
    )
    return evolve(combined, summary=tuple(_summary(combined)))


def _summary(results: Results) -> Iterable[SummaryResult]:
    rows: dict[str, list[str]] = {}
    for cell, result in results.cells.items():
        if not result.control:
            rows.setdefault(cell.partition("/")[2], []).append(cell)
    columns = dict.fromkeys(
        (axis["metric"], *((axis["batch_size"],) if "batch_size" in axis else ())) for axis in results.axes
    )
    for row, cells in rows.items():
        compared = [
            measurement
            for measurement in results.measurements
            if measurement.cell in cells and measurement.vs_baseline is not None
        ]
        figures = (
            _figure([measurement for measurement in compared if _column(measurement) == column])
            for column in columns
        )
        yield SummaryResult(
            row=row,
            config=results.cells[cells[0]].config,
            well=tuple(results.cells[cell].workload for cell in cells if results.cells[cell].outcome == "ok"),
            on_front=tuple(
                results.cells[cell].workload
                for cell in cells
                if cell in results.front and results.front[cell].on_front
            ),
            figures=tuple(figure for figure in figures if figure is not None),
        )


def _column(measurement: Measurement) -> tuple[Json, ...]:
    params = measurement.params
    return measurement.metric, *((params["batch_size"],) if "batch_size" in params else ())


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
        params=measurements[0].params,
        kind=kind,
        value=mean,
        least=min(values),
        most=max(values),
        workloads=tuple(workload for _, workload in compared),
    )
