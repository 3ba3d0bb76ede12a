"""Evaluation: the metrics of artifacts and of predictions, one process per cell."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from attrs import frozen

from qx.contract.records import Metric
from qx.environment import usable_cpus
from qx.processes.jobs import EvaluateJob
from qx.processes.workers import Failure, MetricFailure
from qx.results.recording import Recording, Series
from qx.runner.blame import Hangs, run_past_metrics
from qx.runner.preparation import Prepared
from qx.runner.request import Chosen, metric, references
from qx.runner.state import Part, Run
from qx.values import JsonMapping
from qx.worker.memory import MIB

#: Items that are evaluated in one call, unless they take more bytes than that: what a network makes of its
#: input on the way takes many times as much.
BATCH_SIZE, BATCH_BYTES = 100, 16 << 20


@frozen
class Evaluated:
    """What came of a cell's evaluation, besides the recording."""

    failures: dict[str, MetricFailure]
    #: Bytes that a launch of it is to be reckoned with.
    launch_bytes: float


def evaluation_batch_size(prepared: Prepared) -> int:
    """Items that are evaluated in one call."""
    return max(1, min(BATCH_SIZE, BATCH_BYTES // max(1, prepared.item_bytes), prepared.items))


def evaluate_all(run: Run, part: Part) -> dict[str, Failure | Evaluated]:
    """Evaluate every built cell, as many side by side as their threads leave processors.

    Gives for each cell how it failed, or which of its metrics did and what memory it takes. A metric that
    ends the process of a cell is not measured of it again, and what was finished before is kept.
    """
    request, state, cells = run.request, part.state, part.state.going()
    run.reporter.phase("evaluate", f"{part.ready.items} items, {len(cells)} cells")
    shares = dict.fromkeys(cells, 0.0)
    hangs = Hangs()

    def one(cell: str) -> Failure | Evaluated:
        def progress(done: float, text: str) -> None:
            shares[cell] = done
            run.reporter.step(sum(shares.values()) / len(shares), state.cells[cell].row)

        with tempfile.TemporaryDirectory(dir=run.processes.folder) as folder:
            job = _job(run, part, cell, Path(folder))
            try:
                answer, measured, failures = run_past_metrics(
                    run.processes,
                    job,
                    state.cells[cell].row,
                    hangs,
                    timeout=request.timeout,
                    progress=progress,
                )
            except Failure as failure:
                return failure
            run.recording.outputs[cell] = np.load(job.outputs)
        failures |= _recorded(run.recording, cell, measured, run.chosen, part.ready.items)
        return Evaluated(failures, _launch_bytes(answer["memory"], max(request.batch_sizes) / job.batch_size))

    with run.processes.side_by_side(usable_cpus() // request.threads) as pool:
        futures = {cell: pool.submit(one, cell) for cell in cells}
        return {cell: future.result() for cell, future in futures.items()}


def _job(run: Run, part: Part, cell: str, folder: Path) -> EvaluateJob:
    return EvaluateJob(
        seed=run.request.seed,
        threads=part.state.cells[cell].threads,
        engine=part.ready.engine,
        wrappers=references(run.host.wrappers),
        artifact=part.state.builds[cell].stored,
        inputs=str(part.ready.evaluation),
        batch_size=evaluation_batch_size(part.ready),
        artifact_metrics=references(part.metrics_of(run.chosen, "artifact")),
        prediction_metrics=references(part.metrics_of(run.chosen, "predictions")),
        metric_options=run.chosen.metric_options,
        outputs=str(folder / "outputs.npy"),
        finished=str(folder),
    )


def _launch_bytes(memory: Mapping[str, float], scale: float) -> float:
    """What a launch holds: the loaded artifact, and what it makes of a batch ``scale`` times as large."""
    working = memory["peak"] - memory["loaded"]
    return (memory["loaded"] + max(1.0, scale) * working) * MIB


def unpromised(
    record: Metric, given: JsonMapping, items: int, waves: int | None = None
) -> MetricFailure | None:
    """A failure where a metric gave not as many values as its record promises, or not their places.

    ``waves`` is how many waves there are that values can come from; None leaves that unchecked.
    """
    if record.phase == "derived" and record.samples == "per_block":
        places = [given.get(what, (-1,)) for what in ("waves", "rounds")]
        if min(place for each in places for place in each) < 0:
            cause = (
                f"{record.name}: its samples are {record.samples!r}, so each value needs a wave and a round: "
                f"pass on `data.waves` and `data.rounds` of a metric of phase 'block'"
            )
            return MetricFailure("failed", cause)
    last = max(given.get("waves", (-1,)))
    if waves is not None and last >= waves:
        cause = f"{record.name}: it gave samples of wave {last}, counted from 0, and there are {waves} waves"
        return MetricFailure("failed", cause)
    count = len(given["values"])
    due = {"exact": 1, "per_set": 1, "per_item": items}.get(
        record.samples, 1 if record.phase == "fresh" else count
    )
    if count == due:
        return None
    cause = f"{record.name}: its samples are {record.samples!r}, so {due} values are due, and it gave {count}"
    return MetricFailure("failed", cause)


def _recorded(
    recording: Recording, cell: str, answers: JsonMapping, chosen: Chosen, items: int
) -> dict[str, MetricFailure]:
    records = {entry.name: metric(entry) for entry in chosen.metrics}
    failures = {}
    for name, given in answers.items():
        if "outcome" in given:
            failures[name] = MetricFailure(given["outcome"], given["cause"])
        elif given["values"] is None:
            continue
        elif failure := unpromised(records[name], given, items, waves=0):
            failures[name] = failure
        else:
            recording.add(cell, (name, None), Series.plain(given))
    return failures
