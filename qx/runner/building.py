"""The build phase: the artifact of every cell of a workload."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest

from qx.leftovers import unfinished_folder
from qx.processes.workers import Failure
from qx.results.cells import CellId
from qx.runner.builds import Build, build
from qx.runner.request import config
from qx.runner.workload_run import Run, WorkloadRun

#: Beginning of the name of the folder for what several builds share.
SHARED = "shared-"


def build_cells(run: Run, workload_run: WorkloadRun) -> None:
    """Build the artifact of every cell that has not failed, as many in parallel as there are processors.

    What several of them start from is made by the first, in a folder that is removed at the end.
    """
    cells = {name: cell for name, cell in workload_run.cells.items() if name not in workload_run.failures}
    run.reporter.phase("build", f"{len(cells)} cells")

    def build_or_failure(cell: CellId) -> Build | Failure:
        try:
            return build(
                *(run.host, run.request, workload_run.ready, cell, run.processes, run.reporter),
                device=None if run.device is None else run.device.answer.facts,
                flags=run.executor.cpu_flags,
                journal=run.journal,
                shared=shared,
            )
        except Failure as failure:
            return failure

    results: dict[str, Build | Failure] = {}
    processes = run.most_side_by_side(run.executor.cpus, workload_run.ready.parameters)
    with (
        unfinished_folder(run.processes.folder, SHARED) as shared,
        run.processes.side_by_side(min(len(cells), processes)) as pool,
    ):
        futures = {name: pool.submit(build_or_failure, cell) for name, cell in in_turns(run, cells).items()}
        for number, name in enumerate(cells, start=1):
            results[name] = futures[name].result()
            run.reporter.step(number / len(cells), f"{number} of {len(cells)}, {cells[name].row}")
    failures = {name: result for name, result in results.items() if isinstance(result, Failure)}
    workload_run.mark_all_failed(failures, run.reporter, "build")
    workload_run.builds.update(
        (name, result) for name, result in results.items() if not isinstance(result, Failure)
    )


def in_turns(run: Run, cells: Mapping[str, CellId]) -> dict[str, CellId]:
    """Return the cells so that runtimes take turns, and nobody waits for a long build at the end.

    First comes one cell of each runtime, which makes what the others start from. Of these, and of what is
    left, those come first that compile, since that takes longest.
    """
    runtimes: dict[str, list[str]] = {}
    compiling = set()
    for name, cell in cells.items():
        record = config(run.host.get("config", cell.config))
        runtimes.setdefault(record.runtime_baseline or record.name, []).append(name)
        if record.programs:
            compiling.add(name)
    turns = [[name for name in turn if name is not None] for turn in zip_longest(*runtimes.values())]
    parts = *turns[:1], [name for turn in turns[1:] for name in turn]
    order = [name for part in parts for name in sorted(part, key=lambda name: name not in compiling)]
    return {name: cells[name] for name in order}
