"""Further builds of cells, with other seeds: built and evaluated like the first, and not timed.

A config that calibrates or trains is built with every seed. Any other is built with one, which shows whether
its build depends on the seed; only if it does, the others follow. Builds whose artifacts are equal are
evaluated once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from qx.contract.figures import Figure
from qx.processes.workers import Failure
from qx.results.recording import Series
from qx.runner.blame import Hangs
from qx.runner.builds import Build, build
from qx.runner.evaluation import Evaluation, evaluate_artifact
from qx.runner.request import config, metric
from qx.runner.workload_run import Run, WorkloadRun

#: A cell, and the seed of a build of it.
CellSeed: TypeAlias = tuple[str, int]
T = TypeVar("T")


def build_further(run: Run, workload_run: WorkloadRun) -> None:
    """Build the cells that were built with the run's own seed with the further seeds, too."""
    seeds = run.request.further_seeds
    cells = workload_run.successful_builds()
    if not seeds or not cells:
        return
    certain = {cell for cell in cells if _draws_data(run, workload_run, cell)}
    first = [(cell, seed) for cell in cells for seed in (seeds if cell in certain else seeds[:1])]
    run.reporter.phase("build", f"{len(cells)} cells with further seeds")
    _build(run, workload_run, first)
    differing = [cell for cell in cells if cell not in certain and _differs(workload_run, cell, seeds[0])]
    _build(run, workload_run, [(cell, seed) for cell in differing for seed in seeds[1:]])


def _draws_data(run: Run, workload_run: WorkloadRun, cell: str) -> bool:
    """Return whether the config of a cell says that it uses data, which are drawn anew for each seed."""
    record = config(run.host.get("config", workload_run.cells[cell].config))
    return record.calibration or record.training


def _differs(workload_run: WorkloadRun, cell: str, seed: int) -> bool:
    """Return whether a build with a further seed ended well, with another artifact than the first."""
    ended_well = not isinstance(workload_run.further[cell, seed], Failure)
    return ended_well and workload_run.same_as(cell, seed) is None


def _build(run: Run, workload_run: WorkloadRun, pairs: Sequence[CellSeed]) -> None:
    def carry_out(cell: str, seed: int) -> Build:
        return build(
            run.host,
            run.request,
            workload_run.ready,
            workload_run.cells[cell],
            run.processes,
            run.reporter,
            seed,
            device=None if run.device is None else run.device.answer.facts,
            journal=run.journal,
        )

    results = _side_by_side(run, workload_run, pairs, carry_out, run.executor.cpus)
    for (cell, seed), result in results.items():
        workload_run.further[cell, seed] = result
        _report(run, workload_run, cell, seed, result)


def evaluate_further(run: Run, workload_run: WorkloadRun) -> None:
    """Evaluate the further builds of every cell that has not failed, each different artifact once."""
    cells = workload_run.successful_builds()
    pairs = [
        (cell, seed)
        for (cell, seed), result in workload_run.further.items()
        if cell in cells and not isinstance(result, Failure) and workload_run.same_as(cell, seed) is None
    ]
    if not pairs:
        return
    run.reporter.phase("evaluate", f"{workload_run.ready.items} items, {len(pairs)} further builds")
    hangs, records = Hangs(), {entry.name: metric(entry) for entry in run.chosen.metrics}

    def carry_out(cell: str, seed: int) -> Evaluation:
        result = workload_run.further[cell, seed]
        assert isinstance(result, Build)
        return evaluate_artifact(run, workload_run, cell, result, hangs, seed=seed)

    processes = run.executor.cpus // workload_run.threads
    for (cell, seed), result in _side_by_side(run, workload_run, pairs, carry_out, processes).items():
        if isinstance(result, Failure):
            workload_run.further[cell, seed] = result
            _report(run, workload_run, cell, seed, result)
            continue
        for name, samples in result.samples.items():
            series = Series.plain(samples, looked=workload_run.is_looked_at(records[name]))
            run.recording.add_further(cell, seed, Figure(name), series)
        workload_run.further_metric_failures[cell, seed] = result.failures
        for name, failure in result.failures.items():
            label = f"{workload_run.label(cell)}, build with seed {seed}"
            run.reporter.note(f"{label}: metric {name} {failure.outcome}: {failure.cause}")


def _side_by_side(
    run: Run,
    workload_run: WorkloadRun,
    pairs: Sequence[CellSeed],
    carry_out: Callable[[str, int], T],
    processes: int,
) -> dict[CellSeed, T | Failure]:
    """Return what ``carry_out`` gives for each cell and seed, or its failure; so many at a time."""

    def result_or_failure(cell: str, seed: int) -> T | Failure:
        try:
            return carry_out(cell, seed)
        except Failure as failure:
            return failure

    results: dict[CellSeed, T | Failure] = {}
    if not pairs:
        return results
    most = run.most_side_by_side(max(1, processes), workload_run.ready.parameters)
    with run.processes.side_by_side(min(len(pairs), most)) as pool:
        futures = {pair: pool.submit(result_or_failure, *pair) for pair in pairs}
        for number, (cell, seed) in enumerate(pairs, start=1):
            results[cell, seed] = futures[cell, seed].result()
            row = workload_run.cells[cell].row
            run.reporter.step(number / len(pairs), f"{number} of {len(pairs)}, {row} with seed {seed}")
    return results


def _report(run: Run, workload_run: WorkloadRun, cell: str, seed: int, result: object) -> None:
    if isinstance(result, Failure):
        run.reporter.note(f"{workload_run.label(cell)}, build with seed {seed}: {result}")
