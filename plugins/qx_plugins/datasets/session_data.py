"""Data of a Python session, which ``qx.run`` was called with: arrays, or a torch Dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from attrs import evolve, frozen

from qx import LABELS, Context, Data, DataError, session_object

#: Name of the only input of a model, where the session gave it none.
INPUT = "input"
#: Least number of items that are set aside for calibration, where there are twice as many: what configs take.
CALIBRATION_ITEMS = 256
#: Share of the items that is set aside for calibration, where that is more.
CALIBRATION_SHARE = 0.2


def load_session_data(reference: str, split: str, context: Context) -> Data:
    """Return a split, ``"train"`` or ``"test"``, of the data of a session. Raises ``DataError``.

    Where the session gave all items together, some of them are set aside for calibration.
    """
    parts = _parts(reference, _Progress(context.progress))
    if split in parts:
        return parts[split]
    return set_aside(parts["all"], context.seed)[split]


def example_arrays(reference: str, batch_size: int) -> tuple[np.ndarray, ...]:
    """Return example inputs ``[batch_size, ...]``: the first items of the session's data, repeated."""
    examples: Any = session_object(reference)
    return tuple(array[np.arange(batch_size) % len(array)] for array in examples.values())


@frozen(eq=False)
class _Progress:
    """The progress of a worker, as an argument that makes no difference to a cache."""

    report: Callable[[float, str], None]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Progress)

    def __hash__(self) -> int:
        return 0


@lru_cache(1)
def _parts(reference: str, progress: _Progress) -> dict[str, Data]:
    """Return the splits that the session gave, each in memory; ``all`` where it gave no splits."""
    handed: Any = session_object(reference)
    return {
        name: part if isinstance(part, Data) else _read_dataset(part, name, progress.report)
        for name, part in handed.items()
    }


def set_aside(data: Data, seed: int) -> dict[str, Data]:
    """Divide items into those that calibrate (``train``) and those that are evaluated (``test``).

    They are drawn evenly over the classes, where each item has one. No item is in both.
    """
    arrays = {name: np.asarray(array) for name, array in data.inputs.items()}
    targets = {name: np.asarray(array) for name, array in data.targets.items()}
    total = len(next(iter(arrays.values())))
    count = min(total // 2, max(round(CALIBRATION_SHARE * total), CALIBRATION_ITEMS))
    order = np.random.default_rng(seed).permutation(total)
    labels = targets.get(LABELS)
    if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iub":
        # The first of every class, then the second of every class, and so on.
        turns = np.empty(total, dtype=np.int64)
        for label in np.unique(labels[order]):
            members = np.flatnonzero(labels[order] == label)
            turns[members] = np.arange(len(members))
        order = order[np.argsort(turns, kind="stable")]
    source = f"{data.source}, {count:,} of {total:,} items set aside for calibration"
    return {
        name: evolve(
            data,
            inputs={key: array[indices] for key, array in arrays.items()},
            targets={key: array[indices] for key, array in targets.items()},
            source=source,
        )
        for name, indices in (("train", np.sort(order[:count])), ("test", np.sort(order[count:])))
    }


def _read_dataset(dataset: Any, name: str, progress: Callable[[float, str], None]) -> Data:
    """Read all items of a Dataset, each ``inputs`` or ``(inputs, label)``, into arrays."""
    total = len(dataset)
    inputs: dict[str, np.ndarray] = {}
    labels: list[Any] = []
    for index in range(total):
        item_inputs, label = item_of(dataset[index])
        if label is not None:
            labels.append(np.asarray(label))
        for key, array in item_inputs.items():
            if index == 0:
                inputs[key] = np.empty((total, *array.shape), array.dtype)
            if key not in inputs or array.shape != inputs[key].shape[1:]:
                shapes = {key: value.shape[1:] for key, value in inputs.items()}
                raise DataError(
                    f"item {index} of the Dataset has the input {key!r} of shape {array.shape}, and the "
                    f"first item has {shapes}: all items must have one shape"
                )
            inputs[key][index] = array
        progress((index + 1) / total, f"reading item {index + 1:,} of {total:,} ({name})")
    if labels and len(labels) != total:
        raise DataError(f"{len(labels):,} of the {total:,} items of the Dataset have a label")
    classes: Sequence[str] = getattr(dataset, "classes", ())
    return Data(
        inputs=inputs,
        targets={LABELS: np.stack(labels)} if labels else {},
        classes=tuple(map(str, classes)),
        source=f"{type(dataset).__name__} of a Python session",
    )


def item_of(item: Any) -> tuple[dict[str, np.ndarray], Any]:
    """Return inputs by name, and the label or None, of an item of a Dataset."""
    inputs, label = item, None
    if isinstance(item, (tuple, list)):
        inputs, label = item if len(item) == 2 else (item[0], None)
    named = inputs if isinstance(inputs, Mapping) else {INPUT: inputs}
    return {str(name): _as_float32(np.asarray(value)) for name, value in named.items()}, label


def _as_float32(array: np.ndarray) -> np.ndarray:
    """Return floats of 64 bits as floats of 32 bits, which networks take; others as they are."""
    return array.astype(np.float32) if array.dtype == np.float64 else array
