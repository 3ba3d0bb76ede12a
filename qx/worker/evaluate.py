"""Measure the metrics that need no launches: of the build, the artifact's files, and all its outputs."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve

from qx.contract.devices import CPU
from qx.contract.records import Arrays, Artifact, Building, MetricData, Predictions, Subject, Weights
from qx.contract.structure import lengths_of
from qx.errors import PluginError
from qx.host.host import Reference
from qx.processes.answers import Measurement
from qx.processes.job_answers import EvaluateAnswer, Serving
from qx.processes.jobs import EvaluateJob
from qx.values import Array
from qx.worker.arrays import Split
from qx.worker.channel import Channel
from qx.worker.finished import Finished
from qx.worker.lengths import refused_lengths
from qx.worker.memory import MarkTaker
from qx.worker.output_files import ANSWERS, CHUNK_SECONDS, PREDICTIONS, OutputWriter, read_outputs
from qx.worker.outputs import checked_outputs
from qx.worker.plugins import BoundPlugin, bind, host_for, seed_everything
from qx.worker.probe import PROBE, SEVERAL_THREADS, hold_to_probe, probes_at_lengths
from qx.worker.recipes import bind_config
from qx.worker.samples import measure_or_fail, stage_of
from qx.worker.serving import host_of_artifact, import_runtime, load


def run(job: EvaluateJob, channel: Channel) -> None:
    """Answer with the samples of each metric, or its failure in place of the samples.

    If the job names a folder for finished steps, the samples are written there instead, since those of many
    items are long. Steps that an earlier process has finished are not repeated.
    """
    finished = Finished(job.finished)
    measured: dict[str, Measurement] = {}

    def measure(metric: Reference, data: MetricData) -> None:
        channel.stage(stage_of(metric.name))
        step = partial(measure_or_fail, job, metric, data)
        measured[metric.name] = finished.step(stage_of(metric.name), Measurement, step)

    artifact = evolve(job.artifact.record(), layers=job.layers, weight_reader=partial(_read_weights, job))
    for metric in job.build_metrics:
        measure(metric, Building(steps=job.steps))
    for metric in job.artifact_metrics:
        measure(metric, artifact)
    serving = finished.step("predict", Serving, partial(_predict, job, channel))
    if job.prediction_metrics or job.makes_answers:
        predictions = predictions_of(job, channel)
        for metric in job.prediction_metrics:
            measure(metric, predictions)
    channel.answer(EvaluateAnswer(serving=serving, metrics={} if job.finished else measured))


def predictions_of(job: EvaluateJob, channel: Channel) -> Predictions:
    """Return what metrics judge, from the files of outputs that an evaluation has written.

    These are the outputs, after the workload's ``postprocess``, beside the targets.
    """
    split, folder = Split.read(Path(job.inputs)).first(job.items), Path(job.outputs)
    outputs = read_outputs(folder)
    stored = job.artifact
    host = host_for(job, (stored.workload,))
    workload = bind(job, stored.workload, stored.workload_options, host)
    if workload.implements("postprocess"):
        channel.stage("postprocess")
        seed_everything(job.seed)
        outputs = postprocessed(workload, outputs, job.batch_size, channel.progress, folder / ANSWERS)

    def score(outputs: Arrays, targets: Arrays) -> Any:
        return workload.call("score", outputs=outputs, targets=targets)

    return Predictions(
        outputs=outputs,
        targets=split.targets,
        classes=split.classes,
        score=score if workload.implements("score") else None,
    )


def postprocessed(
    workload: BoundPlugin,
    outputs: dict[str, Array],
    size: int,
    progress: Callable[[float, str], None],
    folder: Path,
) -> dict[str, Array]:
    """Return what the workload's ``postprocess`` makes of outputs; they themselves where it gives None.

    It is written into the ``folder`` batch by batch, and memory-mapped. Raises ``PluginError`` if it is
    anything else than arrays of numbers by name, ``[batch, ...]``.
    """
    count = len(next(iter(outputs.values())))
    with OutputWriter(folder, count, workload.name, "postprocess") as writer:
        for start in range(0, count, size):
            # Copies, which are the plugin's to change.
            batch = {name: np.array(array[start : start + size]) for name, array in outputs.items()}
            length = len(next(iter(batch.values())))
            result: object = workload.call("postprocess", outputs=batch)
            if result is None and not start:
                return outputs
            writer.add(checked_outputs(result, workload.name, length, "postprocess"))
            progress(min(1.0, (start + size) / count), "answers")
    return read_outputs(folder)


def _read_weights(job: EvaluateJob, artifact: Artifact) -> Weights | None:
    """Have the artifact's config read which weights it holds, or its loader where the config does not say.

    Raises ``PluginError`` for a wrong answer.
    """

    def read_by_loader(artifact: Artifact) -> Weights | None:
        return _weights_of(bind(job, job.artifact.loader), evolve(artifact, weight_reader=None))

    stored = job.artifact
    host = host_for(job, (stored.config, *stored.recipes))
    config = bind_config(job, stored.config, stored.config_options, host)
    weights = _weights_of(config, evolve(artifact, weight_reader=read_by_loader))
    return read_by_loader(artifact) if weights is None else weights


def _weights_of(plugin: BoundPlugin, artifact: Artifact) -> Weights | None:
    if not plugin.implements("read_weights"):
        return None
    weights: object = plugin.call("read_weights", artifact=artifact)
    if weights is not None and not isinstance(weights, Weights):
        raise PluginError(f"{plugin.name}: read_weights gave a {type(weights).__name__}, not qx.Weights")
    return weights


def _predict(job: EvaluateJob, channel: Channel) -> Serving:
    """Write the artifact's outputs to ``job.outputs``, and return what serving it showed."""
    channel.stage("import")
    import_runtime(job)
    channel.stage("load")
    seed_everything(job.seed)
    calls = load(job, host_of_artifact(job))
    subject = calls.subject()
    device = calls.device
    marker = MarkTaker(time.monotonic_ns())
    loaded = marker.mark("load")
    device_loaded = None if device is None else device.memory()
    channel.stage("probe")
    probe = Path(job.artifact.folder).parent / PROBE
    for path in (probe, *probes_at_lengths(probe.parent, job.artifact.structure)):
        hold_to_probe(
            subject,
            path,
            loader=job.artifact.loader.name,
            exact=_is_exact(job),
            rounded_by=SEVERAL_THREADS if job.device == CPU else job.device,
        )
    channel.stage("predict")
    split = Split.read(Path(job.inputs)).first(job.items)
    timed_peak = None
    before = max(loaded.peak, marker.mark("probe").peak)
    if job.timed_batch_size is not None and job.timed_batch_size < job.batch_size:
        subject.call(subject.prepare(split.rows(0, job.timed_batch_size)))
        timed_peak = max(before, marker.mark("timed").peak)
    predict(
        subject,
        split,
        job.batch_size,
        job.artifact.loader.name,
        channel.progress,
        Path(job.outputs),
        grows=job.grows,
    )
    predicted = marker.mark("predict")
    channel.stage("lengths")
    refused = refused_lengths(
        subject,
        lengths_of(job.artifact.structure),
        job.lengths,
        home=probe.parent,
        data=split,
        loader=job.artifact.loader.name,
    )
    return Serving(
        loaded=loaded.rss,
        peak=max(before, timed_peak or 0.0, predicted.peak),
        timed_peak=timed_peak,
        kinds=calls.kinds,
        refused_lengths=refused,
        device_loaded=device_loaded,
        device_peak=None if device is None else device.memory(),
    )


def _is_exact(job: EvaluateJob) -> bool:
    """Return whether outputs must be those of the build bit for bit: by one thread on the CPU alone.

    The build computed them there, and a device adds in another order.
    """
    return job.threads == 1 and job.device == CPU


def predict(
    subject: Subject,
    split: Split,
    size: int,
    loader: str,
    progress: Callable[[float, str], None],
    folder: Path,
    *,
    grows: bool = False,
) -> None:
    """Write the outputs of all items into a folder in their order, for ``read_outputs``.

    The last batch is filled up with the first items. Where another process has written some of them, it goes
    on with the next; with ``grows`` also where that one wrote those of fewer items.
    """
    with OutputWriter(folder, len(split), loader, chunk=CHUNK_SECONDS, grows=grows) as writer:
        for start in range(writer.written, len(split), size):
            native = subject.call(subject.prepare(split.rows(start, start + size)))
            writer.add(checked_outputs(subject.outputs(native), loader, size))
            progress(min(1.0, (start + size) / len(split)), PREDICTIONS)
