"""Measure what needs no launches: the artifact's files, and its outputs for the whole evaluation split."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from qx.jobs import EvaluateJob
from qx.manifest import Manifest
from qx.records import Predictions, Subject
from qx.worker.arrays import Split
from qx.worker.channel import Channel
from qx.worker.memory import MarkTaker
from qx.worker.plugins import seed_everything
from qx.worker.probe import PROBE, hold_to_probe
from qx.worker.samples import samples_or_failure
from qx.worker.serving import host_of_artifact, import_runtime, load


def run(job: EvaluateJob, channel: Channel) -> None:
    """Answer with samples for each metric; one that fails is told by itself."""
    folder = Path(job.artifact)
    manifest = Manifest.read(folder)
    metrics = (*job.artifact_metrics, *job.prediction_metrics)
    measured: dict[str, Any] = {}
    if job.artifact_metrics:
        host = host_of_artifact(job, manifest, metrics)
        data = manifest.artifact(folder)
        for metric in job.artifact_metrics:
            channel.stage(f"measure {metric.name}")
            measured[metric.name] = samples_or_failure(job, host, metric.name, data)

    channel.stage("import")
    import_runtime(manifest)
    channel.stage("load")
    seed_everything(job.seed)
    host = host_of_artifact(job, manifest, metrics)
    subject = load(job, manifest, folder, host)
    marker = MarkTaker(time.monotonic_ns())
    loaded = marker.mark("load")
    channel.stage("probe")
    hold_to_probe(subject, folder.parent / PROBE, exact=job.threads == 1)
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
