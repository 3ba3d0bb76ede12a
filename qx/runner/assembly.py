"""Assemble the results of a run from its samples and from the outcomes of its cells."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from datetime import datetime

from attrs import asdict, evolve

from qx.analysis import measurements as analysis
from qx.contract.devices import DeviceFacts
from qx.contract.figures import Point
from qx.contract.records import Outcome
from qx.processes.interruption import Interruption
from qx.processes.workers import MALLOC, Failure
from qx.results.recording import MOST_OUTPUT_BYTES, Recording
from qx.results.records import CellResult, ConfigResult, FurtherBuild, Results
from qx.results.results_file import samples_name
from qx.results.run_record import (
    ClusterRecord,
    Environment,
    InterruptionRecord,
    LeftOut,
    Measuring,
    RunRecord,
    SittingRecord,
    TimeLimitRecord,
    Unsteady,
    WorkloadRecord,
)
from qx.runner.evaluation import evaluation_batch_size
from qx.runner.journal import Journal, SittingHead
from qx.runner.measure.plan import ENDED_BY, INTERRUPTED, Measured
from qx.runner.preparation import Prepared
from qx.runner.request import Chosen, Request, config, metric, with_axis
from qx.runner.workload_run import WorkloadRun
from qx.values import JsonObject

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
#: Outcomes of configs that cannot run here or cannot quantize the model, which is no failure of the run.
EXCUSED: tuple[Outcome, ...] = ("unsupported", "unavailable")


class AnalysisError(Exception):
    """The analysis has failed, for the reason that is its cause: a bug in qx."""

    def __init__(self, results: Results, recording: Recording) -> None:
        """Keep the results without their figures, and the samples from which these can be computed."""
        super().__init__("the analysis has failed")
        self.results, self.recording = results, recording


def assemble(
    request: Request,
    chosen: Chosen,
    workload_runs: Sequence[WorkloadRun],
    recording: Recording,
    identity: str,
    started: datetime,
    seconds: dict[str, float],
    environment: JsonObject,
    devices: Mapping[str, DeviceFacts],
    journal: Journal,
    interruption: Interruption,
    cluster: ClusterRecord | None = None,
) -> Results:
    """Return the results of a run that began at ``started``; ``seconds`` is how long each phase took.

    ``identity`` is the run's id, from which the names of its samples and logs follow. ``devices`` are those
    that cells ran on, other than the CPU. The ``journal`` has its earlier sittings. Both times are of this
    sitting; the results have that of the first beside. ``cluster`` has the machines where they are those of
    a cluster. Raises ``AnalysisError``.
    """
    sittings = _sittings(journal, started, seconds, environment)
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
    fields: JsonObject = {
        "run": RunRecord(
            id=identity,
            command=request.command,
            started=sittings[0].started,
            seconds={phase: round(value, 3) for phase, value in seconds.items()},
            seed=request.seed,
            baseline=chosen.baseline_cell(request.parts(first.workload.name)[0], request),
            points=tuple(
                dict.fromkeys(
                    point for workload_run in workload_runs for point in workload_run.points(request.points)
                )
            ),
            threads=request.threads[0],
            further_threads=request.threads[1:],
            calibration_n=request.calibration_n,
            metric_options={name: dict(options) for name, options in chosen.metric_options.items()},
            build_seeds=request.build_seeds,
            engine=first.engine,
            samples=samples_name(identity),
            workloads={
                workload_run.name: _workload_record(
                    workload_run, request, chosen, measuring.get(workload_run.name), recording
                )
                for workload_run in workload_runs
            },
            measuring=join_measuring(list(measuring.values()), request.budget),
            time_limit=_time_limit(request, workload_runs, interruption),
            constraints=request.constraints,
            sittings=sittings,
            cluster=cluster,
            interruption=_interruption(workload_runs, interruption),
            failures=tuple(
                line for workload_run in workload_runs for line in _failure_lines(workload_run, cells, chosen)
            ),
        ),
        "environment": Environment(**environment, runtime=first.runtime, devices=devices),
        "metrics": {entry.name: with_axis(metric(entry), chosen, request) for entry in chosen.metrics},
        "configs": _config_results(chosen, cells),
        "cells": cells,
        "recording": recording,
        "failures": {
            key: (failure.outcome, failure.cause)
            for workload_run in workload_runs
            for key, failure in workload_run.metric_failures.items()
        },
    }
    try:
        return analysis.analyse(**fields)
    except Exception as error:
        raise AnalysisError(analysis.without_figures(**fields), recording) from error


def _sittings(
    journal: Journal, started: datetime, seconds: Mapping[str, float], environment: JsonObject
) -> tuple[SittingRecord, ...]:
    """Return the sittings of a run, of which the last is the one at work."""
    heads, ends = journal.of(SittingHead), [0.0] * journal.sitting
    for entry in journal.earlier:
        if entry.sitting < len(ends):
            ends[entry.sitting] = max(ends[entry.sitting], entry.seconds)
    earlier = (
        SittingRecord(started=head.started, seconds=round(end, 3), load_before=head.load_before)
        for head, end in zip(heads, ends, strict=True)
    )
    current = SittingRecord(
        started=started.isoformat(timespec="seconds"),
        seconds=round(seconds["total"], 3),
        load_before=environment["load_before"],
    )
    return (*earlier, current)


def _left_out(workload_runs: Sequence[WorkloadRun]) -> tuple[LeftOut, ...]:
    return tuple(
        LeftOut(workload=workload_run.name, phase=phase, cells=tuple(cells))
        for workload_run in workload_runs
        for phase, cells in workload_run.left_out.items()
    )


def _time_limit(
    request: Request, workload_runs: Sequence[WorkloadRun], interruption: Interruption
) -> TimeLimitRecord | None:
    """Return the limit of the run's time, and what it was too short for."""
    if request.max_time is None:
        return None
    left_out = () if interruption.is_requested else _left_out(workload_runs)
    return TimeLimitRecord(seconds=request.max_time, left_out=left_out)


