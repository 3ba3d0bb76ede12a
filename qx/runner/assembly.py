"""Assemble the results of a run from its samples and from the outcomes of its cells."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime

from attrs import evolve

from qx.analysis import measurements as analysis
from qx.contract.records import Outcome
from qx.processes.workers import MALLOC
from qx.results.recording import Recording
from qx.results.records import CellResult, ConfigResult, Results
from qx.runner.evaluation import evaluation_batch_size
from qx.runner.measure.plan import ENDED_BY, Measured
from qx.runner.request import Chosen, Request, config, metric
from qx.runner.workload_run import WorkloadRun, cell_id
from qx.values import JsonMapping, JsonObject

#: All outcomes, the worst first.
WORST: tuple[Outcome, ...] = (
    "crashed",
    "out_of_memory",
    "timeout",
    "failed",
    "unsupported",
    "unavailable",
    "ok",
)


def assemble(
    request: Request,
    chosen: Chosen,
    workload_runs: Sequence[WorkloadRun],
    recording: Recording,
    started: datetime,
    seconds: dict[str, float],
    environment: JsonObject,
) -> Results:
    """Return the results of a run that began at ``started``; ``seconds`` is how long each phase took."""
    identity = f"{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    cells = {
        cell: _cell_result(cell, workload_run)
        for workload_run in workload_runs
        for cell in workload_run.cells
    }
    first = next(workload_run.ready for workload_run in workload_runs if workload_run.prepared is not None)
    measuring = {
        workload_run.name: _measuring(request, workload_run.measured)
        for workload_run in workload_runs
        if workload_run.prepared
    }
    return analysis.analyse(
        run={
            "id": identity,
            "command": ["qx", *sys.argv[1:]],
            "started": started.isoformat(timespec="seconds"),
            "seconds": {phase: round(value, 3) for phase, value in seconds.items()},
            "seed": request.seed,
            "baseline": cell_id(first.workload.name, chosen.baseline_row),
            "batch_sizes": list(request.batch_sizes),
            "threads": request.threads,
            "calibration_n": request.calibration_n,
            "metric_options": {name: dict(options) for name, options in chosen.metric_options.items()},
            "engine": first.engine,
            "samples": f"samples-{identity}.npz",
            "workloads": {
                workload_run.name: _describe_workload(workload_run, chosen, measuring.get(workload_run.name))
                for workload_run in workload_runs
            },
            "measuring": join_measuring(list(measuring.values()), request.budget),
            "due_failures": [
                line for workload_run in workload_runs for line in _failure_lines(workload_run, cells, chosen)
            ],
        },
        environment=environment | {"runtime": first.runtime},
        metrics={
            entry.name: evolve(metric(entry), axis=entry.name in chosen.axes) for entry in chosen.metrics
        },
        configs=_config_results(chosen, cells),
        cells=cells,
        recording=recording,
        failures={
            key: (failure.outcome, failure.cause)
            for workload_run in workload_runs
            for key, failure in workload_run.metric_failures.items()
        },
    )


def _failure_lines(workload_run: WorkloadRun, cells: Mapping[str, CellResult], chosen: Chosen) -> list[str]:
    """Return a line for each cell and each metric that should have figures and has none."""
    results = {cell: cells[cell] for cell in workload_run.cells}
    return [
        f"{workload_run.label(cell)}: {result.outcome}"
        for cell, result in results.items()
        if result.outcome != "ok" and (result.outcome != "unavailable" or result.config in chosen.named)
    ] + [
        f"{workload_run.label(cell)}: metric {name}"
        for (cell, name), failure in workload_run.metric_failures.items()
        if cell in results and failure.outcome != "unsupported"
    ]


def _describe_workload(
    workload_run: WorkloadRun, chosen: Chosen, measuring: JsonMapping | None
) -> JsonObject:
    """Return what the results file says of a workload."""
    description: JsonObject = {"baseline": cell_id(workload_run.name, chosen.baseline_row)}
    prepared = workload_run.prepared
    if prepared is None:
        return description | {"options": dict(chosen.workload_options[workload_run.name])}
    if workload_run.is_one_of_several:
        description["measuring"] = measuring
    return description | {
        "source": prepared.source,
        "items": prepared.items,
        "classes": list(prepared.classes),
        "parameters": prepared.parameters,
        "weights_sha256": prepared.weights_sha256,
        "random_weights": not prepared.trained,
        "task": prepared.task.name,
        "evaluation_sha256": prepared.evaluation.name,
        "evaluation_batch_size": evaluation_batch_size(prepared),
        "options": dict(prepared.options),
        "calibrations": {str(count): place.name for count, place in prepared.calibrations.items()},
    }


def _measuring(request: Request, measured: Measured) -> JsonObject:
    """Return how the launches of a workload were measured, and what ended the waves."""
    return {
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
        "held": [list(cpus) for cpus in measured.held],
        "garbage_collection": "off once warm" if measured.rounds else "on",
        "calls": measured.calls,
        "seconds": round(measured.seconds, 3),
        "deaths": measured.deaths,
        "unsteady": sorted(list(pair) for pair in measured.unsteady),
    }


def join_measuring(measuring: Sequence[JsonMapping], budget: float | None = None) -> JsonObject:
    """Join the descriptions of how the launches of several workloads were measured.

    Times and waves are summed; of rounds the largest number is kept, and of the ends the worst. ``budget`` is
    the budget that the user set for all workloads: their shares overlap, since each passes on what it leaves.
    """
    joined = dict(measuring[0])
    for other in measuring[1:]:
        for name in ("budget", "waves", "seconds", "deaths", "unsteady", "held"):
            joined[name] = joined[name] + other[name]
        joined["rounds"] = {
            name: {size: max(counts.get(size, 0) for counts in both) for size in {**both[0], **both[1]}}
            for name in {**joined["rounds"], **other["rounds"]}
            for both in [(joined["rounds"].get(name, {}), other["rounds"].get(name, {}))]
        }
        joined["calls"] = joined["calls"] | other["calls"]
        joined["ended_by"] = min(joined["ended_by"], other["ended_by"], key=ENDED_BY.index)
        joined["budget"] = budget or joined["budget"]
    return joined


def _cell_result(cell: str, workload_run: WorkloadRun) -> CellResult:
    planned, measured = workload_run.cells[cell], workload_run.measured
    build, failure = workload_run.builds.get(cell), workload_run.failures.get(cell)
    return CellResult(
        workload=planned.workload,
        config=planned.config,
        options=dict(planned.options),
        threads=planned.threads,
        control=planned.control,
        outcome=failure.outcome if failure else "ok",
        stage=failure.stage if failure else None,
        cause=failure.cause if failure else None,
        build_seconds=round(build.seconds, 3) if build else None,
        build_cached=build.cached if build else False,
        build=build.key if build else None,
        artifact=build.manifest.sizes if build else {},
        loader=build.manifest.loader if build else None,
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
