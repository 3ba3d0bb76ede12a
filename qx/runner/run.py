"""One run, from what was asked to the results."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from attrs import define, evolve

from qx import analysis
from qx.environment import describe_environment
from qx.host import Host
from qx.jobs import LaunchJob
from qx.recording import Recording
from qx.records import Outcome
from qx.results import CellResult, ConfigResult, Results
from qx.runner.builds import Build, build_all
from qx.runner.derivation import derive_all
from qx.runner.evaluation import MetricFailure, evaluate_all
from qx.runner.preparation import Prepared, prepare
from qx.runner.processes import Failure, Processes
from qx.runner.request import CONTROL, Cell, Chosen, Reporter, Request, choose, config, metric, references
from qx.runner.waves import LEAST_WAVES, Measured, Plan, measure_in_waves

#: Default seconds for all launches: so much for up to five configs, and so much more for each further one.
BUDGET, BUDGET_CONFIGS, BUDGET_MORE = 60.0, 5, 12.0
#: For a first look.
QUICK_BUDGET, QUICK_WAVES = 15.0, 3
#: What a launch of a large runtime holds, for the question how many fit the memory at once.
LAUNCH_BYTES = 1 << 30
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
class _State:
    """What is known of the cells so far."""

    cells: dict[str, Cell]
    builds: dict[str, Build]
    failures: dict[str, Failure]
    metric_failures: dict[tuple[str, str], MetricFailure]

    def going(self) -> dict[str, Build]:
        """Cells that have ended well so far."""
        return {cell: build for cell, build in self.builds.items() if cell not in self.failures}


def run(host: Host, request: Request, reporter: Reporter) -> tuple[Results, Recording]:
    """Do what was asked. Raises ``UsageError`` before anything is written."""
    request.check()
    chosen = choose(host, request)
    began, started = time.monotonic(), datetime.now(timezone.utc)
    # Before anything of ours adds to the load that it tells.
    environment = describe_environment()
    seconds: dict[str, float] = {}
    recording = Recording()
    with tempfile.TemporaryDirectory(prefix="qx-logs-") as logs, Processes(Path(logs)) as processes:

        def timed(phase: str, since: float) -> float:
            now = time.monotonic()
            seconds[phase] = now - since
            return now

        prepared = prepare(host, request, processes, reporter)
        now = timed("prepare", began)
        state = _planned(chosen, request, prepared)
        _build(host, request, prepared, state, processes, reporter)
        now = timed("build", now)
        _evaluate(host, request, prepared, chosen, state, processes, reporter, recording)
        now = timed("evaluate", now)
        measured = _measure(host, request, prepared, chosen, state, processes, reporter, recording)
        now = timed("measure", now)
        if chosen.metrics_of("derived"):
            _derive(host, request, prepared, chosen, state, processes, reporter, recording)
            now = timed("derive", now)
    reporter.phase("analyse", "intervals, front, picks")
    seconds["total"] = now - began
    results = _results(request, prepared, chosen, state, measured, recording, started, seconds, environment)
    timed("analyse", now)
    return results, recording


def _id(prepared: Prepared, name: str) -> str:
    return f"{prepared.workload.name}/{name}"


def _planned(chosen: Chosen, request: Request, prepared: Prepared) -> _State:
    cells, failures = {}, {}
    for entry in chosen.configs:
        cell = Cell(
            id=_id(prepared, entry.name),
            workload=prepared.workload.name,
            config=entry.name,
            threads=request.threads,
            options={option.name: option.default for option in config(entry).options},
        )
        cells[cell.id] = cell
        if entry.state != "ready":
            failures[cell.id] = Failure("unavailable", "plan", entry.reason)
    return _State(cells=cells, builds={}, failures=failures, metric_failures={})


def _build(
    host: Host,
    request: Request,
    prepared: Prepared,
    state: _State,
    processes: Processes,
    reporter: Reporter,
) -> None:
    due = [cell for cell in state.cells.values() if cell.id not in state.failures]
    for cell, ended in build_all(host, request, prepared, due, processes, reporter).items():
        if isinstance(ended, Failure):
            state.failures[cell] = ended
            reporter.say(f"{state.cells[cell].config}: {ended}")
        else:
            state.builds[cell] = ended


def _evaluate(
    host: Host,
    request: Request,
    prepared: Prepared,
    chosen: Chosen,
    state: _State,
    processes: Processes,
    reporter: Reporter,
    recording: Recording,
) -> None:
    ended = evaluate_all(
        host, request, prepared, chosen, state.going(), state.cells, processes, reporter, recording
    )
    for cell, end in ended.items():
        if isinstance(end, Failure):
            state.failures[cell] = end
            reporter.say(f"{state.cells[cell].config}: {end}")
            continue
        _metrics_failed(state, {(cell, name): failure for name, failure in end.items()}, reporter)


def _measure(
    host: Host,
    request: Request,
    prepared: Prepared,
    chosen: Chosen,
    state: _State,
    processes: Processes,
    reporter: Reporter,
    recording: Recording,
) -> Measured:
    baseline = _id(prepared, chosen.baseline.name)
    if baseline in state.failures:
        cause = f"{chosen.baseline.name} did not end well, so nothing was timed"
        reporter.say(cause)
        for cell in state.going():
            for entry in (*chosen.metrics_of("fresh"), *chosen.metrics_of("block")):
                state.metric_failures[cell, entry.name] = MetricFailure("failed", cause)
        return Measured()
    going = state.going()
    cells = {cell: state.cells[cell] for cell in going}
    control = Cell(
        id=_id(prepared, CONTROL),
        workload=prepared.workload.name,
        config=chosen.baseline.name,
        threads=request.threads,
        control=True,
    )
    artifacts = {cell: build.artifact for cell, build in going.items()}
    cells[control.id], artifacts[control.id] = control, artifacts[baseline]

    def job(cell: Cell, artifact: Path, spawned_ns: int) -> LaunchJob:
        return LaunchJob(
            seed=request.seed,
            threads=cell.threads,
            engine=prepared.engine,
            wrappers=references(host.wrappers),
            artifact=str(artifact),
            inputs=str(prepared.evaluation),
            batch_sizes=request.batch_sizes,
            metrics=references((*chosen.metrics_of("fresh"), *chosen.metrics_of("block"))),
            spawned_ns=spawned_ns,
            cpus=request.cpus or None,
        )

    plan = Plan(
        groups=_groups(baseline, control.id, [cell for cell in going if cell != baseline]),
        cells=cells,
        artifacts=artifacts,
        baseline=baseline,
        fresh=chosen.metrics_of("fresh"),
        block=chosen.metrics_of("block"),
        batch_sizes=request.batch_sizes,
        precision=request.precision,
        budget=budget_of(request, len(cells) - 1),
        least_waves=QUICK_WAVES if request.quick else LEAST_WAVES,
        seed=request.seed,
        timeout=request.timeout,
        job=job,
    )
    cpus = len(request.cpus) or os.cpu_count() or 1
    if request.threads > cpus:
        reporter.say(
            f"--threads {request.threads} on {cpus} CPUs: threads wait for each other, so latencies are "
            f"longer and less steady than on a machine that has as many"
        )
    reporter.phase("measure", f"{len(cells)} cells in waves, at most {plan.budget:.0f} s")
    measured = measure_in_waves(plan, processes, recording, reporter.step)
    state.cells[control.id] = control
    state.builds[control.id] = state.builds[baseline]
    for cell, failure in measured.failures.items():
        state.failures[cell] = failure
        reporter.say(f"{_row(state.cells[cell])}: {failure}")
    _metrics_failed(state, measured.metric_failures, reporter)
    return measured


def _derive(
    host: Host,
    request: Request,
    prepared: Prepared,
    chosen: Chosen,
    state: _State,
    processes: Processes,
    reporter: Reporter,
    recording: Recording,
) -> None:
    # The control has launches and no evaluation: there is nothing to derive that its noise floor could show.
    cells = [cell for cell in state.going() if not state.cells[cell].control]
    baseline = _id(prepared, chosen.baseline.name)
    failures = derive_all(host, request, chosen, cells, baseline, recording, processes)
    _metrics_failed(state, failures, reporter)


def _metrics_failed(
    state: _State, failures: Mapping[tuple[str, str], MetricFailure], reporter: Reporter
) -> None:
    for (cell, name), failure in failures.items():
        state.metric_failures[cell, name] = failure
        reporter.say(f"{_row(state.cells[cell])}: metric {name} {failure.outcome}: {failure.cause}")


def _row(cell: Cell) -> str:
    return CONTROL if cell.control else cell.config


def budget_of(request: Request, configs: int) -> float:
    """Seconds for all launches."""
    if request.budget is not None:
        return request.budget
    if request.quick:
        return QUICK_BUDGET
    return BUDGET + BUDGET_MORE * max(0, configs - BUDGET_CONFIGS)


def _groups(baseline: str, control: str, others: list[str]) -> tuple[tuple[str, ...], ...]:
    """The baseline, the control and as many others as memory holds at once, in each."""
    import psutil

    room = max(1, int(0.7 * psutil.virtual_memory().available / LAUNCH_BYTES) - 2)
    count = max(1, -(-len(others) // room))
    size = max(1, -(-len(others) // count))
    parts = [others[start : start + size] for start in range(0, len(others), size)] or [[]]
    return tuple((baseline, control, *part) for part in parts)


# Results ------------------------------------------------------------------------------------------


def _results(
    request: Request,
    prepared: Prepared,
    chosen: Chosen,
    state: _State,
    measured: Measured,
    recording: Recording,
    started: datetime,
    seconds: dict[str, float],
    environment: dict[str, Any],
) -> Results:
    identity = f"{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    cells = {cell: _cell_result(cell, state, measured) for cell in state.cells}
    due = [
        f"{_row(state.cells[cell])}: {result.outcome}"
        for cell, result in cells.items()
        if result.outcome != "ok" and (result.outcome != "unavailable" or result.config in chosen.named)
    ]
    due += [
        f"{_row(state.cells[cell])}: metric {name}"
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
            "baseline": _id(prepared, chosen.baseline.name),
            "batch_sizes": list(request.batch_sizes),
            "threads": request.threads,
            "calibration_n": request.calibration_n,
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
                    "calibration_sha256": prepared.calibration.name,
                }
            },
            "measuring": {
                "quick": request.quick,
                "cpus": list(request.cpus),
                "precision": request.precision,
                "budget": budget_of(request, len(chosen.configs)),
                "ended_by": measured.ended_by,
                "waves": measured.waves,
                "rounds": measured.rounds,
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


def _cell_result(cell: str, state: _State, measured: Measured) -> CellResult:
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
        )
    return results