def _interruption(
    workload_runs: Sequence[WorkloadRun], interruption: Interruption
) -> InterruptionRecord | None:
    """Return what the user has interrupted; None where all was done when the signal came."""
    left_out = _left_out(workload_runs)
    ended_early = any(workload_run.measured.ended_by == INTERRUPTED for workload_run in workload_runs)
    if interruption.name is None or not (left_out or ended_early):
        return None
    return InterruptionRecord(signal=interruption.name, left_out=left_out)


def _failure_lines(workload_run: WorkloadRun, cells: Mapping[str, CellResult], chosen: Chosen) -> list[str]:
    """Return a line for each cell, each metric and each further build that should have figures and has none.

    A config that is not installed, or cannot quantize the model, should have figures only if the user named
    it, or if it is the baseline.
    """
    results = {cell: cells[cell] for cell in workload_run.cells}
    required = chosen.named | {chosen.baseline.name}
    return (
        [
            f"{workload_run.label(cell)}: {result.outcome}"
            for cell, result in results.items()
            if result.outcome != "ok" and (result.outcome not in EXCUSED or result.config in required)
        ]
        + [
            f"{workload_run.label(cell)}: metric {name}"
            for (cell, name), failure in workload_run.metric_failures.items()
            if cell in results and failure.outcome != "unsupported"
        ]
        + [
            f"{workload_run.label(cell)}: the build with seed {build.seed}: {build.outcome}"
            for cell, result in results.items()
            for build in result.further_builds
            if build.outcome != "ok"
        ]
    )


def _workload_record(
    workload_run: WorkloadRun,
    request: Request,
    chosen: Chosen,
    measuring: Measuring | None,
    recording: Recording,
) -> WorkloadRecord:
    """Return what the results file says of a workload."""
    baseline = chosen.baseline_cell(workload_run.name, request)
    prepared = workload_run.prepared
    size = recording.output_bytes(workload_run.cells)
    if prepared is None:
        options = chosen.workload_options[workload_run.workload]
        return WorkloadRecord(baseline=baseline, options=dict(options))
    return WorkloadRecord(
        baseline=baseline,
        options=dict(prepared.options),
        source=prepared.source,
        items=prepared.items,
        total_items=prepared.total_items,
        looks=workload_run.looks,
        training_items=prepared.training_items,
        classes=tuple(prepared.classes),
        parameters=prepared.parameters,
        weights_sha256=prepared.weights_sha256,
        trained=prepared.trained,
        task=prepared.task.name,
        evaluation_sha256=_digest_of_items(prepared, workload_run),
        evaluation_batch_size=evaluation_batch_size(prepared),
        outputs_not_kept=size if size > MOST_OUTPUT_BYTES else None,
        calibrations={
            str(prepared.calibration_sizes.get(count, count)): place.name
            for count, place in prepared.calibrations.items()
        },
        further_calibrations={
            str(seed): {str(count): place.name for count, place in places.items()}
            for seed, places in prepared.further.items()
            if places
        },
        measuring=measuring if workload_run.is_one_of_several else None,
    )


def _digest_of_items(prepared: Prepared, workload_run: WorkloadRun) -> str:
    """Return the SHA-256 of the items that were evaluated: of the first of a split one from its own."""
    if prepared.items >= max(workload_run.planned_items, default=0):
        return prepared.evaluation.name
    return hashlib.sha256(f"{prepared.evaluation.name} {prepared.items}".encode()).hexdigest()


def _measuring(request: Request, measured: Measured) -> Measuring:
    """Return how the launches of a workload were measured, and what ended the waves."""
    return Measuring(
        quick=request.quick,
        cut_short=measured.has_too_few_waves,
        sittings=tuple(measured.sittings),
        cpus=tuple(request.cpus),
        allocator={name: os.environ.get(name, value) for name, value in MALLOC.items()},
        precision=request.precision,
        budget=measured.budget,
        ended_by=measured.ended_by,
        waves=measured.waves,
        rounds=_by_text(measured.rounds),
        fewer_rounds=dict(sorted(measured.fewer_rounds.items())),
        pinned_to=measured.pinned_to,
        pinned_cpus=tuple(measured.pinned_cpus),
        garbage_collection="off once warm" if measured.rounds else "on",
        fresh_waves=measured.fresh_waves,
        forked=tuple(sorted(measured.forkable)),
        not_forked=dict(measured.unforkable),
        calls_per_block=_by_text(measured.calls_per_block),
        seconds=round(measured.seconds, 3),
        deaths=tuple(measured.deaths),
        readings=tuple(measured.readings),
        first_calls={
            cell: {str(point): seconds for point, seconds in first.items()}
            for cell, first in measured.first_calls.items()
        },
        unsteady=tuple(
            Unsteady(cell=cell, point=point)
            for cell, point in sorted(measured.unsteady, key=lambda pair: (pair[0], str(pair[1])))
        ),
    )


