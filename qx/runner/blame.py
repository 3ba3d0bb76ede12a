"""Whose fault it is that a process has died: that of the metric which it was in, or that of its cell."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock

from attrs import Factory, define, field

from qx.host.host import Reference
from qx.processes.jobs import DeriveJob, EvaluateJob
from qx.processes.workers import Failure, MetricFailure, Processes, Progress
from qx.values import Json, JsonMapping, JsonObject
from qx.worker.finished import Finished
from qx.worker.samples import metric_in, stage_of

#: A metric that had no end in so many cells of a workload is not measured in those that are still to come: it
#: would cost the whole timeout in each.
HANGS = 2


def fatal_metric(failure: Failure, metrics: Iterable[Reference]) -> str | None:
    """The metric, among these, that a process was in when it ended badly; None where it was in none."""
    name = metric_in(failure.stage)
    return name if any(metric.name == name for metric in metrics) else None


@define
class Hangs:
    """The metrics of a workload that had no end, each with the cells where that was so."""

    _cells: dict[str, list[str]] = Factory(dict)
    # Cells are measured side by side.
    _lock: Lock = field(factory=Lock, init=False)

    def note(self, metric: str, cell: str, failure: Failure) -> None:
        """Remember a metric that hung in a cell. What dies at once costs too little to be held off."""
        if failure.outcome == "timeout":
            with self._lock:
                self._cells.setdefault(metric, []).append(cell)

    def skipped(self, metric: str) -> MetricFailure | None:
        """Why a metric is not measured in the cells that are still to come; None where it is."""
        with self._lock:
            cells = self._cells.get(metric, [])
        if len(cells) < HANGS:
            return None
        return MetricFailure("timeout", f"not measured here: it had no end in {' and '.join(cells[:HANGS])}")


def run_past_metrics(
    processes: Processes,
    job: EvaluateJob | DeriveJob,
    cell: str,
    hangs: Hangs,
    *,
    timeout: float,
    progress: Progress | None = None,
) -> tuple[JsonMapping, JsonObject, dict[str, MetricFailure]]:
    """Do a job of a cell, and where a metric ends its process, the rest in another, without that metric.

    The job has a folder for what is finished; ``cell`` is what a reader calls the cell. Returns the answer,
    what each metric gave, and how those failed that gave nothing. Raises ``Failure`` where a process ends
    badly outside of all metrics: the cell's own fault. But where metrics had been measured in that process,
    which may have left it damaged, what remains is tried once more in another, unless it hung. So is a metric
    that raised an error after others had been measured in its process: once, alone.
    """
    finished = Finished(job.finished)
    failures: dict[str, MetricFailure] = {}
    # Metrics that failed after others in one process, and whether they have been tried alone since.
    suspects: dict[str, bool] = {}

    def unfinished() -> list[str]:
        return [metric.name for metric in job.metrics if stage_of(metric.name) not in finished]

    while True:
        for name in unfinished():
            if (skipped := hangs.skipped(name)) is not None:
                failures[name] = skipped
                job = job.without(name)
        ahead, answer = unfinished(), None
        try:
            answer = processes.run(job, f"{job.do}-{cell}", timeout=timeout, progress=progress)
        except Failure as failure:
            fatal = fatal_metric(failure, job.metrics)
            if fatal is not None:
                failures[fatal] = MetricFailure(failure.outcome, failure.cause)
                hangs.note(fatal, cell, failure)
                job = job.without(fatal)
            elif failure.outcome == "timeout" or len(unfinished()) == len(ahead):
                raise
        measured = [name for name in ahead if stage_of(name) in finished]
        for name in measured[1:]:
            if _has_failed(finished[stage_of(name)]):
                suspects.setdefault(name, False)
        if answer is None:
            continue
        if (suspect := next((name for name, tried in suspects.items() if not tried), None)) is None:
            return answer, {metric.name: finished[stage_of(metric.name)] for metric in job.metrics}, failures
        suspects[suspect] = True
        finished.forget(stage_of(suspect))


def _has_failed(result: Json) -> bool:
    """Whether a metric raised an error, for one of the batch sizes at least."""
    return any("outcome" in part for part in (result if isinstance(result, list) else [result]))
