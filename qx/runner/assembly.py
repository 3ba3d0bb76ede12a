"""From what came of a run's cells to its results."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import define, evolve

from qx import analysis
from qx.recording import Recording
from qx.records import Outcome
from qx.results import CellResult, ConfigResult, Results
from qx.runner.builds import Build
from qx.runner.evaluation import BATCH_SIZE, MetricFailure
from qx.runner.preparation import Prepared
from qx.runner.processes import MALLOC, Failure
from qx.runner.request import Cell, Chosen, Request, config, metric
from qx.runner.waves import Measured

#: The lowest outcome of several is the worst.
WORST: tuple[Outcome, ...] = (
    "crashed",
    "out_of_memory",
    "timeout",
    "failed",
    "unsupported",
    "unavailable",
    "ok",
)


@define
class State:
    """What is known of the cells of a run so far."""

    cells: dict[str, Cell]
    builds: dict[str, Build]
    failures: dict[str, Failure]
    metric_failures: dict[tuple[str, str], MetricFailure]

    def going(self) -> dict[str, Build]:
        """Cells that have ended well so far."""
        return {cell: build for cell, build in self.builds.items() if cell not in self.failures}


def cell_id(prepared: Prepared, row: str) -> str:
    """The id of a cell of the run's workload."""
    return f"{prepared.workload.name}/{row}"


def assemble(
    request: Request,
    prepared: Prepared,
    chosen: Chosen,
    state: State,
    measured: Measured,
    recording: Recording,
    started: datetime,
    seconds: dict[str, float],
    environment: dict[str, Any],
) -> Results:
    """The results of a run that began at ``started``; ``seconds`` is what each phase took."""
    identity = f"{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    cells = {cell: _cell_result(cell, state, measured) for cell in state.cells}
    due = [
        f"{state.cells[cell].row}: {result.outcome}"
        for cell, result in cells.items()
        if result.outcome != "ok" and (result.outcome != "unavailable" or result.config in chosen.named)
    ]
    due += [
        f"{state.cells[cell].row}: metric {name}"
        for cell, name in state.metric_failures
        if cell in state.cells
    ]
    return analysis.analyse(
        run={
            "id": identity,
            "command": ["qx", *sys.argv[1:]],
            "started": started.isoformat(timespec="seconds"),
            "seconds": {phase: round(value, 3) for phase, value in seconds.items()},
            "seed": request.seed,
            "baseline": cell_id(prepared, chosen.baseline_row),
            "batch_sizes": list(request.batch_sizes),
            "threads": request.threads,
            "calibration_n": request.calibration_n,
            "metric_options": {name: dict(options) for name, options in chosen.metric_options.items()},
            "evaluation_batch_size": min(BATCH_SIZE, prepared.items),
            "engine": prepared.engine,
            "samples": f"samples-{identity}.npz",
            "workloads": {
                prepared.workload.name: {
                    "source": prepared.source,
                    "items": prepared.items,
                    "classes": list(prepared.classes),
                    "parameters": prepared.parameters,
                    "weights_sha256": prepared.weights_sha256,
                    "evaluation_sha256": prepared.evaluation.name,
                    "options": dict(prepared.options),
                    "calibrations": {
                        str(count): place.name for count, place in prepared.calibrations.items()
                    },
                }
            },
            "measuring": {
                "quick": request.quick,
                "cpus": list(request.cpus),
                "malloc": {name: os.environ.get(name, value) for name, value in MALLOC.items()},
                "precision": request.precision,
                "budget": measured.budget,
                "ended_by": measured.ended_by,
                "waves": measured.waves,
                "rounds": {
                    name: {str(size): count for size, count in sizes.items()}
                    for name, sizes in measured.rounds.items()
                },
                "held_to": measured.held_to,
                "calls": measured.calls,
                "seconds": round(measured.seconds, 3),
                "deaths": measured.deaths,
                "unsteady": sorted(list(pair) for pair in measured.unsteady),
            },
            "due_failures": due,
        },
        environment=environment | {"runtime": prepared.runtime},
        metrics={
            entry.name: evolve(metric(entry), axis=entry.name in chosen.axes) for entry in chosen.metrics
        },
        configs=_config_results(chosen, cells),
        cells=cells,
        recording=recording,
        failures={key: (failure.outcome, failure.cause) for key, failure in state.metric_failures.items()},
    )


def _cell_result(cell: str, state: State, measured: Measured) -> CellResult:
    described, build, failure = state.cells[cell], state.builds.get(cell), state.failures.get(cell)
    return CellResult(
        workload=described.workload,
        config=described.config,
        options=dict(described.options),
        threads=described.threads,
        control=described.control,
        outcome=failure.outcome if failure else "ok",
        stage=failure.stage if failure else None,
        cause=failure.cause if failure else None,
        build_seconds=round(build.seconds, 3) if build else None,
        build_cached=build.cached if build else False,
        build=build.key if build else None,
        artifact=dict(build.manifest.files) if build else {},
        loader=build.manifest.loader.name if build else None,
        launches=measured.launches[cell],
        notes=build.manifest.notes if build else (),
    )


def _config_results(chosen: Chosen, cells: Mapping[str, CellResult]) -> dict[str, ConfigResult]:
    results = {}
    for entry in chosen.configs:
        record = config(entry)
        own = [cell for cell in cells.values() if cell.config == entry.name and not cell.control]
        worst = min(own, key=lambda cell: WORST.index(cell.outcome))
        results[entry.name] = ConfigResult(
            summary=record.summary,
            outcome=worst.outcome,
            stage=worst.stage,
            cause=worst.cause,
            runtime_baseline=record.runtime_baseline,
            reference=record.reference,
            counterpart=record.counterpart,
        )
    return results
