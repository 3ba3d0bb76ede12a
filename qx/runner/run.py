"""One run, from what was asked to the results."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from qx.environment import available_memory, describe_environment, usable_cpus
from qx.errors import UsageError
from qx.host import Host
from qx.jobs import LaunchJob
from qx.recording import Recording
from qx.records import CONTROL
from qx.results import Results
from qx.runner.assembly import Part, State, assemble, cell_id
from qx.runner.builds import build_all
from qx.runner.derivation import derive_all
from qx.runner.evaluation import MetricFailure, evaluate_all
from qx.runner.groups import grouped
from qx.runner.plan import LEAST_WAVES, Measured, Plan
from qx.runner.preparation import prepare
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
from qx.runner.waves import BudgetTooShort, measure_in_waves

#: The share of the free memory that launches may take.
MEMORY_SHARE = 0.7


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

        parts = _prepare(host, request, chosen, processes, reporter)
        if chosen.left_out:
            names = ", ".join(chosen.left_out)
            reporter.say(f"left out, because they train for minutes: {names} (--all takes every config)")
        going = [part for part in parts if part.prepared is not None]
        now = timed("prepare", began)
        for part in going:
            _build(host, request, part, processes, reporter)
        now = timed("build", now)
        for part in going:
            _evaluate(host, request, chosen, part, processes, reporter, recording)
        now = timed("evaluate", now)
        _measure_all(host, request, chosen, going, processes, reporter, recording)
        now = timed("measure", now)
        if chosen.metrics_of("derived"):
            for part in going:
                _derive(host, request, chosen, part, processes, reporter, recording)
            now = timed("derive", now)
    reporter.phase("analyse", "intervals, front, picks")
    seconds["total"] = now - began
    results = assemble(request, chosen, parts, recording, started, seconds, environment)
    return results, recording


def _prepare(
    host: Host, request: Request, chosen: Chosen, processes: Processes, reporter: Reporter
) -> list[Part]:
    """Every workload, prepared and with its cells planned.

    Among several, one that cannot be prepared costs its own cells. Raises ``UsageError`` where none can.
    """
    parts: list[Part] = []
    errors: list[UsageError] = []
    for entry in chosen.workloads:
        options = chosen.workload_options[entry.name]
        try:
            prepared = prepare(host, request, entry, processes, reporter, options, chosen.variants)
        except UsageError as error:
            errors.append(error)
            if len(errors) == len(chosen.workloads):
                raise errors[0] from error
            if len(chosen.workloads) > 1:
                reporter.say(f"{entry.name}: {error}")
            parts.append(Part(entry.name, None, _planned(chosen, request, entry.name, str(error))))
        else:
            name = prepared.workload.name
            parts.append(Part(name, prepared, _planned(chosen, request, name)))
            _set_aside(parts[-1], reporter)
    for part in parts:
        part.several = len(parts) > 1
    return parts


def _set_aside(part: Part, reporter: Reporter) -> None:
    """Give up the cells whose configs say that they cannot treat the model, before anything is built."""
    for cell in part.state.cells.values():
        failure = part.ready.untreatable.get(cell.config)
        if failure is not None and cell.id not in part.state.failures:
            part.state.failures[cell.id] = failure
            reporter.say(f"{part.name}: {cell.row}: {failure}")


def _planned(chosen: Chosen, request: Request, workload: str, error: str | None = None) -> State:
    """The cells of a workload; with ``error`` it could not be prepared."""
    cells, failures = {}, {}
    for variant in chosen.variants:
        cell = cell_of(workload, variant, request)
        cells[cell.id] = cell
        if variant.entry.state != "ready":
            failures[cell.id] = Failure("unavailable", "plan", variant.entry.reason)
        elif error is not None:
            failures[cell.id] = Failure("failed", "prepare", error)
    return State(cells=cells, builds={}, failures=failures, metric_failures={})


def _build(host: Host, request: Request, part: Part, processes: Processes, reporter: Reporter) -> None:
    state, prepared = part.state, part.ready
    due = [cell for cell in state.cells.values() if cell.id not in state.failures]
    for cell, ended in build_all(host, request, prepared, due, processes, reporter).items():
        if isinstance(ended, Failure):
            state.failures[cell] = ended
            reporter.say(f"{part.named(cell)}: {ended}")
        else:
            state.builds[cell] = ended


def _evaluate(
    host: Host,
    request: Request,
    chosen: Chosen,
    part: Part,
    processes: Processes,
    reporter: Reporter,
    recording: Recording,
) -> None:
    state = part.state
    ended = evaluate_all(
        host, request, part.ready, chosen, state.going(), state.cells, processes, reporter, recording
    )
    for cell, end in ended.items():
        if isinstance(end, Failure):
            state.failures[cell] = end
            reporter.say(f"{part.named(cell)}: {end}")
            continue
        part.launch_bytes = max(part.launch_bytes, end.launch_bytes)
        _metrics_failed(part, {(cell, name): failure for name, failure in end.failures.items()}, reporter)


def _measure_all(
    host: Host,
    request: Request,
    chosen: Chosen,
    parts: Sequence[Part],
    processes: Processes,
    reporter: Reporter,
    recording: Recording,
) -> None:
    """Time the cells of every workload.

    Among several, one whose share of the budget is too short costs its own timings. Raises ``UsageError``
    where all are.
    """
    due: dict[str, float] = {}
    for part in parts:
        try:
            _measure(host, request, chosen, part, len(parts), processes, reporter, recording)
        except BudgetTooShort as error:
            due[part.name] = error.due
            told = _too_short(request, due, len(parts))
            if len(due) == len(parts):
                raise UsageError(told) from error
            share = budget_of(request, len(chosen.variants), len(parts))
            _give_up_timing(part, chosen, told, Measured(ended_by="too short a budget", budget=share))
            reporter.say(told)


def _too_short(request: Request, due: Mapping[str, float], workloads: int) -> str:
    """What to give in place of the budget; ``due`` are the seconds of each workload that was refused."""
    name, seconds = max(due.items(), key=lambda item: item[1])
    shared, cells, enough = "", "these cells", "as much"
    if workloads > 1:
        shared, cells = f", shared by {workloads} workloads,", f"the cells of {name}"
        enough = f"{math.ceil(seconds * workloads)}"
    return (
        f"--budget {request.budget:g}{shared} is too short: {LEAST_WAVES} waves of {cells} take about "
        f"{seconds:.0f} s; give {enough}, or take a first look with --quick"
    )


def _give_up_timing(part: Part, chosen: Chosen, cause: str, measured: Measured) -> None:
    """Nothing of a workload is measured in launches, though its cells go on."""
    for cell in part.state.going():
        for entry in (*chosen.metrics_of("fresh"), *chosen.metrics_of("block")):
            part.state.metric_failures[cell, entry.name] = MetricFailure("failed", cause)
    part.measured = measured


def _measure(
    host: Host,
    request: Request,
    chosen: Chosen,
    part: Part,
    parts: int,
    processes: Processes,
    reporter: Reporter,
    recording: Recording,
) -> None:
    state, prepared = part.state, part.ready
    baseline = cell_id(part.name, chosen.baseline_row)
    if baseline in state.failures:
        cause = f"{chosen.baseline.name} did not end well, so nothing was timed"
        reporter.say(cause)
        _give_up_timing(part, chosen, cause, Measured(ended_by="the baseline failed"))
        return
    going = state.going()
    cells = {cell: state.cells[cell] for cell in going}
    control = Cell(
        id=cell_id(part.name, CONTROL),
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
            _room(part, reporter),
        ),
        cells=cells,
        artifacts=artifacts,
        baseline=baseline,
        fresh=chosen.metrics_of("fresh"),
        block=chosen.metrics_of("block"),
        batch_sizes=request.batch_sizes,
        precision=request.precision,
        cpus=request.cpus,
        budget=budget_of(request, len(cells) - 1, parts),
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
    of = f" of {part.name}" if part.several else ""
    reporter.phase("measure", f"{len(cells)} cells{of} in waves, at most {plan.budget:.0f} s")
    part.measured = measured = measure_in_waves(plan, processes, recording, reporter.step)
    state.cells[control.id] = control
    state.builds[control.id] = state.builds[baseline]
    for cell, failure in measured.failures.items():
        state.failures[cell] = failure
        reporter.say(f"{part.named(cell)}: {failure}")
    _metrics_failed(part, measured.metric_failures, reporter)


def _derive(
    host: Host,
    request: Request,
    chosen: Chosen,
    part: Part,
    processes: Processes,
    reporter: Reporter,
    recording: Recording,
) -> None:
    state = part.state
    # The control has launches and no evaluation: there is nothing to derive that its noise floor could show.
    cells = [cell for cell in state.going() if not state.cells[cell].control]
    baseline = cell_id(part.name, chosen.baseline_row)
    failures = derive_all(host, request, chosen, cells, baseline, recording, processes)
    _metrics_failed(part, failures, reporter)


def _metrics_failed(
    part: Part, failures: Mapping[tuple[str, str], MetricFailure], reporter: Reporter
) -> None:
    for (cell, name), failure in failures.items():
        part.state.metric_failures[cell, name] = failure
        reporter.say(f"{part.named(cell)}: metric {name} {failure.outcome}: {failure.cause}")


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


def _room(part: Part, reporter: Reporter) -> int:
    """How many cells memory holds at once besides the baseline and the control."""
    holds = int(MEMORY_SHARE * available_memory() / part.launch_bytes)
    if holds < 3:
        reporter.say(
            f"{part.name}: a launch takes about {part.launch_bytes / 2**30:.1f} GiB, so memory may not hold "
            f"the baseline, the control and a config at once"
        )
    return holds - 2
