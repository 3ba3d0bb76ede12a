"""Measure the metrics that are derived from the recorded samples of a cell and of the baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from attrs import Factory, frozen

from qx.contract.figures import Figure, Point
from qx.contract.records import Metric, Recorded
from qx.host.host import Reference
from qx.processes.job_answers import DeriveAnswer, DerivedMeasurement
from qx.processes.jobs import DeriveJob
from qx.values import Array
from qx.worker.arrays import Split
from qx.worker.channel import Channel
from qx.worker.finished import Finished
from qx.worker.output_files import ANSWERS, read_outputs
from qx.worker.plugins import bind
from qx.worker.samples import failure, measure_or_fail, stage_of

K = TypeVar("K")

#: Name that stands for the outputs among the metrics that a value is derived from.
OUTPUTS = "outputs"
#: Parts of samples: the values, and the wave and the round of each.
PARTS = ("values", "wave", "round")


@frozen
class CellRecord:
    """What was recorded of a cell: samples, the wave and the round of each, and outputs by name."""

    values: dict[Figure, Array] = Factory(dict)
    wave: dict[Figure, Array] = Factory(dict)
    round: dict[Figure, Array] = Factory(dict)
    #: Outputs of the evaluation, ``[items, ...]``; empty where they were not kept.
    outputs: dict[str, Array] = Factory(dict)
    #: What ``postprocess`` made of them; empty where it made nothing.
    answers: dict[str, Array] = Factory(dict)

    def to_arrays(self) -> dict[str, Array]:
        """Return all samples under keys such as ``latency|1|values``, as ``numpy.savez`` takes them."""
        arrays: dict[str, Array] = {}
        for part in PARTS:
            samples: dict[Figure, Array] = getattr(self, part)
            arrays |= {f"{figure.key}|{part}": array for figure, array in samples.items()}
        return arrays


def read_recorded(path: Path, outputs: str | None = None) -> CellRecord:
    """Read the arrays of ``CellRecord.to_arrays`` from an ``.npz`` file, and outputs from a folder."""
    record = CellRecord()
    if outputs is not None:
        answers = Path(outputs) / ANSWERS
        record = CellRecord(
            outputs=read_outputs(Path(outputs)), answers=read_outputs(answers) if answers.exists() else {}
        )
    with np.load(path) as arrays:
        for name in arrays.files:
            key, _, part = name.rpartition("|")
            getattr(record, part)[Figure.parse_key(key)] = arrays[name]
    return record


def run(job: DeriveJob, channel: Channel) -> None:
    """Answer with a list of samples for each metric and point, or the failure in place of the samples.

    If the job names a folder for finished steps, the samples are written there instead, as a list for each
    metric. Steps that an earlier process has finished are not repeated.
    """
    own = read_recorded(Path(job.samples), job.outputs)
    baseline = read_recorded(Path(job.baseline), job.baseline_outputs)
    items = Split.read(Path(job.inputs)).first(job.items) if job.inputs else None
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
    own: CellRecord,
    baseline: CellRecord,
    items: Split | None,
    channel: Channel,
) -> DeriveAnswer:
    """Return the samples of one metric, or its failure, at each point if it is measured at several."""
    try:
        record = bind(job, metric).record
    except BaseException as error:
        failed = DerivedMeasurement(key=Figure(metric.name).key, failure=failure(error))
        return DeriveAnswer(metrics=(failed,))
    assert isinstance(record, Metric)
    measured = []
    for point in filter(record.is_for, job.points) if record.per_point else (None,):
        # The timeout starts again for each point.
        channel.stage(stage_of(metric.name))
        read: set[str] = set()
        answer = measure_or_fail(job, metric, recorded_of(own, baseline, items, point, read))
        measured.append(
            DerivedMeasurement(
                key=Figure(metric.name, point).key,
                samples=answer.samples,
                failure=answer.failure,
                read=tuple(sorted(read)),
            )
        )
    return DeriveAnswer(metrics=tuple(measured))


def recorded_of(
    own: CellRecord, baseline: CellRecord, items: Split | None, point: Point | None, read: set[str]
) -> Recorded:
    """Return what derived metrics are derived from; ``read`` gets the names of what they look at."""
    return Recorded(
        samples=_samples(own, read),
        waves=own.wave,
        rounds=own.round,
        baseline=_samples(baseline, read),
        point=point,
        outputs=_outputs(own.outputs, read),
        baseline_outputs=_outputs(baseline.outputs, read),
        answers=_outputs(own.answers, read),
        baseline_answers=_outputs(baseline.answers, read),
        targets={} if items is None else items.targets,
        classes=() if items is None else items.classes,
    )


class TrackedArrays(Mapping[K, Array]):
    """Recorded arrays, which add to ``read`` what they were recorded of when one is looked up.

    Whether a derived value is exact depends on what it is derived from.
    """

    def __init__(self, arrays: Mapping[K, Array], source: Callable[[K], str], read: set[str]) -> None:
        self._arrays, self._source, self._read = arrays, source, read

    def __getitem__(self, key: K) -> Array:
        value = self._arrays[key]
        self._read.add(self._source(key))
        return value

    def __iter__(self) -> Iterator[K]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def _samples(cell: CellRecord, read: set[str]) -> TrackedArrays[Figure]:
    return TrackedArrays(cell.values, lambda figure: figure.metric, read)


def _outputs(arrays: dict[str, Array], read: set[str]) -> TrackedArrays[str] | None:
    return TrackedArrays(arrays, lambda _: OUTPUTS, read) if arrays else None
