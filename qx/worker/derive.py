"""Measure metrics that are derived from what was recorded of a cell and of the baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from qx.host import Host
from qx.jobs import DeriveJob
from qx.records import Metric, Recorded
from qx.worker.channel import Channel
from qx.worker.failures import outcome_of
from qx.worker.launch import samples_of
from qx.worker.plugins import context_for, host_for, options_of


def run(job: DeriveJob, channel: Channel) -> None:
    """Answer with samples for each metric and batch size, as a list; one that fails is told by itself."""
    host = host_for(job, job.metrics)
    samples, baseline = _recorded(Path(job.samples)), _recorded(Path(job.baseline))
    measured = []
    for reference in job.metrics:
        record = host.get("metric", reference.name).record
        assert isinstance(record, Metric)
        for batch_size in job.batch_sizes if record.per_batch_size else (None,):
            channel.stage(f"measure {reference.name}")
            data = Recorded(samples=samples, baseline=baseline, batch_size=batch_size)
            measured.append(
                {
                    "metric": reference.name,
                    "batch_size": batch_size,
                    **_measured(job, host, reference.name, data),
                }
            )
    channel.answer(metrics=measured)


def _measured(job: DeriveJob, host: Host, metric: str, data: Recorded) -> dict[str, Any]:
    context = context_for(job, options=options_of(host, metric, job.metric_options.get(metric, {})))
    try:
        return samples_of(host, metric, None, data, context)
    except (Exception, SystemExit) as error:
        outcome, cause = outcome_of(error)
        return {"outcome": outcome, "cause": cause}


def _recorded(path: Path) -> dict[tuple[str, int | None], Any]:
    """Arrays by metric and batch size, from keys ``metric`` and ``metric/batch_size``."""
    with np.load(path) as arrays:
        return {
            (name.partition("/")[0], int(size) if (size := name.partition("/")[2]) else None): arrays[name]
            for name in arrays.files
        }
