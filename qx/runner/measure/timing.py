"""The phase that measures in launches: for each workload the waves are planned, run, and told."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from attrs import define

from qx.contract.records import CONTROL
from qx.environment import available_memory, usable_cpus
from qx.errors import UsageError
from qx.processes.jobs import LaunchJob, StoredArtifact
from qx.processes.workers import MetricFailure
from qx.runner.measure.groups import grouped
from qx.runner.measure.plan import LEAST_WAVES, Measured, Plan
from qx.runner.measure.waves import BudgetTooShort, measure_in_waves
from qx.runner.request import QUICK_WAVES, Cell, Chosen, Reporter, budget_of, config, references
from qx.runner.state import Part, Run, cell_id

#: The share of the free memory that launches may take.
MEMORY_SHARE = 0.7


@define
class _Shares:
    """The seconds that the user gave, for workloads that are measured one after another."""

    given: float
    workloads: int
    #: What is left, and for how many.
    left: float
    to_come: int
    #: The most that any workload is known to need for its least number of waves.
    needed: float = 0.0

    @property
    def equal(self) -> float:
        """What the next is planned with."""
        return round(max(0.0, self.left) / self.to_come, 2)

    @property
    def most(self) -> float:
        """What the next may take where its least number of waves needs it.

        That leaves half of an equal share of all that was given to each that comes after it.
        """
        kept = (self.to_come - 1) * self.given / self.workloads / 2
        return max(self.equal, round(self.left - kept, 2))

    @property
    def enough(self) -> int:
        """What to give, for all together, so that none is refused."""
        return math.ceil(max(self.workloads * self.needed, self.given + self.needed - self.most))


def measure_all(run: Run, parts: Sequence[Part]) -> None:
    """Measure the cells of every workload in launches.

    Among several, one whose share of the budget is too short takes of what the others would have; where even
    that is too short, it costs its own timings. Raises ``UsageError`` where it is so for all.
    """
    given = run.request.budget
    shares = None if given is None else _Shares(given, len(parts), left=given, to_come=len(parts))
    refused = 0
    for part in parts:
        began = time.monotonic()
        try:
            _measure(run, part, shares)
        except BudgetTooShort as error:
            assert shares is not None
            refused += 1
            shares.needed = max(shares.needed, error.due)
            told = _too_short(shares, part.name, error.due)
            if refused == len(parts):
                raise UsageError(told) from error
            _give_up_timing(run, part, told, Measured(ended_by="too short a budget", budget=shares.most))
        if shares is not None and not run.request.quick:
            # A look refuses nobody, so its shares are what they are.
            shares.needed = max(shares.needed, part.measured.due)
            shares.left -= time.monotonic() - began
            shares.to_come -= 1


def _too_short(shares: _Shares, name: str, due: float) -> str:
    """That the least number of waves of a workload takes ``due`` seconds, and what to give for all."""
    shared, cells, enough = "", "these cells", "as much"
    if shares.workloads > 1:
        shared, cells = f", shared by {shares.workloads} workloads,", f"the cells of {name}"
        enough = f"{shares.enough}"
    return (
        f"--budget {shares.given:g}{shared} is too short: {LEAST_WAVES} waves of {cells} take about "
        f"{due:.0f} s; give {enough}, or take a first look with --quick"
    )


def _give_up_timing(run: Run, part: Part, cause: str, measured: Measured) -> None:
    """Nothing of a workload is measured in launches, though its cells go on."""
    run.reporter.say(cause)
    for cell in part.state.going():
        for entry in (*part.metrics_of(run.chosen, "fresh"), *part.metrics_of(run.chosen, "block")):
            part.state.metric_failures[cell, entry.name] = MetricFailure("failed", cause)
    part.measured = measured


def _measure(run: Run, part: Part, shares: _Shares | None) -> None:
    """Measure the cells of a workload, with its share of what was given. Raises ``BudgetTooShort``."""
    state, reporter = part.state, run.reporter
    baseline = cell_id(part.name, run.chosen.baseline_row)
    if baseline in state.failures:
        cause = f"{run.chosen.baseline.name} did not end well, so nothing was timed"
        _give_up_timing(run, part, cause, Measured(ended_by="the baseline failed"))
        return
    control = Cell(
        id=cell_id(part.name, CONTROL),
        workload=part.ready.workload.name,
        config=run.chosen.baseline.name,
        threads=run.request.threads,
        options=state.cells[baseline].options,
        control=True,
    )
    plan = _planned(run, part, baseline, control, shares)
    cpus = len(run.request.cpus) or usable_cpus()
    if run.request.threads > cpus:
        reporter.say(
            f"--threads {run.request.threads} on {cpus} CPUs: threads wait for each other, so latencies are "
            f"longer and less steady than on a machine that has as many"
        )
    of = f" of {part.name}" if part.several else ""
    if plan.fresh or plan.block:
        limit = f"{plan.budget:.0f} s, or as long as {plan.least_waves} waves take"
        if plan.most is not None:
            limit = f"at most {plan.budget:.0f} s"
            if plan.most > plan.budget:
                limit += f", or {plan.most:.0f} s if {plan.least_waves} waves need it"
        reporter.phase("measure", f"{len(plan.cells)} cells{of} in waves, {limit}")
    part.measured = measure_in_waves(plan, run.processes, run.recording, reporter.step)
    state.cells[control.id] = control
    state.builds[control.id] = state.builds[baseline]
    for cell, failure in part.measured.failures.items():
        part.give_up(cell, failure, reporter)
    part.give_up_metrics(part.measured.metric_failures, reporter)


def _planned(run: Run, part: Part, baseline: str, control: Cell, shares: _Shares | None) -> Plan:
    request, chosen = run.request, run.chosen
    going = part.state.going()
    cells = {cell: part.state.cells[cell] for cell in going} | {control.id: control}
    artifacts = {cell: build.stored for cell, build in going.items()}
    fresh, block = part.metrics_of(chosen, "fresh"), part.metrics_of(chosen, "block")

    def job(cell: Cell, artifact: StoredArtifact, spawned_ns: int) -> LaunchJob:
        return LaunchJob(
            seed=request.seed,
            threads=cell.threads,
            engine=part.ready.engine,
            wrappers=references(run.host.wrappers),
            artifact=artifact,
            inputs=str(part.ready.evaluation),
            batch_sizes=request.batch_sizes,
            metrics=references((*fresh, *block)),
            metric_options=chosen.metric_options,
            spawned_ns=spawned_ns,
            cpus=request.cpus or None,
        )

    return Plan(
        groups=grouped(
            baseline,
            control.id,
            [cell for cell in going if cell != baseline],
            _runtime_baselines(chosen, cells),
            _room(part, run.reporter),
        ),
        cells=cells,
        artifacts=artifacts | {control.id: artifacts[baseline]},
        baseline=baseline,
        fresh=fresh,
        block=block,
        batch_sizes=request.batch_sizes,
        precision=request.precision,
        cpus=request.cpus,
        budget=budget_of(request, len(going)) if shares is None else shares.equal,
        most=None if shares is None or request.quick else shares.most,
        least_waves=QUICK_WAVES if request.quick else LEAST_WAVES,
        seed=request.seed,
        timeout=request.timeout,
        job=job,
    )


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