def _by_text(counts: Mapping[str, Mapping[Point, int]]) -> dict[str, dict[str, int]]:
    """Return counts by point with the points as text, as JSON has them."""
    return {
        name: {str(point): count for point, count in by_point.items()} for name, by_point in counts.items()
    }


def join_measuring(measuring: Sequence[Measuring], budget: float | None = None) -> Measuring:
    """Join the descriptions of how the launches of several workloads were measured.

    Times and waves are summed; of rounds the largest number is kept, and of the ends the worst. ``budget`` is
    the budget that the user set for all workloads: their shares overlap, since each passes on what it leaves.
    """
    joined = measuring[0]
    for other in measuring[1:]:
        joined = evolve(
            joined,
            budget=joined.budget + other.budget,
            waves=joined.waves + other.waves,
            seconds=joined.seconds + other.seconds,
            deaths=joined.deaths + other.deaths,
            unsteady=joined.unsteady + other.unsteady,
            readings=joined.readings + other.readings,
            first_calls={**joined.first_calls, **other.first_calls},
            pinned_cpus=joined.pinned_cpus + other.pinned_cpus,
            sittings=joined.sittings + other.sittings,
            rounds=_largest(joined.rounds, other.rounds),
            fewer_rounds={**joined.fewer_rounds, **other.fewer_rounds},
            calls_per_block={**joined.calls_per_block, **other.calls_per_block},
            ended_by=min(joined.ended_by, other.ended_by, key=ENDED_BY.index),
            cut_short=joined.cut_short or other.cut_short,
            fresh_waves=(joined.fresh_waves or 0) + (other.fresh_waves or 0),
            forked=tuple(sorted({*joined.forked, *other.forked})),
            not_forked={**joined.not_forked, **other.not_forked},
        )
    return evolve(joined, budget=budget) if budget and len(measuring) > 1 else joined


def _largest(
    ours: Mapping[str, Mapping[str, int]], theirs: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, int]]:
    """Return the larger of two counts, by metric and point."""
    largest: dict[str, dict[str, int]] = {}
    for counts in (ours, theirs):
        for metric_name, by_point in counts.items():
            own = largest.setdefault(metric_name, {})
            for point, count in by_point.items():
                own[point] = max(count, own.get(point, 0))
    return largest


def _cell_result(name: str, workload_run: WorkloadRun) -> CellResult:
    build, failure = workload_run.builds.get(name), workload_run.failures.get(name)
    return CellResult(
        **asdict(workload_run.cells[name], recurse=False),
        outcome=failure.outcome if failure else "ok",
        stage=failure.stage if failure else None,
        cause=failure.cause if failure else None,
        build_seconds=round(build.seconds, 3) if build else None,
        build_cached=build.cached if build else False,
        build=build.key if build else None,
        artifact=build.manifest.sizes if build else {},
        loader=build.manifest.loader if build else None,
        launches=workload_run.measured.launches[name],
        notes=(*build.manifest.notes, *workload_run.notes(name)) if build else (),
        layers=build.manifest.layers if build else (),
        further_builds=tuple(
            _further_build(workload_run, name, seed) for cell, seed in workload_run.further if cell == name
        ),
        log=_log_name(name, workload_run),
    )


def _further_build(workload_run: WorkloadRun, cell: str, seed: int) -> FurtherBuild:
    result = workload_run.further[cell, seed]
    if isinstance(result, Failure):
        return FurtherBuild(seed=seed, outcome=result.outcome, stage=result.stage, cause=result.cause)
    failures = workload_run.further_metric_failures.get((cell, seed), {})
    return FurtherBuild(
        seed=seed,
        outcome="ok",
        build_seconds=round(result.seconds, 3),
        build_cached=result.cached,
        build=result.key,
        same_as=workload_run.same_as(cell, seed),
        metric_failures={name: f"{failure.outcome}: {failure.cause}" for name, failure in failures.items()},
    )


def _log_name(cell: str, workload_run: WorkloadRun) -> str | None:
    """Return the name of the log of a cell within the folder of results; None if there is none."""
    file = workload_run.logs.file(cell)
    if file is None and workload_run.prepared is None:
        # The workload has failed, and with it all of its cells.
        file = workload_run.logs.file(workload_run.name)
    return None if file is None else f"{file.parent.name}/{file.name}"


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
            draws_data=record.calibration or record.training,
        )
    return results
