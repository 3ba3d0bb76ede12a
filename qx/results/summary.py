"""Several workloads in one run: what belongs to one of them, and how configs do across all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve

from qx.results.records import Measurement, Results, SummaryFigure, SummaryResult
from qx.values import Json, JsonMapping


def baseline_of(run: JsonMapping, workload: str) -> str:
    """The baseline's cell of a workload."""
    return str(run["workloads"][workload].get("baseline", run["baseline"]))


def part(results: Results, workload: str) -> Results:
    """The results of one workload, as if it had been run alone."""
    if len(results.run["workloads"]) == 1:
        return results
    told = results.run["workloads"][workload]
    cells = {name: cell for name, cell in results.cells.items() if cell.workload == workload}
    return evolve(
        results,
        run={
            **results.run,
            "baseline": baseline_of(results.run, workload),
            "workloads": {workload: told},
            "measuring": told.get("measuring", {}),
        },
        cells=cells,
        measurements=tuple(one for one in results.measurements if one.workload == workload),
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
        undecided=tuple(one for one in results.undecided if cells.keys() >= {*one.contenders}),
        outputs=tuple(one for one in results.outputs if one.cell in cells),
    )


def joined(whole: Results, parts: Mapping[str, Results]) -> Results:
    """The results of all workloads, from those of each; the opposite of ``part``."""

    def every(name: str) -> tuple[Any, ...]:
        return tuple(one for results in parts.values() for one in getattr(results, name))

    together = evolve(
        whole,
        measurements=every("measurements"),
        axes=tuple({"workload": name, **axis} for name, results in parts.items() for axis in results.axes),
        front={cell: front for results in parts.values() for cell, front in results.front.items()},
        picks=every("picks"),
        noise_floor=tuple(
            evolve(floor, workload=name) for name, results in parts.items() for floor in results.noise_floor
        ),
        pairs=every("pairs"),
        undecided=every("undecided"),
        outputs=every("outputs"),
    )
    return evolve(together, summary=tuple(_summary(together)))


def _summary(results: Results) -> Iterable[SummaryResult]:
    rows: dict[str, list[str]] = {}
    for cell, result in results.cells.items():
        if not result.control:
            rows.setdefault(cell.partition("/")[2], []).append(cell)
    columns = dict.fromkeys(
        (axis["metric"], *((axis["batch_size"],) if "batch_size" in axis else ())) for axis in results.axes
    )
    for row, cells in rows.items():
        compared = [one for one in results.measurements if one.cell in cells and one.vs_baseline is not None]
        figures = (_figure([one for one in compared if _column(one) == column]) for column in columns)
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


def _column(one: Measurement) -> tuple[Json, ...]:
    return one.metric, *((one.params["batch_size"],) if "batch_size" in one.params else ())


def _figure(ones: Sequence[Measurement]) -> SummaryFigure | None:
    """The mean over workloads: geometric of ratios and speedups, arithmetic of differences."""
    compared = [(one.vs_baseline, one.workload) for one in ones if one.vs_baseline is not None]
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
        metric=ones[0].metric,
        params=ones[0].params,
        kind=kind,
        value=mean,
        least=min(values),
        most=max(values),
        workloads=tuple(workload for _, workload in compared),
    )
