"""Derived metrics: a process per cell, given what was recorded of it and of the baseline."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from qx.contract.records import Metric
from qx.processes.jobs import DeriveJob
from qx.processes.workers import Failure, MetricFailure
from qx.results.recording import Recording, Series
from qx.runner.blame import Hangs, run_past_metrics
from qx.runner.evaluation import unpromised
from qx.runner.request import metric, references
from qx.runner.workload_run import Run, WorkloadRun, cell_id
from qx.values import JsonMapping


def derive_metrics(run: Run, workload_run: WorkloadRun) -> None:
    """Measure the derived metrics of every cell of a workload that has not failed, into the recording.

    From metrics that have failed in a cell nothing is derived, though they left samples.
    """
    failures = _derive(run, workload_run)
    # The control has launches and no evaluation: what is derived from outputs is not asked of it.
    asked = {
        place: failure for place, failure in failures.items() if not workload_run.cells[place[0]].control
    }
    workload_run.mark_metrics_failed(asked, run.reporter)


def _derive(run: Run, workload_run: WorkloadRun) -> dict[tuple[str, str], MetricFailure]:
    """Return the metrics that failed, by cell and name."""
    baseline = cell_id(workload_run.name, run.chosen.baseline_row)
    entries = workload_run.metrics_of(run.chosen, "derived")
    cells = list(workload_run.successful_builds())
    recording, failed = run.recording, workload_run.metric_failures
    request = run.request
    exact = {entry.name for entry in run.chosen.metrics_of("artifact")}
    records = {entry.name: metric(entry) for entry in entries}
    failures: dict[tuple[str, str], MetricFailure] = {}
    hangs = Hangs()
    with tempfile.TemporaryDirectory(dir=run.processes.folder) as folder:
        paths = {cell: Path(folder) / f"{index}.npz" for index, cell in enumerate(cells)}
        for cell, path in paths.items():
            np.savez(path, **_arrays(recording, cell, failed))
        # Where the baseline did not end well there is nothing to derive from it: not from the cell itself.
        nothing = Path(folder) / "nothing.npz"
        np.savez(nothing)
        for index, (cell, path) in enumerate(paths.items()):
            finished = Path(folder) / f"finished-{index}"
            finished.mkdir()
            job = DeriveJob(
                seed=request.seed,
                wrappers=references(run.host.wrappers),
                samples=str(path),
                baseline=str(paths.get(baseline, nothing)),
                inputs=str(workload_run.ready.evaluation),
                batch_sizes=request.batch_sizes,
                metrics=references(entries),
                metric_options=run.chosen.metric_options,
                finished=str(finished),
            )
            row = cell.rpartition("/")[2]
            try:
                _, measured, dropped = run_past_metrics(
                    run.processes, job, row, hangs, timeout=request.timeout
                )
            except Failure as failure:
                # It was in no metric: what was derived until then is not known to be sound.
                dropped = dict.fromkeys(records, MetricFailure(failure.outcome, failure.cause))
                measured = {}
            failures |= {(cell, name): failure for name, failure in dropped.items()}
            for given in chain.from_iterable(measured.values()):
                # One value is exact where all that it comes from is.
                whole_truth = set(given.pop("read", ())) <= exact
                record = records[given["metric"]]
                _record(recording, cell, {**given, "exact": whole_truth}, record, failures)
    return failures


def _record(
    recording: Recording,
    cell: str,
    given: JsonMapping,
    record: Metric,
    failures: dict[tuple[str, str], MetricFailure],
) -> None:
    if "outcome" in given:
        failures[cell, record.name] = MetricFailure(given["outcome"], given["cause"])
    elif given["values"] is not None:
        items = len(recording.outputs.get(cell, ()))
        if failure := unpromised(record, given, items, _waves(recording, cell)):
            failures[cell, record.name] = failure
        else:
            recording.add(cell, (record.name, given["batch_size"]), Series.plain(given))


def _waves(recording: Recording, cell: str) -> int:
    """How many waves the samples of a cell come from."""
    series = recording.series.get(cell, {}).values()
    return max((int(one.wave.max(initial=-1)) + 1 for one in series), default=0)


def _arrays(recording: Recording, cell: str, failed: Collection[tuple[str, str]]) -> dict[str, Any]:
    # Any: among the arrays that are written, numpy takes a switch.
    arrays = {
        f"{metric}|{size or ''}|{what}": getattr(series, what)
        for (metric, size), series in recording.series.get(cell, {}).items()
        if (cell, metric) not in failed
        for what in ("values", "wave", "round")
    }
    if cell in recording.outputs:
        arrays["outputs||values"] = recording.outputs[cell]
    return arrays
