"""Examine whether a workload's data, model and example inputs are as the contract requires."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qx.contract.structure import Structure
from qx.errors import Unsupported
from qx.testing.answers import (
    CorrectItems,
    ExamineAnswer,
    ExaminedExample,
    ExaminedModel,
    ExaminedSplit,
    ExaminedTarget,
)
from qx.values import Array
from qx.worker.arrays import Split
from qx.worker.inspect import structure_of
from qx.worker.modules import example_inputs, fp32_model
from qx.worker.plugins import BoundPlugin, loading_workload_of, seed_everything, workload_of
from qx.worker.structure import adapt
from qx.worker.weights import load_weights

if TYPE_CHECKING:
    import torch

    from qx.testing.jobs import ExamineJob
    from qx.worker.channel import Channel

#: Number of items that the model is tried on.
ITEMS = 16
BATCH_SIZES = (1, 2, 5)


def run(job: ExamineJob, channel: Channel) -> None:
    """Answer with what the data show and, where there are weights, the model."""
    workload = loading_workload_of(job)
    splits = {}
    for name in ("train", "test"):
        channel.stage(f"load_data {name}")
        seed_everything(job.seed)
        splits[name] = Split.of(workload.call("load_data", split=name))
    channel.stage("data")
    described = {name: _describe_split(split) for name, split in splits.items()}
    shared = _shared_items(splits["train"], splits["test"])
    model = None
    if job.weights is not None:
        model = _examine_model(job, workload_of(job, workload.host), splits["test"], channel)
    channel.answer(ExamineAnswer(splits=described, shared=shared, model=model))


def _describe_split(split: Split) -> ExaminedSplit:
    return ExaminedSplit(
        lengths={
            **{name: len(array) for name, array in split.inputs.items()},
            # An input may have the same name.
            **{
                f"{name} (target)" if name in split.inputs else name: len(array)
                for name, array in split.targets.items()
            },
        },
        dtypes={name: np.asarray(array[0:1]).dtype.str for name, array in split.inputs.items()},
        shapes={name: np.asarray(array[0:1]).shape[1:] for name, array in split.inputs.items()},
        finite=all(bool(np.isfinite(chunk).all()) for chunk in _float_chunks(split)),
        targets={name: _describe_target(array) for name, array in split.targets.items()},
        classes=len(split.classes),
        source=split.source,
        fingerprint=split.fingerprint(),
    )


def _describe_target(target: Array) -> ExaminedTarget:
    is_numeric = target.dtype.kind in "iubf"
    low, high = (target.min().item(), target.max().item()) if is_numeric else (None, None)
    return ExaminedTarget(lowest=low, highest=high, dtype=target.dtype.str, dimensions=target.ndim)


def _float_chunks(split: Split, size: int = 1024) -> Iterator[Array]:
    for array in split.inputs.values():
        for start in range(0, len(array), size):
            chunk = np.asarray(array[start : start + size])
            if chunk.dtype.kind == "f":
                yield chunk


def _shared_items(train: Split, test: Split) -> float:
    """Return the share of test items that lie in the training split as well, byte for byte."""
    digests = {_item_digest(train, index) for index in range(len(train))}
    return sum(_item_digest(test, index) in digests for index in range(len(test))) / max(1, len(test))


def _item_digest(split: Split, index: int) -> bytes:
    import hashlib

    digest = hashlib.sha256()
    for array in split.inputs.values():
        digest.update(np.ascontiguousarray(array[index]).tobytes())
    return digest.digest()


def _examine_model(job: ExamineJob, workload: BoundPlugin, split: Split, channel: Channel) -> ExaminedModel:
    import torch

    channel.stage("make_model")
    model = fp32_model(workload, quantizable=False)
    structure = structure_of(workload, model)
    adapt(model, structure)
    types = sorted({str(value.dtype) for value in model.parameters()})
    load_weights(model, Path(str(job.weights)))
    channel.stage("example_inputs")
    examples = [_describe_example(workload, model, size) for size in BATCH_SIZES]
    channel.stage("predict")
    arrays = split.rows(0, min(ITEMS, len(split)))
    with torch.inference_mode():
        together = _outputs(model, arrays)
        alone = [
            _outputs(model, {key: array[index : index + 1] for key, array in arrays.items()})
            for index in range(len(together))
        ]
        scale = float(np.abs(together).max()) or 1.0
        return ExaminedModel(
            types=tuple(types),
            examples=tuple(examples),
            repeats=bool(np.array_equal(together, _outputs(model, arrays))),
            outputs=together.shape,
            company=float(np.abs(np.concatenate(alone) - together).max()) / scale,
            correct=_count_correct(model, split),
            stubs=_stubs_problem(job, workload, structure, together, arrays),
        )


def _outputs(model: torch.nn.Module, arrays: Mapping[str, Array]) -> Array:
    """Return the output of the model, ``[n, ...]``, or all of several side by side, ``[n, elements]``."""
    outputs = _all_outputs(model, arrays)
    if len(outputs) == 1:
        return outputs[0]
    return np.concatenate([output.reshape(len(output), -1) for output in outputs], axis=1)


def _all_outputs(model: torch.nn.Module, arrays: Mapping[str, Array]) -> list[Array]:
    import torch

    returned = model(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays.values()))
    outputs: tuple[torch.Tensor, ...] = returned if isinstance(returned, tuple) else (returned,)
    return [output.numpy() for output in outputs]


def _describe_example(workload: BoundPlugin, model: torch.nn.Module, size: int) -> ExaminedExample:
    import torch

    inputs = example_inputs(workload, size)
    with torch.inference_mode():
        returned = model(*inputs)
    outputs = returned[0] if isinstance(returned, tuple) else returned
    return ExaminedExample(
        batch_size=size,
        shapes=tuple(tuple(tensor.shape) for tensor in inputs),
        dtypes=tuple(tensor.numpy().dtype.str for tensor in inputs),
        outputs=tuple(outputs.shape),
    )


def _count_correct(model: torch.nn.Module, split: Split, max_items: int = 500) -> CorrectItems | None:
    """Count the test items that the model is right about; None without labels."""
    labels = split.labels
    if labels is None or not split.classes or labels.ndim != 1:
        return None
    spread = np.unique(np.linspace(0, len(split) - 1, min(max_items, len(split))).astype(int))
    items = split.take(spread)
    outputs = np.concatenate(
        [
            _all_outputs(model, items.rows(start, min(start + 50, len(items))))[0]
            for start in range(0, len(items), 50)
        ]
    )
    if outputs.ndim != 2 or outputs.shape[1] != len(split.classes):
        return None
    correct = int((outputs.argmax(axis=1) == labels[spread]).sum())
    return CorrectItems(correct=correct, items=len(items))


def _stubs_problem(
    job: ExamineJob,
    workload: BoundPlugin,
    structure: Structure,
    expected: Array,
    arrays: Mapping[str, Array],
) -> str:
    """Return what is wrong with the form of the model that has stubs; empty where nothing is."""
    try:
        model = fp32_model(workload, quantizable=True, structure=structure)
    except Unsupported as error:
        return f"unsupported: {error}"
    load_weights(model, Path(str(job.weights)))
    return "" if np.array_equal(_outputs(model, arrays), expected) else "other outputs than without stubs"
