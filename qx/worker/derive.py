"""Measure the metrics that are derived from the recorded samples of a cell and of the baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from qx.contract.records import Metric, Recorded
from qx.host.host import Reference
from qx.processes.job_answers import DeriveAnswer, DerivedMeasurement
from qx.processes.jobs import DeriveJob
from qx.values import Array
from qx.worker.arrays import Split
from qx.worker.channel import Channel
from qx.worker.finished import Finished
from qx.worker.plugins import bind
from qx.worker.samples import failure, measure_or_fail, stage_of


def run(job: DeriveJob, channel: Channel) -> None:
    """Answer with a list of samples for each metric and batch size, or the failure in place of the samples.

    If the job names a folder for finished steps, the samples are written there instead, as a list for each
    metric. Steps that an earlier process has finished are not repeated.
    """
    own, baseline = _read_recorded(Path(job.samples)), _read_recorded(Path(job.baseline))["values"]
    items = Split.read(Path(job.inputs)) if job.inputs else None
    finished = Finished(job.finished)
    measured: list[DerivedMeasurement] = []
    for metric in job.metrics:
        channel.stage(stage_of(metric.name))
        step = partial(_measured, job, metric, own, baseline, items, channel)
        measured += finished.step(stage_of(metric.name), DeriveAnswer, step).metrics
    channel.answer(DeriveAnswer(metrics=() if job.finished else tuple(measured)))


def _measured(
    job: DeriveJob,
    metric: Reference,
    own: Mapping[str, Arrays],
    baseline: Arrays,
    items: Split | None,
    channel: Channel,
) -> DeriveAnswer:
    """Return the samples of one metric, for each batch size if it has several.

    ``read`` in each names the metrics whose samples were used.
    """
    try:
        record = bind(job, metric).record
    except BaseException as error:
        failed = DerivedMeasurement(metric=metric.name, batch_size=None, failure=failure(error))
        return DeriveAnswer(metrics=(failed,))
    assert isinstance(record, Metric)
    measured = []
    for batch_size in job.batch_sizes if record.per_point else (None,):
        # The timeout starts again for each batch size.
        channel.stage(stage_of(metric.name))
        read: set[str] = set()
        data = Recorded(
            samples=TrackedSamples(own["values"], read),
            waves=own["wave"],
            rounds=own["round"],
            baseline=TrackedSamples(baseline, read),
            batch_size=batch_size,
            labels=None if items is None else items.labels,
            classes=() if items is None else items.classes,
        )
        answer = measure_or_fail(job, metric, data)
        measured.append(
            DerivedMeasurement(
                metric=metric.name,
                batch_size=batch_size,
                samples=answer.samples,
                failure=answer.failure,
                read=tuple(sorted(read)),
            )
        )
    return DeriveAnswer(metrics=tuple(measured))


Key: TypeAlias = "tuple[str, int | None]"
Arrays: TypeAlias = "dict[Key, Array]"


class TrackedSamples(Mapping[Key, Array]):
    """Samples by metric and batch size, which add the name of each metric to ``read`` when it is looked up.

    Whether a derived value is exact depends on the metrics that it is derived from.
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


def _read_recorded(path: Path) -> dict[str, Arrays]:
    """Read values, waves and rounds by metric and batch size, from keys ``metric|batch size|values``."""
    recorded: dict[str, Arrays] = {"values": {}, "wave": {}, "round": {}}
    with np.load(path) as arrays:
        for key in arrays.files:
            name, size, part = key.split("|")
            recorded[part][name, int(size) if size else None] = arrays[key]
    return recorded
