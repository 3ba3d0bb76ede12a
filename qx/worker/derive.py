"""Measure metrics that are derived from what was recorded of a cell and of the baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from qx.contract.records import Metric, Recorded
from qx.host.host import Reference
from qx.processes.jobs import DeriveJob
from qx.values import Array, JsonObject
from qx.worker.arrays import Split
from qx.worker.channel import Channel
from qx.worker.finished import Finished
from qx.worker.plugins import host_for
from qx.worker.samples import failure, samples_or_failure, stage_of


def run(job: DeriveJob, channel: Channel) -> None:
    """Answer with samples for each metric and batch size, as a list; one that fails is told by itself.

    Where the job names a folder for what is finished, the samples are left there instead, a list for each
    metric; and what an earlier process has finished is not done again.
    """
    own, baseline = _recorded(Path(job.samples)), _recorded(Path(job.baseline))["values"]
    items = Split.read(Path(job.inputs)) if job.inputs else None
    finished = Finished(job.finished)
    measured = []
    for metric in job.metrics:
        channel.stage(stage_of(metric.name))
        step = partial(_measured, job, metric, own, baseline, items, channel)
        measured += finished.step(stage_of(metric.name), step)
    channel.answer(**({} if job.finished else {"metrics": measured}))


def _measured(
    job: DeriveJob,
    metric: Reference,
    own: Mapping[str, Arrays],
    baseline: Arrays,
    items: Split | None,
    channel: Channel,
) -> list[JsonObject]:
    """The samples of one metric, at each batch size where it has them; with the metrics that it ``read``."""
    try:
        record = host_for(job, (metric,)).get("metric", metric.name).record
    except BaseException as error:
        return [{"metric": metric.name, "batch_size": None, **failure(error)}]
    assert isinstance(record, Metric)
    measured = []
    for batch_size in job.batch_sizes if record.per_batch_size else (None,):
        # The time that it has begins anew.
        channel.stage(stage_of(metric.name))
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
        answer = samples_or_failure(job, metric, data)
        measured.append({"metric": metric.name, "batch_size": batch_size, **answer, "read": sorted(read)})
    return measured


Key: TypeAlias = "tuple[str, int | None]"
Arrays: TypeAlias = "dict[Key, Array]"


class Noted(Mapping[Key, Array]):
    """Samples by metric and batch size, with a note of the metrics whose samples somebody took.

    What one value is derived from decides whether it is exact.
    """

    def __init__(self, samples: Arrays, read: set[str]) -> None:
        self._samples, self._read = samples, read

    def __getitem__(self, key: Key) -> Array:
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
