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
    own, baseline = _recorded(Path(job.samples)), _recorded(Path(job.baseline))["values"]
    measured = []
    for reference in job.metrics:
        record = host.get("metric", reference.name).record
        assert isinstance(record, Metric)
        for batch_size in job.batch_sizes if record.per_batch_size else (None,):
            channel.stage(f"measure {reference.name}")
            data = Recorded(
                samples=own["values"],
                waves=own["wave"],
                rounds=own["round"],
                baseline=baseline,
                batch_size=batch_size,
            )
            measured.append(
                {
                    "metric": reference.name,
                    "batch_size": batch_size,
                    **samples_or_failure(job, host, reference.name, data),
                }
            )
    channel.answer(metrics=measured)


Arrays: TypeAlias = "dict[tuple[str, int | None], Any]"


def _recorded(path: Path) -> dict[str, Arrays]:
    """Values, waves and rounds by metric and batch size, from keys ``metric|batch size|values``."""
    found: dict[str, Arrays] = {"values": {}, "wave": {}, "round": {}}
    with np.load(path) as arrays:
        for key in arrays.files:
            name, size, what = key.split("|")
            found[what][name, int(size) if size else None] = arrays[key]
    return found
