"""Measure what needs no launches: the artifact's files, and its outputs for the whole evaluation split."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from qx.errors import QxError
from qx.jobs import EvaluateJob
from qx.records import Predictions, Subject
from qx.worker.arrays import Split
from qx.worker.build import PROBE
from qx.worker.channel import Channel
from qx.worker.memory import MarkTaker
from qx.worker.plugins import seed_everything
from qx.worker.samples import samples_or_failure
from qx.worker.serving import host_of_artifact, import_runtime, load

#: How far outputs may lie from the probe's where threads divide the sums otherwise than in the build.
ROUNDING = 1e-4


def run(job: EvaluateJob, channel: Channel) -> None:
    """Answer with samples for each metric; one that fails is told by itself."""
    metrics = (*job.artifact_metrics, *job.prediction_metrics)
    measured: dict[str, Any] = {}
    if job.artifact_metrics:
        host = host_of_artifact(job, metrics)
        data = job.artifact.record()
        for metric in job.artifact_metrics:
            channel.stage(f"measure {metric.name}")
            measured[metric.name] = samples_or_failure(job, host, metric.name, data)

    channel.stage("import")
    import_runtime(job)
    channel.stage("load")
    seed_everything(job.seed)
    host = host_of_artifact(job, metrics)
    subject = load(job, host)
    marker = MarkTaker(time.monotonic_ns())
    loaded = marker.mark("load")
    channel.stage("probe")
    hold_to_probe(subject, Path(job.artifact.folder).parent / PROBE, exact=job.threads == 1)
    channel.stage("predict")
    split = Split.read(Path(job.inputs))
    outputs = _predict(subject, split, job.batch_size, channel)
    predicted = marker.mark("predict")
    np.save(job.outputs, outputs)
    predictions = Predictions(outputs=outputs, labels=split.labels, classes=split.classes)
    for metric in job.prediction_metrics:
        channel.stage(f"measure {metric.name}")
        measured[metric.name] = samples_or_failure(job, host, metric.name, predictions)
    memory = {"loaded": loaded.rss, "peak": max(loaded.peak, predicted.peak)}
    channel.answer(metrics=measured, memory=memory)


def _predict(subject: Subject, split: Split, size: int, channel: Channel) -> Any:
    """The outputs for every item, in order, the last batch filled up with items from the first on."""
    parts = []
    for start in range(0, len(split), size):
        native = subject.call(subject.prepare(split.rows(start, start + size)))
        parts.append(np.array(subject.outputs(native)))
        channel.progress(min(1.0, (start + size) / len(split)), "predictions")
    return np.concatenate(parts)[: len(split)]


def hold_to_probe(subject: Subject, path: Path, *, exact: bool) -> None:
    """Raise ``QxError`` where the artifact does not give what the converted module gave in the build."""
    if not path.is_file():
        return
    with np.load(path) as probe:
        due = probe["outputs"]
        arrays = {name: probe[name] for name in probe.files if name != "outputs"}
    given = np.asarray(subject.outputs(subject.call(subject.prepare(arrays))))
    same = (
        np.array_equal(given, due, equal_nan=True)
        if exact
        else np.allclose(given, due, rtol=ROUNDING, atol=ROUNDING, equal_nan=True)
    )
    if not same:
        raise QxError(
            f"the loaded artifact does not give the outputs of the converted module: "
            f"they differ by up to {np.abs(given - due).max():.3g}"
        )
