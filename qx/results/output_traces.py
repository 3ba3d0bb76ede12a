"""What is kept of outputs that are too large to be kept whole, and comparisons that need no more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from qx.contract.records import Arrays
from qx.values import Array

#: Number of bytes of an output that are looked at at a time.
AT_ONCE = 32 << 20


@frozen
class OutputTrace:
    """What is kept of an output of a cell in place of its values."""

    #: SHA-256 of type, shape and values, where every NaN counts as the same, and -0 as 0.
    sha256: str
    #: Shape of the whole output, with the items.
    shape: tuple[int, ...]
    #: The position of the highest value of each item, integers ``[items]``, for an output
    #: ``[items, 2 or more]``; None for others.
    highest: NDArray[np.integer] | None = field(default=None, eq=False)


def traces_of(outputs: Arrays) -> dict[str, OutputTrace]:
    """Return the traces of outputs by name, with no more than some tens of MiB of them in memory."""
    return {name: _trace(array) for name, array in outputs.items()}


def equal_outputs(ours: Arrays, theirs: Arrays) -> bool:
    """Return whether two cells have the same outputs by name, number by number; NaN is equal to NaN."""
    return ours.keys() == theirs.keys() and all(
        array.shape == theirs[name].shape
        and all(np.array_equal(array[items], theirs[name][items], equal_nan=True) for items in _slices(array))
        for name, array in ours.items()
    )


def highest(scores: Array) -> Array:
    """Return the class with the highest score of each item, ``[n]``, of scores ``[n, classes]``.

    It goes over the items in parts, since numpy copies an array that cannot be written to, as a
    memory-mapped one.
    """
    parts = [scores[items].argmax(axis=1) for items in _slices(scores)]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _slices(array: Array) -> Iterator[slice]:
    count = len(array)
    size = max(1, AT_ONCE * count // max(1, array.nbytes))
    return (slice(start, start + size) for start in range(0, count, size))


def _trace(array: Array) -> OutputTrace:
    digest = hashlib.sha256(f"{json.dumps([array.dtype.str, *array.shape])}\n".encode())
    is_of_classes = array.ndim == 2 and array.shape[1] > 1
    highest = np.empty(len(array), dtype=np.min_scalar_type(array.shape[1])) if is_of_classes else None
    for items in _slices(array):
        part = np.ascontiguousarray(array[items])
        if part.dtype.kind == "f":
            part = part + part.dtype.type(0)
            part[np.isnan(part)] = np.nan
        digest.update(part.data)
        if highest is not None:
            highest[items] = array[items].argmax(axis=1)
    return OutputTrace(digest.hexdigest(), array.shape, highest)
