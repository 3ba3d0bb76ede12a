"""Derived metrics: a process per cell, given what was recorded of it and of the baseline."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qx.host import Entry
from qx.jobs import DeriveJob
from qx.recording import Recording, Series
from qx.records import Metric
from qx.runner.evaluation import unpromised
from qx.runner.processes import Failure, MetricFailure
from qx.runner.request import metric, references
from qx.runner.state import Part, Run


def derive_all(
    run: Run, part: Part, entries: Sequence[Entry], cells: Sequence[str], baseline: str
) -> dict[tuple[str, str], MetricFailure]:
    """Measure derived metrics, ``entries``, of these cells into the recording; gives those that failed.

    From metrics that have failed in a cell nothing is derived, though they left samples.
    """
    request, recording, failed = run.request, run.recording, part.state.metric_failures
    exact = {entry.name for entry in run.chosen.metrics_of("artifact")}
    failures: dict[tuple[str, str], MetricFailure] = {}
    with tempfile.TemporaryDirectory(dir=run.processes.folder) as folder:
        paths = {cell: Path(folder) / f"{index}.npz" for index, cell in enumerate(cells)}
        for cell, path in paths.items():
            np.savez(path, **_arrays(recording, cell, failed))
        # Where the baseline did not end well there is nothing to derive from it: not from the cell itself.
        nothing = Path(folder) / "nothing.npz"
        np.savez(nothing)
        for cell, path in paths.items():
            job = DeriveJob(
                seed=request.seed,
                wrappers=references(run.host.wrappers),
                samples=str(path),
                baseline=str(paths.get(baseline, nothing)),
                inputs=str(part.ready.evaluation),
                batch_sizes=request.batch_sizes,
                metrics=references(entries),
                metric_options=run.chosen.metric_options,
            )
            try:
                answer = run.processes.run(job, f"derive-{cell.rpartition('/')[2]}", timeout=request.timeout)
            except Failure as failure:
                for entry in entries:
                    failures[cell, entry.name] = MetricFailure(failure.outcome, failure.cause)
                continue
            records = {entry.name: metric(entry) for entry in entries}
            for given in answer["metrics"]:
                # One value is exact where all that it comes from is.
                whole_truth = set(given.pop("read")) <= exact
                record = records[given["metric"]]
                _record(recording, cell, {**given, "exact": whole_truth}, record, failures)
    return failures


def _record(
    recording: Recording,
    cell: str,
    given: Mapping[str, Any],
    record: Metric,
    failures: dict[tuple[str, str], MetricFailure],
) -> None:
    if "outcome" in given:
        failures[cell, record.name] = MetricFailure(given["outcome"], given["cause"])
    elif given["values"] is not None:
        items = len(recording.outputs.get(cell, ()))
        if failure := unpromised(record, given, items):
            failures[cell, record.name] = failure
        else:
            recording.add(cell, (record.name, given["batch_size"]), Series.plain(given))


def _arrays(recording: Recording, cell: str, failed: Collection[tuple[str, str]]) -> dict[str, Any]:
    arrays = {
        f"{metric}|{size or ''}|{what}": getattr(series, what)
        for (metric, size), series in recording.series.get(cell, {}).items()
        if (cell, metric) not in failed
        for what in ("values", "wave", "round")
    }
    if cell in recording.outputs:
        arrays["outputs||values"] = recording.outputs[cell]
    return arrays
