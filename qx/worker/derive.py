"""Measure metrics that are derived from what was recorded of a cell and of the baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from qx.jobs import DeriveJob
from qx.records import Metric, Recorded
from qx.worker.arrays import Split
from qx.worker.channel import Channel
from qx.worker.plugins import host_for
from qx.worker.samples import samples_or_failure


def run(job: DeriveJob, channel: Channel) -> None:
    """Answer with samples for each metric and batch size, as a list; one that fails is told by itself."""
    host = host_for(job, job.metrics)
    own, baseline = _recorded(Path(job.samples)), _recorded(Path(job.baseline))["values"]
    items = Split.read(Path(job.inputs)) if job.inputs else None
    measured = []
    for reference in job.metrics:
        record = host.get("metric", reference.name).record
        assert isinstance(record, Metric)
        for batch_size in job.batch_sizes if record.per_batch_size else (None,):
            channel.stage(f"measure {reference.name}")
            read: set[str] = set()
            data = Recorded(
                samples=Noted(own["values"], read),
                waves=own["wave"],
                rounds=own["round"],
                baseline=Noted(baseline, read),
                batch_size=batch_size,
                labels=None if items is None else items.labels,
                classes=() if items is None else items.classes,
            )
            given = samples_or_failure(job, host, reference.name, data)
            measured.append(
                {"metric": reference.name, "batch_size": batch_size, **given, "read": sorted(read)}
            )
    channel.answer(metrics=measured)


Key: TypeAlias = "tuple[str, int | None]"
Arrays: TypeAlias = "dict[Key, Any]"


class Noted(Mapping[Key, Any]):
    """Samples by metric and batch size, with a note of the metrics whose samples somebody took.

    What one value is derived from decides whether it is exact.
    """

    def __init__(self, samples: Arrays, read: set[str]) -> None:
        self._samples, self._read = samples, read

    def __getitem__(self, key: Key) -> Any:
        value = self._samples[key]
        self._read.add(key[0])
        return value

    def __iter__(self) -> Iterator[Key]:
        return iter(self._samples)

    def __len__(self) -> int:
        return len(self._samples)


def _recorded(path: Path) -> dict[str, Arrays]:
    """Values, waves and rounds by metric and batch size, from keys ``metric|batch size|values``."""
    found: dict[str, Arrays] = {"values": {}, "wave": {}, "round": {}}
    with np.load(path) as arrays:
        for key in arrays.files:
            name, size, what = key.split("|")
            found[what][name, int(size) if size else None] = arrays[key]
    return found
