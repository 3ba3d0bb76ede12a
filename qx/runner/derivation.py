"""Derived metrics: one process per cell computes them from the recorded samples of cell and baseline."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from qx.contract.records import Metric
from qx.processes.answers import MetricFailure
from qx.processes.job_answers import DeriveAnswer, DerivedMeasurement
from qx.processes.jobs import DeriveJob
from qx.processes.workers import Failure
from qx.results.recording import Recording, Series
from qx.runner.blame import Hangs, run_past_metrics
from qx.runner.evaluation import sample_failure
from qx.runner.request import metric, references
from qx.runner.workload_run import Run, WorkloadRun
from qx.worker.derive import CellRecord


def derive_metrics(run: Run, workload_run: WorkloadRun) -> None:
    """Record the derived metrics of every cell of a workload that has not failed.

    Samples of metrics that have failed in a cell are not used.
    """
    failures = _derive(run, workload_run)
    # The control has launches and no evaluation, so metrics that are derived from outputs do not apply to it.
    relevant = {
        (cell, name): failure
        for (cell, name), failure in failures.items()
        if not workload_run.cells[cell].control
    }
    workload_run.mark_metrics_failed(relevant, run.reporter)


def _derive(run: Run, workload_run: WorkloadRun) -> dict[tuple[str, str], MetricFailure]:
    """Record the derived metrics, and return the failures by cell and metric."""
    baseline = run.chosen.baseline_cell(workload_run.name, run.request)
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
            # Any: `numpy.savez` takes the arrays as keywords, among its own options.
            arrays: dict[str, Any] = _recorded(recording, cell, failed).to_arrays()
            np.savez(path, **arrays)
        # Stands for the baseline if it failed: then nothing is derived from a baseline.
        empty = Path(folder) / "empty.npz"
        np.savez(empty)
        for index, (cell, path) in enumerate(paths.items()):
            finished = Path(folder) / f"finished-{index}"
            finished.mkdir()
            job = DeriveJob(
                seed=request.seed,
                wrappers=references(run.host.wrappers),
                samples=str(path),
                baseline=str(paths.get(baseline, empty)),
                outputs=_outputs(workload_run, cell),
                baseline_outputs=_outputs(workload_run, baseline) if baseline in paths else None,
                inputs=str(workload_run.ready.evaluation),
                items=workload_run.ready.items,
                points=workload_run.points(request.points),
                metrics=references(entries),
                metric_options=run.chosen.metric_options,
                finished=str(finished),
            )
            row = workload_run.cells[cell].row
            try:
                _, measured, dropped = run_past_metrics(
                    run.processes,
                    job,
                    DeriveAnswer,
                    row,
                    hangs,
                    timeout=request.timeout,
                    subject=workload_run.subject(cell),
                )
            except Failure as failure:
                # No metric is to blame, so the values that were derived before cannot be trusted either.
                dropped = dict.fromkeys(records, failure.of_metric())
                if failure.out_of_time and not workload_run.cells[cell].control:
                    workload_run.leave_out("derive", cell)
                measured = {}
            failures |= {(cell, name): failure for name, failure in dropped.items()}
            for measurement in (part for answer in measured.values() for part in answer.metrics):
                # A derived value is exact if all metrics that it is derived from are.
                is_exact = exact.issuperset(measurement.read)
                record = records[measurement.figure.metric]
                _record(workload_run, recording, cell, measurement, record, failures, is_exact)
    return failures


def _outputs(workload_run: WorkloadRun, cell: str) -> str | None:
    """Return the folder of the outputs of a cell; None where it has none."""
    return str(workload_run.outputs[cell]) if cell in workload_run.outputs else None


def _record(
    workload_run: WorkloadRun,
    recording: Recording,
    cell: str,
    measurement: DerivedMeasurement,
    record: Metric,
    failures: dict[tuple[str, str], MetricFailure],
    is_exact: bool,
) -> None:
    if measurement.failure is not None:
        failures[cell, record.name] = measurement.failure
    elif (samples := measurement.samples) is not None:
        items = len(next(iter(recording.outputs.get(cell, {}).values()), ()))
        if failure := sample_failure(record, samples, items, _waves(recording, cell)):
            failures[cell, record.name] = failure
        else:
            series = Series.plain(samples, exact=is_exact, looked=workload_run.is_looked_at(record))
            recording.add(cell, measurement.figure, series)


def _waves(recording: Recording, cell: str) -> int:
    """Return the number of waves that the samples of a cell come from."""
    all_series = recording.series.get(cell, {}).values()
    return max((int(series.wave.max(initial=-1)) + 1 for series in all_series), default=0)


def _recorded(recording: Recording, cell: str, failed: Collection[tuple[str, str]]) -> CellRecord:
    """Return the samples of a cell, without those of the metrics that have failed in it."""
    record = CellRecord()
    for figure, series in recording.series.get(cell, {}).items():
        if (cell, figure.metric) not in failed:
            record.values[figure] = series.values
            record.wave[figure], record.round[figure] = series.wave, series.round
    return record
