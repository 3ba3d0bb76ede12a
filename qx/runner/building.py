"""The build phase: the artifact of every cell of a workload."""

from __future__ import annotations

from qx.environment import usable_cpus
from qx.processes.workers import Failure
from qx.runner.builds import Build, build
from qx.runner.request import Cell
from qx.runner.workload_run import Run, WorkloadRun


def build_cells(run: Run, workload_run: WorkloadRun) -> None:
    """Build the artifact of every cell that has not failed, as many in parallel as there are processors."""
    cells = [cell for cell in workload_run.cells.values() if cell.id not in workload_run.failures]
    run.reporter.phase("build", f"{len(cells)} cells")

    def build_or_failure(cell: Cell) -> Build | Failure:
        try:
            return build(run.host, run.request, workload_run.ready, cell, run.processes, run.reporter)
        except Failure as failure:
            return failure

    results: dict[str, Build | Failure] = {}
    with run.processes.side_by_side(min(len(cells), usable_cpus())) as pool:
        futures = {cell.id: pool.submit(build_or_failure, cell) for cell in cells}
        for number, cell in enumerate(cells, start=1):
            results[cell.id] = futures[cell.id].result()
            run.reporter.step(number / len(cells), cell.row)
    for cell_id, result in results.items():
        if isinstance(result, Failure):
            workload_run.mark_failed(cell_id, result, run.reporter)
        else:
            workload_run.builds[cell_id] = result
