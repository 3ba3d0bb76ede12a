"""Derived metrics: a process per cell, given what was recorded of it and of the baseline."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qx.host import Host
from qx.jobs import DeriveJob
from qx.recording import Recording, Series
from qx.runner.evaluation import MetricFailure
from qx.runner.processes import Failure, Processes
from qx.runner.request import Chosen, Request, references


def derive_all(
    host: Host,
    request: Request,
    chosen: Chosen,
    cells: Sequence[str],
    baseline: str,
    recording: Recording,
    processes: Processes,
) -> dict[tuple[str, str], MetricFailure]:
    """Measure the derived metrics of every cell into the recording; gives those that failed."""
    entries = chosen.metrics_of("derived")
    failures: dict[tuple[str, str], MetricFailure] = {}
    with tempfile.TemporaryDirectory(prefix="qx-") as folder:
        paths = {cell: Path(folder) / f"{index}.npz" for index, cell in enumerate(cells)}
        for cell, path in paths.items():
            np.savez(path, **_arrays(recording, cell))
        for cell, path in paths.items():
            job = DeriveJob(
                seed=request.seed,
                wrappers=references(host.wrappers),
                samples=str(path),
                baseline=str(paths.get(baseline, path)),
                batch_sizes=request.batch_sizes,
                metrics=references(entries),
            )
            try:
                answer = processes.run(job, f"derive-{cell.rpartition('/')[2]}", timeout=request.timeout)
            except Failure as failure:
                for entry in entries:
                    failures[cell, entry.name] = MetricFailure(failure.outcome, failure.cause)
                continue
            for given in answer["metrics"]:
                _record(recording, cell, given, failures)
    return failures


def _record(
    recording: Recording, cell: str, given: Mapping[str, Any], failures: dict[tuple[str, str], MetricFailure]
) -> None:
    if "outcome" in given:
        failures[cell, given["metric"]] = MetricFailure(given["outcome"], given["cause"])
    elif given["values"] is not None:
        key = (given["metric"], given["batch_size"])
        recording.add(cell, key, Series.plain(given))


def _arrays(recording: Recording, cell: str) -> dict[str, Any]:
    arrays = {
        f"{metric}|{size or ''}|{what}": getattr(series, what)
        for (metric, size), series in recording.series.get(cell, {}).items()
        for what in ("values", "wave")
    }
    if cell in recording.outputs:
        arrays["outputs||values"] = recording.outputs[cell]
    return arrays
