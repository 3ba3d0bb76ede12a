"""Decide whether a metric or its cell is to blame for the death of a process."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import TypeVar

from attrs import Factory, define, field

from qx.foreign import to_line
from qx.host.host import Reference
from qx.processes.answers import Answer, Measurement, MetricFailure
from qx.processes.failures import MAX_CAUSE
from qx.processes.job_answers import DeriveAnswer
from qx.processes.jobs import DeriveJob, EvaluateJob
from qx.processes.logs import Subject
from qx.processes.workers import Failure, Processes, Progress
from qx.worker.finished import Finished
from qx.worker.samples import metric_in, stage_of

#: Number of cells of a workload in which a metric may hang. It is not measured in the cells that follow,
#: where it would cost the whole timeout each time.
HANGS = 2

#: The result of one metric: of an evaluation, and at each batch size of a derivation.
R = TypeVar("R", Measurement, DeriveAnswer)
A = TypeVar("A", bound=Answer)


def fatal_metric(failure: Failure, metrics: Iterable[Reference]) -> str | None:
    """Return which of these metrics a process was measuring when it failed; None if it was none of them.

    None too where the run's time was over, for which no metric is to blame.
    """
    name = None if failure.out_of_time else metric_in(failure.stage)
    return name if any(metric.name == name for metric in metrics) else None


@define
class Hangs:
    """The metrics of a workload that hung, each with the cells in which it hung."""

    _cells: dict[str, list[str]] = Factory(dict)
    # Cells are measured side by side.
    _lock: Lock = field(factory=Lock, init=False)

    def __getstate__(self) -> dict[str, list[str]]:
        """Return what another machine needs of it, which is all but the lock."""
        with self._lock:
            return {metric: list(cells) for metric, cells in self._cells.items()}

    def __setstate__(self, cells: dict[str, list[str]]) -> None:
        """Take what another machine has sent."""
        self._cells, self._lock = cells, Lock()

    def note(self, metric: str, cell: str, failure: Failure) -> None:
        """Remember a metric that hung in a cell. Other failures cost too little time to be counted."""
        if failure.outcome == "timeout":
            with self._lock:
                self._cells.setdefault(metric, []).append(cell)

    def skip_reason(self, metric: str) -> MetricFailure | None:
        """Return why a metric is not measured in the cells that follow; None if it is measured."""
        with self._lock:
            cells = self._cells.get(metric, [])
        if len(cells) < HANGS:
            return None
        return MetricFailure(
            "timeout", f"not measured here, since it timed out in {' and in '.join(cells[:HANGS])}"
        )


def run_past_metrics(
    processes: Processes,
    job: EvaluateJob | DeriveJob,
    kind: type[R],
    cell: str,
    hangs: Hangs,
    *,
    timeout: float,
    progress: Progress | None = None,
    subject: Subject | None = None,
) -> tuple[Answer, dict[str, R], dict[str, MetricFailure]]:
    """Run a job of a cell; if a metric ends its process, finish the job in a new process without that metric.

    The job names a folder for finished steps, ``kind`` is the record that it keeps for each metric, and
    ``cell`` is the name of the cell for readers, and ``subject`` what the output of the processes is kept
    for. Returns the answer, the result of each metric, and the
    failures of the metrics without a result.

    Raises ``Failure`` if a process fails outside of all metrics, which is the cell's own fault. There is an
    exception: metrics that were measured in that process before may have damaged it. Then the remaining steps
    are tried once more in a new process, unless the process hung. For the same reason a metric that raised an
    error after others had been measured in its process is tried once more, alone.
    """
    finished = Finished(job.finished)
    failures: dict[str, MetricFailure] = {}
    # Metrics that failed after others in one process, and whether they have been tried alone since.
    suspects: dict[str, bool] = {}

    def unfinished() -> list[str]:
        return [metric.name for metric in job.metrics if stage_of(metric.name) not in finished]

    while True:
        for name in unfinished():
            if (reason := hangs.skip_reason(name)) is not None:
                failures[name] = reason
                job = job.without(name)
        remaining = unfinished()
        answer: Answer | None = None
        try:
            answer = processes.run(job, f"{job.do}-{cell}", subject, timeout=timeout, progress=progress)
        except Failure as failure:
            fatal = fatal_metric(failure, job.metrics)
            if fatal is not None:
                failures[fatal] = failure.of_metric()
                hangs.note(fatal, cell, failure)
                job = job.without(fatal)
            elif failure.outcome == "timeout" or len(unfinished()) == len(remaining):
                raise
        measured = [name for name in remaining if stage_of(name) in finished]
        for name in measured[1:]:
            if _read(finished, name, kind).has_failed:
                suspects.setdefault(name, False)
        if answer is None:
            continue
        if (suspect := next((name for name, tried in suspects.items() if not tried), None)) is None:
            results = {metric.name: _read(finished, metric.name, kind) for metric in job.metrics}
            return answer, results, failures
        suspects[suspect] = True
        finished.forget(stage_of(suspect))


def _read(finished: Finished, metric: str, kind: type[R]) -> R:
    """Return the result of a metric. Raises ``Failure`` where a plugin has damaged it."""
    return read_step(finished, stage_of(metric), kind)


def read_step(finished: Finished, step: str, kind: type[A]) -> A:
    """Return the result of a step. Raises ``Failure`` where a plugin has damaged it."""
    try:
        return finished.read(step, kind)
    except (ValueError, RecursionError) as error:
        cause = f"the process has left a result that cannot be read: {error}"
        raise Failure("crashed", step, to_line(cause, MAX_CAUSE)) from error
