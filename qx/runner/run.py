"""One run, from what the user asks for to the results."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeAlias

from qx.errors import UsageError
from qx.host.host import Host
from qx.leftovers import unfinished_folder
from qx.processes.interruption import Interruption
from qx.processes.logs import Logs, logs_name, new_identity
from qx.processes.time_limit import TimeLimit
from qx.processes.workers import Failure, processes_of_a_run
from qx.repositories import describe_repositories
from qx.results.recording import Recording
from qx.results.records import Results
from qx.results.run_record import Repository
from qx.runner.assembly import assemble
from qx.runner.building import build_cells
from qx.runner.derivation import derive_metrics
from qx.runner.devices import open_run_device
from qx.runner.evaluation import check_room, evaluate_cells
from qx.runner.executor import Executor, LocalExecutor
from qx.runner.further import build_further, evaluate_further
from qx.runner.item_looks import check_quality_precision, evaluate_until_narrow
from qx.runner.journal import Journal, SittingHead, now
from qx.runner.measure.shares import BudgetShares
from qx.runner.measure.timing import measure_cells
from qx.runner.phase_limits import PREPARATION, PhaseLimit
from qx.runner.preparation import Prepared, prepare
from qx.runner.request import Reporter, Request, cell_of, choose, with_points
from qx.runner.resuming import check_identity, check_prepared
from qx.runner.resuming import identity as identity_of
from qx.runner.workload_run import Run, WorkloadRun
from qx.storage.cache import open_cache

#: Beginning of the name of the folder of outputs in the cache.
OUTPUTS = ".outputs-"


def run(
    host: Host,
    request: Request,
    reporter: Reporter,
    folder: Callable[[Sequence[str]], Path] | None = None,
    began: float | None = None,
    journal: Journal | None = None,
    interruption: Interruption | None = None,
    executor: Executor | None = None,
) -> tuple[Results, Recording]:
    """Carry out a request and return its results. Raises ``UsageError`` before anything is written.

    Only the logs of plugins' errors and outputs are written, and while the run goes on: ``folder`` returns
    the folder that they are written into, from the names of the workloads. Without it none are written.
    ``began`` is when its time began, by the monotonic clock in seconds; by default that is now. ``journal``
    keeps what is finished, and has what earlier sittings have finished; by default nothing is kept. Once an
    ``interruption`` is requested the run ends in order, and returns results of what there is. The
    ``executor`` decides where jobs are carried out; by default that is here.
    """
    executor = executor or LocalExecutor()
    journal, interruption = journal or Journal(), interruption or Interruption()
    request.check()
    chosen = choose(host, request)
    request = with_points(request, chosen)
    for name, users in chosen.added_baselines.items():
        reporter.say(f"{name} is added, as the runtime baseline of {', '.join(users)}")
    started = datetime.now(timezone.utc)
    identity = new_identity(started)
    workloads = [entry.name for entry in chosen.workloads]

    def logs_folder() -> Path:
        assert folder is not None
        return folder(workloads) / logs_name(identity)

    logs = Logs(
        None if folder is None else logs_folder, reporter.show if request.debug else None, reporter.say
    )
    clock = PhaseClock()
    # Before this run adds to the load of the machine, which is recorded too.
    environment = executor.begin(host, request, chosen, reporter)
    repositories = describe_repositories(_model_file(request))
    check_identity(journal, identity_of(host, request, chosen, environment | executor.kind))
    journal.write(SittingHead(started=now(), load_before=environment["load_before"]))
    environment["repositories"] = tuple(Repository(**fields) for fields in repositories)
    recording = Recording()
    limit = TimeLimit(request.max_time, time.monotonic() if began is None else began)
    with (
        processes_of_a_run(request.session, logs, limit) as processes,
        outputs_folder(request, journal) as outputs,
    ):
        processes.elsewhere = executor.elsewhere
        shares = BudgetShares.of(request.budget, len(chosen.workloads) * len(request.threads))
        device = open_run_device(request, processes, reporter)
        this_run = Run(
            *(host, request, chosen, processes, reporter, recording, shares, outputs, journal, interruption),
            device=device,
            executor=executor,
        )
        workload_runs = _prepare(this_run)
        for workload_run in workload_runs:
            if workload_run.prepared is not None:
                check_prepared(journal, workload_run.prepared)
        # The fallback may have replaced the default workload.
        workloads[:] = dict.fromkeys(workload_run.workload for workload_run in workload_runs)
        clock.end_phase("prepare")
        if chosen.left_out:
            names = ", ".join(chosen.left_out)
            reporter.say(f"left out, because they train for minutes: {names} (--all takes every config)")
        prepared = [workload_run for workload_run in workload_runs if workload_run.prepared is not None]
        check_room(this_run, prepared)
        check_quality_precision(this_run, prepared)
        if shares is not None:
            shares.workloads = shares.to_come = len(prepared)
        for phase, steps in PHASES.items():
            if phase == "derive" and not chosen.metrics_of("derived"):
                continue
            _let_interrupt(this_run, phase)
            _carry_out(this_run, phase, steps, prepared)
            _check_worth(this_run, prepared, phase)
            clock.end_phase(phase)
    reporter.phase("analyse", "intervals, front, picks")
    cluster = executor.record()
    if cluster is not None:
        environment["fingerprint"] = cluster.fingerprint
    results = assemble(
        request,
        chosen,
        workload_runs,
        recording,
        identity,
        started,
        clock.seconds,
        environment,
        {} if device is None else {device.name: device.answer.facts},
        journal,
        interruption,
        cluster,
    )
    return results, recording


def _carry_out(run: Run, phase: str, steps: Sequence[Step], workload_runs: Sequence[WorkloadRun]) -> None:
    """Carry out a phase: one workload after another, or all side by side where there are machines for it.

    Under ``--max-time`` they follow each other, since each takes a part of what those before it leave.
    """
    limit = run.processes.limit
    phase_limit = PhaseLimit(limit, phase, run.chosen, len(workload_runs))

    def carry_out(workload_run: WorkloadRun) -> None:
        for step in steps:
            step(run, workload_run)

    if run.executor.runs_side_by_side and limit.seconds is None and phase != "derive":
        phase_limit.begin(workload_runs[0])
        with run.processes.side_by_side(len(workload_runs)) as pool:
            for future in [pool.submit(carry_out, workload_run) for workload_run in workload_runs]:
                future.result()
        return
    for workload_run in workload_runs:
        phase_limit.begin(workload_run)
        carry_out(workload_run)
        phase_limit.end()


def _let_interrupt(run: Run, phase: str) -> None:
    """Say what Ctrl-C does in a phase: nothing of an earlier one than the evaluation could be shown."""
    if phase == "evaluate":
        run.interruption.end_in_order = run.processes.cut_off
    elif phase in ("measure", "derive"):
        run.interruption.end_in_order = lambda: None


def _check_worth(run: Run, workload_runs: Sequence[WorkloadRun], phase: str) -> None:
    """End an interrupted run at once where no baseline was evaluated: there is nothing to compare with."""
    if phase != "evaluate" or run.interruption.signal is None:
        return
    baselines = [run.chosen.baseline_cell(part.name, run.request) for part in workload_runs]
    if not any(cell in part.outputs for cell, part in zip(baselines, workload_runs, strict=True)):
        signal.raise_signal(run.interruption.signal)


@contextmanager
def outputs_folder(request: Request, journal: Journal | None = None) -> Iterator[Path]:
    """Yield a folder for the outputs of all cells: that of the journal, or one that is removed at the end.

    That lies in the cache, since the system's folder for temporary files may be one in memory.
    """
    if journal is not None and (evaluations := journal.evaluations) is not None:
        yield evaluations
        return
    with unfinished_folder(open_cache(request.trust_cache), OUTPUTS) as folder:
        yield folder


#: A step of a phase: what it does for a workload.
Step: TypeAlias = Callable[[Run, WorkloadRun], None]
#: The phases that follow the preparation of the workloads in this order, each with its steps.
PHASES: Mapping[str, Sequence[Step]] = {
    "build": (build_cells, build_further),
    "evaluate": (evaluate_until_narrow, evaluate_cells, evaluate_further),
    "measure": (measure_cells,),
    "derive": (derive_metrics,),
}


class PhaseClock:
    """A clock of the phases: how long each took, and all of them together (``total``), in seconds."""

    def __init__(self) -> None:
        self._began = self._since = time.monotonic()
        self.seconds: dict[str, float] = {}

    def end_phase(self, phase: str) -> None:
        """Note how long a phase took, which ends now and the next one begins."""
        now = time.monotonic()
        # The total stays the last entry.
        self.seconds.pop("total", None)
        self.seconds[phase] = now - self._since
        self.seconds["total"] = now - self._began
        self._since = now


def _model_file(request: Request) -> Path | None:
    """Return the file of ``--model``; None where it names a module, or is not given."""
    file = Path(request.model.get("model", "").rpartition(":")[0])
    return file.absolute() if file.suffix == ".py" and file.is_file() else None


def _prepare(run: Run) -> list[WorkloadRun]:
    """Prepare every workload and plan its cells, for each number of threads by themselves.

    If one of several workloads cannot be prepared, its own cells fail. Raises ``UsageError`` if none can be.
    """
    chosen, request, reporter = run.chosen, run.request, run.reporter
    workload_runs: list[WorkloadRun] = []
    errors: list[UsageError] = []
    for number, entry in enumerate(chosen.workloads):
        options = chosen.workload_options[entry.name]
        limit = run.processes.limit
        limit.allow(PREPARATION * limit.left / (len(chosen.workloads) - number), "the preparation")
        try:
            prepared = prepare(run.host, request, entry, run.processes, reporter, options, chosen.variants)
        except UsageError as error:
            errors.append(error)
            if len(errors) == len(chosen.workloads):
                raise errors[0] from error
            if len(chosen.workloads) > 1:
                reporter.say(f"{entry.name}: {error}")
            workload_runs += [_plan(run, part, error=str(error)) for part in request.parts(entry.name)]
        else:
            for part in request.parts(prepared.workload.name):
                workload_runs.append(_plan(run, part, prepared))
                workload_runs[-1].leave_out_metrics(chosen, reporter)
                _leave_out_refused(workload_runs[-1], reporter)
    return workload_runs


def _leave_out_refused(workload_run: WorkloadRun, reporter: Reporter) -> None:
    """Mark the cells failed whose configs refuse the model in ``check_model``, before anything is built."""
    refusals = {
        name: failure
        for name, cell in workload_run.cells.items()
        if name not in workload_run.failures
        and (failure := workload_run.ready.refusals.get(cell.config)) is not None
    }
    workload_run.mark_all_failed(refusals, reporter)


def _plan(run: Run, workload: str, prepared: Prepared | None = None, error: str | None = None) -> WorkloadRun:
    """Plan the cells of a workload. If it could not be prepared, ``error`` says why."""
    cells, failures = {}, {}
    for variant in run.chosen.variants:
        cell = cell_of(workload, variant, run.request)
        cells[str(cell)] = cell
        if variant.entry.state != "ready":
            failures[str(cell)] = Failure("unavailable", "plan", variant.entry.reason)
        elif error is not None:
            failures[str(cell)] = Failure("failed", "prepare", error)
    return WorkloadRun(
        workload,
        prepared,
        cells,
        run.request.seed,
        failures=failures,
        is_one_of_several=len(run.chosen.workloads) * len(run.request.threads) > 1,
        logs=run.processes.logs,
    )
