"""Have a loader give what layers give inside of an artifact, and see whether its answers stay the same."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from attrs import evolve

from qx.errors import Unsupported
from qx.foreign import to_line
from qx.testing.answers import LayerValue, LayerValuesAnswer
from qx.testing.worker.digest import digest
from qx.values import Array
from qx.worker.arrays import Split
from qx.worker.layer_outputs import MAX_TEXT, checked_pairs
from qx.worker.outputs import checked_outputs, equal_arrays
from qx.worker.plugins import seed_everything
from qx.worker.serving import bind_loader, host_of_artifact, import_runtime, load

if TYPE_CHECKING:
    from qx.contract.records import Subject
    from qx.host.host import Host
    from qx.testing.jobs import LayerValuesJob
    from qx.worker.channel import Channel


def run(job: LayerValuesJob, channel: Channel) -> None:
    """Serve both artifacts, ask for the values of layers, serve again, and answer with what was seen."""
    channel.stage("import")
    import_runtime(job)
    host = host_of_artifact(job)
    jobs = job, evolve(job, artifact=job.reference)
    channel.stage("load")
    seed_everything(job.seed)
    subjects = [load(one, host).subject() for one in jobs]
    split = Split.read(Path(job.inputs))
    inputs = {name: np.array(array) for name, array in split.rows(0, job.items).items()}
    before = [_answer(subject, job, inputs) for subject in subjects]
    files = _digests(job)
    channel.stage("layer_outputs")
    loader = bind_loader(job, host)
    copies = {name: array.copy() for name, array in inputs.items()}
    try:
        returned = loader.call(
            "layer_outputs",
            artifact=job.artifact.record(),
            reference=job.reference.record(),
            inputs=copies,
        )
    except Unsupported as error:
        channel.answer(LayerValuesAnswer(refusal=to_line(str(error), MAX_TEXT)))
        return
    if returned is None:
        channel.answer(LayerValuesAnswer(refusal="it knows no values inside of this artifact"))
        return
    pairs = {
        layer: (np.array(own), np.array(other))
        for layer, (own, other) in checked_pairs(returned, loader).items()
    }
    changed = [] if equal_arrays(inputs, copies) else ["the inputs"]
    if _digests(job) != files:
        changed.append("the files of an artifact")
    if not all(map(equal_arrays, before, [_answer(subject, job, inputs) for subject in subjects])):
        changed.append("the answers of an artifact that was loaded before")
    if not changed:
        anew = [_answer(load(one, host).subject(), job, inputs) for one in jobs]
        if not all(map(equal_arrays, before, anew)):
            changed.append("the answers of an artifact that is loaded afterwards")
    channel.stage("make_model")
    modules, last = _modules_of(job, host, inputs)
    values = [
        LayerValue(
            name=layer,
            shape=own.shape,
            finite=bool(np.isfinite(own).all() and np.isfinite(other).all()),
            distances=_distances((own, other), before, last[layer]) if layer in last else (),
        )
        for layer, (own, other) in pairs.items()
    ]
    channel.answer(LayerValuesAnswer(values=tuple(values), modules=modules, changed=tuple(changed)))


def _answer(subject: Subject, job: LayerValuesJob, inputs: Mapping[str, Array]) -> dict[str, Array]:
    arrays = {name: array.copy() for name, array in inputs.items()}
    outputs = subject.outputs(subject.call(subject.prepare(arrays)))
    return checked_outputs(outputs, job.artifact.loader.name, job.items)


def _digests(job: LayerValuesJob) -> dict[str, str]:
    folders = [Path(artifact.folder) for artifact in (job.artifact, job.reference)]
    return {str(path): digest(path) for folder in folders for path in folder.rglob("*") if path.is_file()}


def _distances(pair: tuple[Array, Array], answers: list[dict[str, Array]], place: int) -> tuple[float, ...]:
    """Return how far a layer's values are from the output at a place, of each artifact."""
    pairs = zip(pair, answers, strict=True)
    return tuple(_distance(values, list(answer.values())[place]) for values, answer in pairs)


def _distance(values: Array, answer: Array) -> float:
    """Return the largest difference, as a share of the largest value of the answer."""
    if values.shape != answer.shape:
        return float("inf")
    scale = float(np.abs(answer).max()) or 1.0
    return float(np.abs(np.asarray(values, dtype=float) - answer).max()) / scale


def _keep(results: dict[str, object], name: str, _module: object, _inputs: object, outputs: object) -> None:
    results[name] = outputs


def _modules_of(
    job: LayerValuesJob, host: Host, inputs: Mapping[str, Array]
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the names of the fp32 model's modules, and of those that give an output, with its place."""
    import torch

    from qx.worker.serving import make_model

    model = make_model(job, host).eval()
    results: dict[str, object] = {}
    modules = dict(model.named_modules())
    for name, module in modules.items():
        module.register_forward_hook(partial(_keep, results, name))
    with torch.no_grad():
        returned = model(*(torch.from_numpy(array.copy()) for array in inputs.values()))
    outputs = returned if isinstance(returned, tuple) else (returned,)
    last = {
        name: place
        for place, output in enumerate(outputs)
        for name, own in results.items()
        if isinstance(own, torch.Tensor) and own.shape == output.shape and torch.equal(own, output)
    }
    return tuple(name for name in modules if name), last
