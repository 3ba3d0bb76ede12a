"""Find out whether a workload keeps what its contract promises: its data, its model, its example inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qx.errors import Unsupported
from qx.values import Array, Json, JsonObject
from qx.worker.arrays import Split
from qx.worker.modules import example_inputs, fp32_model
from qx.worker.plugins import host_for, loading_context, seed_everything
from qx.worker.weights import load_weights

if TYPE_CHECKING:
    import torch

    from qx.host.host import Host
    from qx.testing.jobs import ExamineJob
    from qx.worker.channel import Channel

#: Items that the model is tried on.
ITEMS = 16
BATCH_SIZES = (1, 2, 5)


def run(job: ExamineJob, channel: Channel) -> None:
    """Answer with what was seen of the data and, where there are weights, of the model."""
    host = host_for(job, (job.workload,))
    splits = {}
    for name in ("train", "test"):
        channel.stage(f"load_data {name}")
        seed_everything(job.seed)
        context = loading_context(job, host)
        splits[name] = Split.of(host.call(job.workload.name, "load_data", split=name, context=context))
    channel.stage("data")
    told: JsonObject = {"splits": {name: _split(split) for name, split in splits.items()}}
    told["shared"] = _shared(splits["train"], splits["test"])
    if job.weights is not None:
        told |= _model(job, host, splits["test"], channel)
    channel.answer(**told)


def _split(split: Split) -> JsonObject:
    labels = split.labels
    return {
        "lengths": {name: len(array) for name, array in split.inputs.items()}
        | ({} if labels is None else {"labels": len(labels)}),
        "dtypes": {name: np.asarray(array[0:1]).dtype.str for name, array in split.inputs.items()},
        "shapes": {name: list(np.asarray(array[0:1]).shape[1:]) for name, array in split.inputs.items()},
        "finite": all(bool(np.isfinite(chunk).all()) for chunk in _chunks(split)),
        "labels": None if labels is None else _labels(labels),
        "classes": len(split.classes),
        "source": split.source,
        "fingerprint": split.fingerprint(),
    }


def _labels(labels: Array) -> list[Json]:
    """Lowest and highest, the type, and how many dimensions there are; the first is the items."""
    numbers = labels.dtype.kind in "iubf"
    low, high = (labels.min().item(), labels.max().item()) if numbers else (None, None)
    return [low, high, labels.dtype.str, labels.ndim]


def _chunks(split: Split, size: int = 1024) -> Iterator[Array]:
    for array in split.inputs.values():
        for start in range(0, len(array), size):
            chunk = np.asarray(array[start : start + size])
            if chunk.dtype.kind == "f":
                yield chunk


def _shared(train: Split, test: Split) -> float:
    """The share of test items that lie in the training split as well, byte for byte."""
    seen = {_item(train, index) for index in range(len(train))}
    return sum(_item(test, index) in seen for index in range(len(test))) / max(1, len(test))


def _item(split: Split, index: int) -> bytes:
    import hashlib

    digest = hashlib.sha256()
    for array in split.inputs.values():
        digest.update(np.ascontiguousarray(array[index]).tobytes())
    return digest.digest()


def _model(job: ExamineJob, host: Host, split: Split, channel: Channel) -> JsonObject:
    import torch

    name, options = job.workload.name, job.workload_options
    channel.stage("make_model")
    model = fp32_model(host, job, name, options, quantizable=False)
    told: JsonObject = {"types": sorted({str(value.dtype) for value in model.parameters()})}
    load_weights(model, Path(str(job.weights)))
    channel.stage("example_inputs")
    told["examples"] = [_example(host, job, model, size) for size in BATCH_SIZES]
    channel.stage("predict")
    arrays = split.rows(0, min(ITEMS, len(split)))
    with torch.inference_mode():
        together = _answers(model, arrays)
        alone = [
            _answers(model, {key: array[index : index + 1] for key, array in arrays.items()})
            for index in range(len(together))
        ]
        told["repeats"] = bool(np.array_equal(together, _answers(model, arrays)))
        told["outputs"] = list(together.shape)
        scale = float(np.abs(together).max()) or 1.0
        told["company"] = float(np.abs(np.concatenate(alone) - together).max()) / scale
        told["correct"] = _correct(model, split)
        told["stubs"] = _stubs(job, host, together, arrays)
    return told


def _answers(model: torch.nn.Module, arrays: Mapping[str, Array]) -> Array:
    import torch

    tensors = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays.values())
    answers: torch.Tensor = model(*tensors)
    return answers.numpy()


def _example(host: Host, job: ExamineJob, model: torch.nn.Module, size: int) -> JsonObject:
    import torch

    given = example_inputs(host, job, job.workload.name, job.workload_options, size)
    with torch.inference_mode():
        outputs = model(*given)
    return {
        "batch_size": size,
        "shapes": [list(tensor.shape) for tensor in given],
        "dtypes": [tensor.numpy().dtype.str for tensor in given],
        "outputs": list(outputs.shape),
    }


def _correct(model: torch.nn.Module, split: Split, most: int = 500) -> list[int] | None:
    """How many of so many test items, spread over the split, the model gets right; None without labels."""
    if split.labels is None or not split.classes or split.labels.ndim != 1:
        return None
    chosen = np.unique(np.linspace(0, len(split) - 1, min(most, len(split))).astype(int))
    items = split.take(chosen)
    outputs = np.concatenate(
        [
            _answers(model, items.rows(start, min(start + 50, len(items))))
            for start in range(0, len(items), 50)
        ]
    )
    if outputs.ndim != 2 or outputs.shape[1] != len(split.classes):
        return None
    return [int((outputs.argmax(axis=1) == items.labels).sum()), len(items)]


def _stubs(job: ExamineJob, host: Host, due: Array, arrays: Mapping[str, Array]) -> str:
    """What is wrong with the form with stubs; empty where nothing is."""
    try:
        model = fp32_model(host, job, job.workload.name, job.workload_options, quantizable=True)
    except Unsupported as error:
        return f"unsupported: {error}"
    load_weights(model, Path(str(job.weights)))
    return "" if np.array_equal(_answers(model, arrays), due) else "other outputs than without stubs"
