"""One run, from what was asked to the results."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from qx.environment import describe_environment, usable_cpus
from qx.host import Host
from qx.jobs import LaunchJob
from qx.recording import Recording
from qx.records import CONTROL
from qx.results import Results
from qx.runner.assembly import State, assemble, cell_id
from qx.runner.builds import build_all
from qx.runner.derivation import derive_all
from qx.runner.evaluation import MetricFailure, evaluate_all
from qx.runner.groups import grouped
from qx.runner.preparation import Prepared, prepare
from qx.runner.processes import Failure, Processes
from qx.runner.request import (
    QUICK_WAVES,
    Cell,
    Chosen,
    Reporter,
    Request,
    budget_of,
    cell_of,
    choose,
    config,
    references,
)
from qx.runner.waves import LEAST_WAVES, Measured, Plan, measure_in_waves

#: What a launch of a large runtime holds, for the question how many fit the memory at once.
LAUNCH_BYTES = 1 << 30


def run(host: Host, request: Request, reporter: Reporter) -> tuple[Results, Recording]:
    """Do what was asked. Raises ``UsageError`` before anything is written."""
    request.check()
    chosen = choose(host, request)
    for name, users in chosen.brought.items():
        reporter.say(f"{name} takes part, as the runtime baseline of {', '.join(users)}")
    began, started = time.monotonic(), datetime.now(timezone.utc)
    # Before anything of ours adds to the load that it tells.
    environment = describe_environment(
        requirement for entry in chosen.configs for requirement in config(entry).requires
    )
    seconds: dict[str, float] = {}
    recording = Recording()
    with tempfile.TemporaryDirectory(prefix="qx-logs-") as logs, Processes(Path(logs)) as processes:

        def timed(phase: str, since: float) -> float:
            now = time.monotonic()
            seconds[phase] = now - since
            return now

        prepared = prepare(host, request, processes, reporter, chosen.workload_options, chosen.variants)
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
    results = assemble(request, prepared, chosen, state, measured, recording, started, seconds, environment)
    return results, recording


def _planned(chosen: Chosen, request: Request, prepared: Prepared) -> State:
    cells, failures = {}, {}
    for variant in chosen.variants:
        cell = cell_of(prepared.workload.name, variant, request)
        cells[cell.id] = cell
        if variant.entry.state != "ready":
            failures[cell.id] = Failure("unavailable", "plan", variant.entry.reason)
    return State(cells=cells, builds={}, failures=failures, metric_failures={})


def _build(
    host: Host,
    request: Request,
    prepared: Prepared,
    state: State,
    processes: Processes,
    reporter: Reporter,
) -> None:
    due = [cell for cell in state.cells.values() if cell.id not in state.failures]
    for cell, ended in build_all(host, request, prepared, due, processes, reporter).items():
        if isinstance(ended, Failure):
            state.failures[cell] = ended
            reporter.say(f"{state.cells[cell].row}: {ended}")
        else:
            state.builds[cell] = ended


def _evaluate(
    host: Host,
    request: Request,
    prepared: Prepared,
    chosen: Chosen,
    state: State,
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
            reporter.say(f"{state.cells[cell].row}: {end}")
            continue
        _metrics_failed(state, {(cell, name): failure for name, failure in end.items()}, reporter)


def _measure(
    host: Host,
    request: Request,
    prepared: Prepared,
    chosen: Chosen,
    state: State,
    processes: Processes,
    reporter: Reporter,
    recording: Recording,
) -> Measured:
    baseline = cell_id(prepared, chosen.baseline_row)
    if baseline in state.failures:
        cause = f"{chosen.baseline.name} did not end well, so nothing was timed"
        reporter.say(cause)
        for cell in state.going():
            for entry in (*chosen.metrics_of("fresh"), *chosen.metrics_of("block")):
                state.metric_failures[cell, entry.name] = MetricFailure("failed", cause)
        return Measured(ended_by="the baseline failed")
    going = state.going()
    cells = {cell: state.cells[cell] for cell in going}
    control = Cell(
        id=cell_id(prepared, CONTROL),
        workload=prepared.workload.name,
        config=chosen.baseline.name,
        threads=request.threads,
        options=state.cells[baseline].options,
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
            metric_options=chosen.metric_options,
            spawned_ns=spawned_ns,
            cpus=request.cpus or None,
        )

    plan = Plan(
        groups=grouped(
            baseline,
            control.id,
            [cell for cell in going if cell != baseline],
            _runtime_baselines(chosen, cells),
            _room(),
        ),
        cells=cells,
        artifacts=artifacts,
        baseline=baseline,
        fresh=chosen.metrics_of("fresh"),
        block=chosen.metrics_of("block"),
        batch_sizes=request.batch_sizes,
        precision=request.precision,
        cpus=request.cpus,
        budget=budget_of(request, len(cells) - 1),
        strict=request.budget is not None and not request.quick,
        least_waves=QUICK_WAVES if request.quick else LEAST_WAVES,
        seed=request.seed,
        timeout=request.timeout,
        job=job,
    )
    cpus = len(request.cpus) or usable_cpus()
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
        reporter.say(f"{state.cells[cell].row}: {failure}")
    _metrics_failed(state, measured.metric_failures, reporter)
    return measured


def _derive(
    host: Host,
    request: Request,
    prepared: Prepared,
    chosen: Chosen,
    state: State,
    processes: Processes,
    reporter: Reporter,
    recording: Recording,
) -> None:
    # The control has launches and no evaluation: there is nothing to derive that its noise floor could show.
    cells = [cell for cell in state.going() if not state.cells[cell].control]
    baseline = cell_id(prepared, chosen.baseline_row)
    failures = derive_all(host, request, chosen, cells, baseline, recording, processes)
    _metrics_failed(state, failures, reporter)


def _metrics_failed(
    state: State, failures: Mapping[tuple[str, str], MetricFailure], reporter: Reporter
) -> None:
    for (cell, name), failure in failures.items():
        state.metric_failures[cell, name] = failure
        reporter.say(f"{state.cells[cell].row}: metric {name} {failure.outcome}: {failure.cause}")


def _runtime_baselines(chosen: Chosen, cells: Mapping[str, Cell]) -> dict[str, str]:
    """The cell of the runtime baseline of each cell that has one in this run."""
    wanted = {entry.name: config(entry).runtime_baseline for entry in chosen.configs}
    places = {
        (cell.workload, cell.config, cell.threads): name for name, cell in cells.items() if not cell.control
    }
    found = {
        name: places.get((cell.workload, wanted[cell.config] or "", cell.threads))
        for name, cell in cells.items()
        if not cell.control
    }
    return {name: other for name, other in found.items() if other is not None}


def _room() -> int:
    """How many cells memory holds at once besides the baseline and the control."""
    import psutil

    return int(0.7 * psutil.virtual_memory().available / LAUNCH_BYTES) - 2
