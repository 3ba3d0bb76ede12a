"""Evaluation: the metrics of artifacts and of predictions, one process per cell."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from qx.environment import usable_cpus
from qx.host import Host
from qx.jobs import EvaluateJob
from qx.recording import Recording, Series
from qx.records import Metric, Outcome
from qx.runner.builds import Build
from qx.runner.preparation import Prepared
from qx.runner.processes import Failure, Processes
from qx.runner.request import Cell, Chosen, Reporter, Request, metric, references
from qx.worker.memory import MIB

#: Items that are evaluated in one call, unless they take more bytes than that: what a network makes of its
#: input on the way takes many times as much.
BATCH_SIZE, BATCH_BYTES = 100, 16 << 20


@frozen
class MetricFailure:
    """A metric that could not be measured of a cell."""

    outcome: Outcome
    cause: str


@frozen
class Evaluated:
    """What came of a cell's evaluation, besides the recording."""

    failures: dict[str, MetricFailure]
    #: Bytes that a launch of it is to be reckoned with.
    launch_bytes: float


def evaluation_batch_size(prepared: Prepared) -> int:
    """Items that are evaluated in one call."""
    return max(1, min(BATCH_SIZE, BATCH_BYTES // max(1, prepared.item_bytes), prepared.items))


def evaluate_all(
    host: Host,
    request: Request,
    prepared: Prepared,
    chosen: Chosen,
    cells: Mapping[str, Build],
    threads: Mapping[str, Cell],
    processes: Processes,
    reporter: Reporter,
    recording: Recording,
) -> dict[str, Failure | Evaluated]:
    """Evaluate every built cell, as many side by side as their threads leave processors, and memory holds.

    Gives for each cell how it failed, or which of its metrics did and what memory it takes.
    """
    size = evaluation_batch_size(prepared)
    reporter.phase("evaluate", f"{prepared.items} items, {len(cells)} cells")
    shares = dict.fromkeys(cells, 0.0)

    def one(cell: str) -> Failure | Evaluated:
        def progress(done: float, text: str) -> None:
            shares[cell] = done
            reporter.step(sum(shares.values()) / len(shares), threads[cell].row)

        with tempfile.TemporaryDirectory(prefix="qx-") as folder:
            outputs = Path(folder) / "outputs.npy"
            job = EvaluateJob(
                seed=request.seed,
                threads=threads[cell].threads,
                engine=prepared.engine,
                wrappers=references(host.wrappers),
                artifact=str(cells[cell].artifact),
                inputs=str(prepared.evaluation),
                batch_size=size,
                artifact_metrics=references(chosen.metrics_of("artifact")),
                prediction_metrics=references(chosen.metrics_of("predictions")),
                metric_options=chosen.metric_options,
                outputs=str(outputs),
            )
            try:
                answer = processes.run(
                    job, f"evaluate-{threads[cell].row}", timeout=request.timeout, progress=progress
                )
            except Failure as failure:
                return failure
            recording.outputs[cell] = np.load(outputs)
            failed = _recorded(recording, cell, answer["metrics"], chosen, prepared.items)
            return Evaluated(failed, _launch_bytes(answer["memory"], max(request.batch_sizes) / size))

    with processes.side_by_side(usable_cpus() // request.threads) as pool:
        futures = {cell: pool.submit(one, cell) for cell in cells}
        return {cell: future.result() for cell, future in futures.items()}


def _launch_bytes(memory: Mapping[str, float], scale: float) -> float:
    """What a launch holds: the loaded artifact, and what it makes of a batch ``scale`` times as large."""
    working = memory["peak"] - memory["loaded"]
    return (memory["loaded"] + max(1.0, scale) * working) * MIB


def miscounted(record: Metric, given: Mapping[str, Any], items: int) -> MetricFailure | None:
    """A failure where a metric gave another number of values than its record promises."""
    count = len(given["values"])
    due = {"exact": 1, "per_item": items}.get(record.samples, 1 if record.phase == "fresh" else count)
    if count == due:
        return None
    cause = f"{record.name}: its samples are {record.samples!r}, so {due} values are due, and it gave {count}"
    return MetricFailure("failed", cause)


def _recorded(
    recording: Recording, cell: str, answers: Mapping[str, Any], chosen: Chosen, items: int
) -> dict[str, MetricFailure]:
    records = {entry.name: metric(entry) for entry in chosen.metrics}
    failures = {}
    for name, given in answers.items():
        if "outcome" in given:
            failures[name] = MetricFailure(given["outcome"], given["cause"])
        elif given["values"] is None:
            continue
        elif failure := miscounted(records[name], given, items):
            failures[name] = failure
        else:
            recording.add(cell, (name, None), Series.plain(given))
    return failures
