"""Measure the metrics that need no launches: of the build, the artifact's files, and all its outputs."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve

from qx.contract.records import Arrays, Artifact, Building, MetricData, Predictions, Subject, Weights
from qx.errors import PluginError
from qx.host.host import Reference
from qx.processes.answers import Measurement
from qx.processes.job_answers import EvaluateAnswer, ServingMemory
from qx.processes.jobs import EvaluateJob
from qx.values import Array
from qx.worker.arrays import Split
from qx.worker.channel import Channel
from qx.worker.finished import Finished
from qx.worker.memory import MarkTaker
from qx.worker.outputs import checked_outputs, joined_outputs, pack, unpack
from qx.worker.plugins import BoundPlugin, bind, host_for, seed_everything
from qx.worker.probe import PROBE, hold_to_probe
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
    memory = finished.step("predict", ServingMemory, partial(_predict, job, channel))
    if job.prediction_metrics:
        predictions = predictions_of(job, channel)
        for metric in job.prediction_metrics:
            measure(metric, predictions)
    channel.answer(EvaluateAnswer(memory=memory, metrics={} if job.finished else measured))


def predictions_of(job: EvaluateJob, channel: Channel) -> Predictions:
    """Return what metrics judge, from the file of outputs that an evaluation has written.

    These are the outputs, after the workload's ``postprocess``, beside the targets.
    """
    split = Split.read(Path(job.inputs))
    with np.load(job.outputs) as arrays:
        outputs = unpack(arrays)
    stored = job.artifact
    host = host_for(job, (stored.workload,))
    workload = bind(job, stored.workload, stored.workload_options, host)
    if workload.implements("postprocess"):
        channel.stage("postprocess")
        seed_everything(job.seed)
        outputs = postprocessed(workload, outputs, job.batch_size, channel.progress)

    def score(outputs: Arrays, targets: Arrays) -> Any:
        return workload.call("score", outputs=outputs, targets=targets)

    return Predictions(
        outputs=outputs,
        targets=split.targets,
        classes=split.classes,
        score=score if workload.implements("score") else None,
    )


def postprocessed(
    workload: BoundPlugin, outputs: dict[str, Array], size: int, progress: Callable[[float, str], None]
) -> dict[str, Array]:
    """Return what the workload's ``postprocess`` makes of outputs; they themselves where it gives None.

    Raises ``PluginError`` if it gives anything else than arrays of numbers by name, ``[batch, ...]``.
    """
    batches: list[dict[str, Array]] = []
    count = len(next(iter(outputs.values())))
    for start in range(0, count, size):
        batch = {name: array[start : start + size] for name, array in outputs.items()}
        result: object = workload.call("postprocess", outputs=batch)
        if result is None and not batches:
            return outputs
        length = len(next(iter(batch.values())))
        batches.append(checked_outputs(result, workload.name, length, "postprocess"))
        if batches[-1].keys() != batches[0].keys() or any(
            array.shape[1:] != batches[0][name].shape[1:] for name, array in batches[-1].items()
        ):
            shapes = " and ".join(
                ", ".join(f"{name} {list(array.shape)}" for name, array in batch.items())
                for batch in (batches[0], batches[-1])
            )
            raise PluginError(
                f"{workload.name}: postprocess gave {shapes}; expected the same for every batch but for the "
                f"first dimension: pad where items have more of something than others"
            )
        progress(min(1.0, (start + size) / count), "answers")
    return joined_outputs(workload.name, batches)


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


def _predict(job: EvaluateJob, channel: Channel) -> ServingMemory:
    """Write the artifact's outputs to ``job.outputs``, and return the memory that it took."""
    channel.stage("import")
    import_runtime(job)
    channel.stage("load")
    seed_everything(job.seed)
    subject = load(job, host_of_artifact(job))
    marker = MarkTaker(time.monotonic_ns())
    loaded = marker.mark("load")
    channel.stage("probe")
    probe = Path(job.artifact.folder).parent / PROBE
    hold_to_probe(subject, probe, loader=job.artifact.loader.name, exact=job.threads == 1)
    channel.stage("predict")
    outputs = predict(
        subject, Split.read(Path(job.inputs)), job.batch_size, job.artifact.loader.name, channel.progress
    )
    predicted = marker.mark("predict")
    # Any: `numpy.savez` takes the arrays as keywords, among its own options.
    arrays: dict[str, Any] = pack(outputs)
    np.savez(job.outputs, **arrays)
    return ServingMemory(loaded=loaded.rss, peak=max(loaded.peak, predicted.peak))


def predict(
    subject: Subject, split: Split, size: int, loader: str, progress: Callable[[float, str], None]
) -> dict[str, Array]:
    """Return the outputs of all items in order, by name; the last batch is filled up with the first items."""
    batches = []
    for start in range(0, len(split), size):
        native = subject.call(subject.prepare(split.rows(start, start + size)))
        batches.append(checked_outputs(subject.outputs(native), loader, size))
        progress(min(1.0, (start + size) / len(split)), "predictions")
    return {name: array[: len(split)] for name, array in joined_outputs(loader, batches).items()}
