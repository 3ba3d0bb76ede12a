"""The measure phase: plan and run the waves of launches of a workload, and report what failed."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from itertools import product

from attrs import evolve

from qx.analysis.settled import Decisions
from qx.contract.figures import Point
from qx.errors import UsageError
from qx.processes.answers import MetricFailure
from qx.results.cells import CellId
from qx.results.run_record import TIME_LIMIT
from qx.runner import devices
from qx.runner.devices import RunDevice, hold_device
from qx.runner.evaluation import LEAST_LAUNCH_BYTES
from qx.runner.executor import MOST_LOST, MachineLost
from qx.runner.journal import GroupsRecord
from qx.runner.measure.groups import grouped
from qx.runner.measure.log import WaveLog
from qx.runner.measure.plan import INTERRUPTED, LEAST_WAVES, MACHINES_LOST, LaunchJobs, Measured, Plan
from qx.runner.measure.waves import BudgetTooShort, measure_in_waves
from qx.runner.request import (
    QUICK_WAVES,
    Chosen,
    Reporter,
    Request,
    budget_of,
    config,
    metric,
    references,
    with_axis,
)
from qx.runner.workload_run import Run, WorkloadRun
from qx.storage.cache import open_cache

#: A budget in seconds that ends the waves as soon as there are as many as needed.
SHORTEST = 1e-3
#: The largest share of the free memory that launches may take together.
MEMORY_SHARE = 0.7


def measure_cells(run: Run, workload_run: WorkloadRun) -> None:
    """Measure the cells of a workload in launches.

    If one of several workloads has too short a share of the budget, it takes from the shares of those that
    follow. If even that is too short, this workload is not timed. Raises ``UsageError`` if none can be timed.
    """
    shares = run.budget_shares
    began = time.monotonic()
    try:
        _measure(run, workload_run)
    except MachineLost as lost:
        cause = f"not measured: {lost}"
        _mark_not_timed(run, workload_run, cause, Measured(ended_by=MACHINES_LOST))
    except BudgetTooShort as error:
        assert shares is not None
        refusal = shares.refuse(workload_run.name, error.needed)
        if shares.refused == shares.workloads:
            raise UsageError(refusal) from error
        _mark_not_timed(
            run, workload_run, refusal, Measured(ended_by="too short a budget", budget=shares.largest_share)
        )
    if shares is not None and not run.request.quick:
        # A quick look refuses no workload, so its shares stay equal.
        shares.spend(time.monotonic() - began, workload_run.measured.needed)


def measure_waves(
    run: Run, workload_run: WorkloadRun, waves: int, seed: int, budget: float = SHORTEST
) -> None:
    """Measure the cells of a workload in so many waves at least, and in more while a budget in seconds lasts.

    ``seed`` makes the order of cells differ from that of other waves of the same cells.
    """
    baseline = run.chosen.baseline_cell(workload_run.name, run.request)
    control = evolve(workload_run.cells[baseline], label="", control=True)
    plan = evolve(
        _plan(run, workload_run, baseline, control),
        budget=budget,
        max_budget=None,
        least_waves=waves,
        # What is decided by these waves is not what results decide.
        decisions=None,
        seed=run.request.seed + seed,
    )
    run.reporter.phase("measure", f"{len(plan.cells)} cells, {waves} waves")
    workload_run.measured = measure_in_waves(plan, run.processes, run.recording, run.reporter.step)
    for cell, failure in workload_run.measured.failures.items():
        workload_run.mark_failed(cell, failure, run.reporter)


def _mark_not_timed(run: Run, workload_run: WorkloadRun, cause: str, measured: Measured) -> None:
    """Note that nothing of a workload is measured in launches; its cells do not fail."""
    run.reporter.say(cause)
    for cell in workload_run.successful_builds():
        for entry in (
            *workload_run.metrics_of(run.chosen, "fresh"),
            *workload_run.metrics_of(run.chosen, "block"),
        ):
            workload_run.metric_failures[cell, entry.name] = MetricFailure("failed", cause)
    workload_run.measured = measured


def _measure(run: Run, workload_run: WorkloadRun) -> None:
    """Measure the cells of a workload, with its share of the budget. Raises ``BudgetTooShort``."""
    reporter = run.reporter
    baseline = run.chosen.baseline_cell(workload_run.name, run.request)
    if baseline in workload_run.failures:
        cause = f"{run.chosen.baseline.name} did not end well, so nothing was timed"
        _mark_not_timed(run, workload_run, cause, Measured(ended_by="the baseline failed"))
        return
    control = evolve(workload_run.cells[baseline], label="", control=True)
    log = WaveLog.of(run, workload_run, str(control))
    if run.interruption.is_requested and not log.earlier:
        cause = "not measured when the run was interrupted"
        _mark_not_timed(run, workload_run, cause, Measured(ended_by=INTERRUPTED))
        for cell in workload_run.successful_builds():
            workload_run.leave_out("measure", cell)
        return
    plan = _plan(run, workload_run, baseline, control)
    cpus = len(run.request.cpus) or run.executor.cpus_of_one
    if workload_run.threads > cpus:
        reporter.say(
            f"--threads {workload_run.threads} on {cpus} CPUs: threads wait for each other, so latencies are "
            f"longer and less steady than on a machine that has as many"
        )
    workload = f" of {workload_run.name}" if workload_run.is_one_of_several else ""
    if plan.fresh or plan.block:
        limit = f"{plan.budget:.0f} s, or as long as {plan.least_waves} waves take"
        if plan.max_budget is not None:
            limit = f"at most {plan.budget:.0f} s"
            if plan.max_budget > plan.budget:
                limit += f", or {plan.max_budget:.0f} s if {plan.least_waves} waves need it"
        if math.isfinite(left := plan.end - time.monotonic()):
            limit += f"; {max(0.0, left):.0f} s are left of --max-time"
        reporter.phase("measure", f"{len(plan.cells)} cells{workload} in waves, {limit}")
    with hold_device(open_cache(run.request.trust_cache), run.request.device, reporter):
        workload_run.measured = _measure_on_one_machine(run, workload_run, plan, log)
    workload_run.cells[str(control)] = control
    workload_run.builds[str(control)] = workload_run.builds[baseline]
    _note_time_limit(run, workload_run, plan)
    for cell, failure in workload_run.measured.failures.items():
        workload_run.mark_failed(cell, failure, reporter)
    workload_run.mark_metrics_failed(workload_run.measured.metric_failures, reporter)


def _measure_on_one_machine(run: Run, workload_run: WorkloadRun, plan: Plan, log: WaveLog) -> Measured:
    """Run the waves of a workload on one machine; where that is lost, all of them on another one.

    Raises ``BudgetTooShort``, and ``MachineLost`` where too many machines were lost.
    """
    for attempt in range(MOST_LOST + 1):
        try:
            with run.executor.machine_for(plan, workload_run.name, run.processes.limit) as machine:
                return measure_in_waves(
                    *(plan, run.processes, run.recording, run.reporter.step),
                    log.on(machine.fingerprint),
                    machine.measure,
                )
        except MachineLost as lost:
            if attempt == MOST_LOST or not lost.is_gone:
                raise
            run.reporter.say(f"{workload_run.name}: {lost}; it is measured anew on another machine")
    raise AssertionError("unreachable")


def _note_time_limit(run: Run, workload_run: WorkloadRun, plan: Plan) -> None:
    """Note the metrics of cells for which waves ended too early: those without a complete wave."""
    measured = workload_run.measured
    if measured.ended_by not in (TIME_LIMIT, INTERRUPTED):
        return
    cause = "not measured when the run was interrupted"
    if measured.ended_by == TIME_LIMIT:
        cause = run.processes.limit.cause("not measured")
    failure = MetricFailure("timeout", cause)
    measured_pairs = {(cell, figure.metric) for cell, figure in measured.parts}
    for cell, name in product(plan.cells, [entry.name for entry in (*plan.fresh, *plan.block)]):
        is_missing = (cell, name) not in measured_pairs | measured.dropped
        if is_missing and not plan.cells[cell].control and cell not in measured.failures:
            measured.drop_metric(cell, name, failure)
            workload_run.leave_out("measure", cell)


def _plan(run: Run, workload_run: WorkloadRun, baseline: str, control: CellId) -> Plan:
    shares = run.budget_shares
    request, chosen = run.request, run.chosen
    builds = workload_run.successful_builds()
    cells = {cell: workload_run.cells[cell] for cell in builds} | {str(control): control}
    artifacts = {cell: build.stored for cell, build in builds.items()}
    kinds, refused = workload_run.kinds, workload_run.refused_lengths
    fresh, block = workload_run.metrics_of(chosen, "fresh"), workload_run.metrics_of(chosen, "block")

    points = {name: _points_of_launch(request, refused.get(name, {})) for name in builds}
    job = LaunchJobs(
        seed=request.seed,
        engine=workload_run.ready.engine,
        wrappers=references(run.host.wrappers),
        compiled=run.compiled,
        inputs=str(workload_run.ready.evaluation),
        lengths={length: str(folder) for length, folder in workload_run.ready.lengths.items()},
        points=points | {str(control): points[baseline]},
        metrics=references((*fresh, *block)),
        metric_options=chosen.metric_options,
        cpus=request.cpus or None,
    )

    return Plan(
        groups=_groups(run, workload_run, baseline, control),
        cells=cells,
        artifacts=artifacts | {str(control): artifacts[baseline]},
        baseline=baseline,
        fresh=fresh,
        block=block,
        points=workload_run.points(request.points),
        kinds=kinds | {str(control): kinds.get(baseline, ())},
        refused_lengths=refused | {str(control): refused.get(baseline, {})},
        precision=request.precision,
        cpus=request.cpus,
        budget=budget_of(request, len(builds)) if shares is None else shares.equal_share,
        max_budget=None if shares is None or request.quick else shares.largest_share,
        least_waves=QUICK_WAVES if request.quick else LEAST_WAVES,
        end=run.processes.limit.end,
        seed=request.seed,
        timeout=request.timeout,
        device=request.device,
        decisions=_decisions(run, workload_run, baseline, control),
        job=job,
    )


def _decisions(run: Run, workload_run: WorkloadRun, baseline: str, control: CellId) -> Decisions:
    """Return what the results of a workload will decide about its cells."""
    return Decisions(
        metrics=tuple(
            with_axis(metric(entry), run.chosen, run.request)
            for entry in run.chosen.metrics
            if workload_run.applies(entry)
        ),
        points=workload_run.points(run.request.points),
        baseline=baseline,
        control=str(control),
        cells=tuple(workload_run.successful_builds()),
        constraints=run.request.constraints,
        failed=frozenset(workload_run.metric_failures),
    )


def _groups(
    run: Run, workload_run: WorkloadRun, baseline: str, control: CellId
) -> tuple[tuple[str, ...], ...]:
    """Return the cells that share waves: as in earlier sittings, and those that were in none in others."""
    others = [cell for cell in workload_run.successful_builds() if cell != baseline]
    noted = [record for record in run.journal.of(GroupsRecord) if record.workload == workload_run.name]
    present = {baseline, str(control), *others}
    groups = tuple(
        tuple(cell for cell in group if cell in present) for group in (noted[-1].groups if noted else ())
    )
    further = [cell for cell in others if all(cell not in group for group in groups)]
    if further or not groups:
        cells = {cell: workload_run.cells[cell] for cell in [baseline, *others]} | {str(control): control}
        groups += grouped(
            baseline,
            str(control),
            further,
            _runtime_baselines(run.chosen, cells),
            int(
                min(
                    _room(run.executor.available_memory(), workload_run, run.reporter),
                    _device_room(workload_run, run.reporter, run.device),
                )
            ),
        )
        run.journal.write(GroupsRecord(workload=workload_run.name, groups=groups))
    return groups


def _points_of_launch(request: Request, refused: Collection[int]) -> tuple[Point, ...]:
    """Return the points at which a launch serves the run; with inputs as the data have them if at none."""
    points = tuple(point for point in request.points if point.length not in refused)
    return points or tuple(map(Point, request.batch_sizes))


def _runtime_baselines(chosen: Chosen, cells: Mapping[str, CellId]) -> dict[str, str]:
    """Return for each cell the cell of its runtime baseline, if that is part of this run."""
    baselines = {entry.name: config(entry).runtime_baseline for entry in chosen.configs}
    names = {(cell.place, cell.config): name for name, cell in cells.items() if not cell.control}
    pairs = {
        name: names.get((cell.place, baselines[cell.config] or ""))
        for name, cell in cells.items()
        if not cell.control
    }
    return {name: baseline for name, baseline in pairs.items() if baseline is not None}


def _room(free: int, workload_run: WorkloadRun, reporter: Reporter) -> int:
    """Return how many cells so much free memory holds at once, besides the baseline and the control."""
    sizes = sorted(workload_run.launch_bytes.values(), reverse=True) or [LEAST_LAUNCH_BYTES]
    return _cells_in(MEMORY_SHARE * free, "memory", sizes, workload_run.name, reporter)


def _device_room(workload_run: WorkloadRun, reporter: Reporter, device: RunDevice | None) -> float:
    """Return the same of the memory of the device; infinity without a device, and where it is not known."""
    if device is None or not workload_run.device_bytes:
        return math.inf
    room = devices.MEMORY_SHARE * device.free_bytes
    sizes = [workload_run.device_bytes]
    return _cells_in(room, f"the memory of {device.name}", sizes, workload_run.name, reporter)


def _cells_in(room: float, memory: str, sizes: Sequence[float], workload: str, reporter: Reporter) -> int:
    """Return how many cells a memory has room for, besides the baseline and the control.

    ``sizes`` are the bytes that launches take, the largest first. Those behind the last take as much as it,
    and the baseline and the control as much as the largest.
    """
    largest = sizes[0]
    if room < 3 * largest:
        reporter.say(
            f"{workload}: a launch takes about {largest / 2**30:.1f} GiB, so "
            f"{memory} may not hold the baseline, the control and a config at once"
        )
    room -= 2 * largest
    for count, size in enumerate(sizes):
        if size > room:
            return count
        room -= size
    return len(sizes) + int(room / sizes[-1])
