"""One run, from what was asked to the results."""

from __future__ import annotations

import time
from datetime import datetime, timezone

from qx.environment import describe_environment
from qx.errors import UsageError
from qx.host.host import Host
from qx.processes.workers import Failure, processes_of_a_run
from qx.results.recording import Recording
from qx.results.records import Results
from qx.runner.assembly import assemble
from qx.runner.builds import build_all
from qx.runner.derivation import derive_all
from qx.runner.evaluation import evaluate_all
from qx.runner.measure.timing import measure_all
from qx.runner.preparation import prepare
from qx.runner.request import Chosen, Reporter, Request, cell_of, choose, config
from qx.runner.state import Part, Run, State, cell_id


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
    with processes_of_a_run() as processes:
        this = Run(host, request, chosen, processes, reporter, recording)

        def timed(phase: str, since: float) -> float:
            now = time.monotonic()
            seconds[phase] = now - since
            return now

        parts = _prepare(this)
        if chosen.left_out:
            names = ", ".join(chosen.left_out)
            reporter.say(f"left out, because they train for minutes: {names} (--all takes every config)")
        going = [part for part in parts if part.prepared is not None]
        now = timed("prepare", began)
        for part in going:
            _build(this, part)
        now = timed("build", now)
        for part in going:
            _evaluate(this, part)
        now = timed("evaluate", now)
        measure_all(this, going)
        now = timed("measure", now)
        if chosen.metrics_of("derived"):
            for part in going:
                _derive(this, part)
            now = timed("derive", now)
    reporter.phase("analyse", "intervals, front, picks")
    seconds["total"] = now - began
    results = assemble(request, chosen, parts, recording, started, seconds, environment)
    return results, recording


def _prepare(run: Run) -> list[Part]:
    """Every workload, prepared and with its cells planned.

    Among several, one that cannot be prepared costs its own cells. Raises ``UsageError`` where none can.
    """
    chosen, request, reporter = run.chosen, run.request, run.reporter
    parts: list[Part] = []
    errors: list[UsageError] = []
    for entry in chosen.workloads:
        options = chosen.workload_options[entry.name]
        try:
            prepared = prepare(run.host, request, entry, run.processes, reporter, options, chosen.variants)
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
            parts[-1].leave_out_metrics(chosen, reporter)
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


def _build(run: Run, part: Part) -> None:
    state = part.state
    due = [cell for cell in state.cells.values() if cell.id not in state.failures]
    builds = build_all(run.host, run.request, part.ready, due, run.processes, run.reporter)
    for cell, ended in builds.items():
        if isinstance(ended, Failure):
            part.give_up(cell, ended, run.reporter)
        else:
            state.builds[cell] = ended


def _evaluate(run: Run, part: Part) -> None:
    for cell, ended in evaluate_all(run, part).items():
        if isinstance(ended, Failure):
            part.give_up(cell, ended, run.reporter)
            continue
        part.launch_bytes = max(part.launch_bytes, ended.launch_bytes)
        failures = {(cell, name): failure for name, failure in ended.failures.items()}
        part.give_up_metrics(failures, run.reporter)


def _derive(run: Run, part: Part) -> None:
    baseline = cell_id(part.name, run.chosen.baseline_row)
    entries = part.metrics_of(run.chosen, "derived")
    failures = derive_all(run, part, entries, list(part.state.going()), baseline)
    # The control has launches and no evaluation: what is derived from outputs is not due from it.
    due = {place: failure for place, failure in failures.items() if not part.state.cells[place[0]].control}
    part.give_up_metrics(due, run.reporter)
