"""The build phase: the artifact of every cell of a workload."""

from __future__ import annotations

from qx.environment import usable_cpus
from qx.processes.workers import Failure
from qx.results.cells import CellId
from qx.runner.builds import Build, build
from qx.runner.workload_run import Run, WorkloadRun


def build_cells(run: Run, workload_run: WorkloadRun) -> None:
    """Build the artifact of every cell that has not failed, as many in parallel as there are processors."""
    cells = {name: cell for name, cell in workload_run.cells.items() if name not in workload_run.failures}
    run.reporter.phase("build", f"{len(cells)} cells")

    def build_or_failure(cell: CellId) -> Build | Failure:
        try:
            return build(
                *(run.host, run.request, workload_run.ready, cell, run.processes, run.reporter),
                device=None if run.device is None else run.device.answer.facts,
                journal=run.journal,
            )
        except Failure as failure:
            return failure

    results: dict[str, Build | Failure] = {}
    processes = run.most_side_by_side(usable_cpus(), workload_run.ready.parameters)
    with run.processes.side_by_side(min(len(cells), processes)) as pool:
        futures = {name: pool.submit(build_or_failure, cell) for name, cell in cells.items()}
        for number, name in enumerate(cells, start=1):
            results[name] = futures[name].result()
            run.reporter.step(number / len(cells), f"{number} of {len(cells)}, {cells[name].row}")
    for name, result in results.items():
        if isinstance(result, Failure):
            workload_run.mark_failed(name, result, run.reporter, "build")
        else:
            workload_run.builds[name] = result
