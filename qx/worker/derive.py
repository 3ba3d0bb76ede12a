"""Measure metrics that are derived from what was recorded of a cell and of the baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from qx.jobs import DeriveJob
from qx.records import Metric, Recorded
from qx.worker.channel import Channel
from qx.worker.plugins import host_for
from qx.worker.samples import samples_or_failure


def run(job: DeriveJob, channel: Channel) -> None:
    """Answer with samples for each metric and batch size, as a list; one that fails is told by itself."""
    host = host_for(job, job.metrics)
    samples, waves = _recorded(Path(job.samples))
    baseline, _ = _recorded(Path(job.baseline))
    measured = []
    for reference in job.metrics:
        record = host.get("metric", reference.name).record
        assert isinstance(record, Metric)
        for batch_size in job.batch_sizes if record.per_batch_size else (None,):
            channel.stage(f"measure {reference.name}")
            data = Recorded(samples=samples, waves=waves, baseline=baseline, batch_size=batch_size)
            measured.append(
                {
                    "metric": reference.name,
                    "batch_size": batch_size,
                    **samples_or_failure(job, host, reference.name, data),
                }
            )
    channel.answer(metrics=measured)


Arrays: TypeAlias = "dict[tuple[str, int | None], Any]"


def _recorded(path: Path) -> tuple[Arrays, Arrays]:
    """Values and waves by metric and batch size, from keys ``metric|batch size|values`` and ``...|wave``."""
    found: dict[str, Arrays] = {"values": {}, "wave": {}}
    with np.load(path) as arrays:
        for key in arrays.files:
            name, size, what = key.split("|")
            found[what][name, int(size) if size else None] = arrays[key]
    return found["values"], found["wave"]
