"""Splits of data as plain array files, memory-mapped, and the batches that are drawn from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from qx.contract.records import Data
from qx.errors import DataError
from qx.values import Array

META, LABELS = "split.json", "labels.npy"


def _input_file(index: int) -> str:
    return f"input_{index}.npy"


@frozen
class Split:
    """Named inputs ``[items, ...]`` and labels ``[items, ...]`` (or None)."""

    #: Arrays, or objects that return arrays when they are indexed.
    inputs: dict[str, Any]
    labels: Array | None
    classes: tuple[str, ...]
    source: str

    @classmethod
    def of(cls, data: Data) -> Split:
        """Return the split of a workload's data, with lazy inputs left lazy."""
        labels = None if data.labels is None else np.asarray(data.labels)
        return cls(dict(data.inputs), labels, data.classes, data.source)

    @classmethod
    def read(cls, folder: Path) -> Split:
        """Read the split that ``write`` has written, memory-mapped."""
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        inputs = {
            name: np.load(folder / _input_file(index), mmap_mode="r")
            for index, name in enumerate(meta["inputs"])
        }
        labels = np.load(folder / LABELS) if meta["labels"] else None
        return cls(inputs, labels, tuple(meta["classes"]), meta["source"])

    def write(self, folder: Path) -> None:
        """Write the split into an existing folder."""
        for index, array in enumerate(self.inputs.values()):
            _save(folder / _input_file(index), array)
        if self.labels is not None:
            np.save(folder / LABELS, self.labels)
        meta = {
            "inputs": list(self.inputs),
            "labels": self.labels is not None,
            "classes": list(self.classes),
            "source": self.source,
        }
        (folder / META).write_text(json.dumps(meta), encoding="utf-8")

    @property
    def files(self) -> frozenset[str]:
        """The names of the files that ``write`` writes."""
        labels = [] if self.labels is None else [LABELS]
        return frozenset([META, *labels, *map(_input_file, range(len(self.inputs)))])

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, indices: NDArray[np.intp] | slice) -> Split:
        """Return the items at these indices, in memory."""
        inputs = {name: np.ascontiguousarray(array[indices]) for name, array in self.inputs.items()}
        labels = None if self.labels is None else self.labels[indices]
        return Split(inputs, labels, self.classes, self.source)

    def rows(self, start: int, stop: int) -> dict[str, Array]:
        """Return a batch of inputs: items ``start`` to ``stop``, continued with the first after the last."""
        if stop <= len(self):
            return {name: np.array(array[start:stop]) for name, array in self.inputs.items()}
        indices = np.arange(start, stop) % len(self)
        return {name: np.array(array[indices]) for name, array in self.inputs.items()}

    def batches(self, size: int) -> Batches:
        """Return all items in order, in batches of ``size``."""
        return Batches(self, size)

    def shuffled(self, size: int, seed: int) -> Batches:
        """Return batches in a random order that depends on the seed, with the labels under ``"labels"``."""
        return Batches(self, size, np.random.default_rng(seed).permutation(len(self)))

    def nbytes(self) -> int:
        """Return the size of the inputs as plain arrays, in bytes."""
        return sum(len(array) * np.asarray(array[0:1]).nbytes for array in self.inputs.values())

    def fingerprint(self) -> str:
        """Return the SHA-256 of names, shapes, values and labels."""
        digest = hashlib.sha256()
        arrays = dict(self.inputs) if self.labels is None else {**self.inputs, "": self.labels}
        for name, array in arrays.items():
            first = np.asarray(array[0:1])
            digest.update(f"{name} {first.dtype.str} {(len(array), *first.shape[1:])}".encode())
            for _, chunk in _chunks(array):
                digest.update(chunk.data)
        digest.update("\n".join(self.classes).encode())
        return digest.hexdigest()


#: Number of items, and their size in bytes, that are converted at once: an array may be larger than memory.
CHUNK, CHUNK_BYTES = 1024, 64 << 20


def _chunks(array: Any) -> Iterator[tuple[int, Array]]:
    item = max(1, np.asarray(array[0:1]).nbytes)
    size = max(1, min(CHUNK, CHUNK_BYTES // item))
    for start in range(0, len(array), size):
        yield start, np.ascontiguousarray(array[start : start + size])


def _save(path: Path, array: Any) -> None:
    """Save an array like ``numpy.save``, with no more than a chunk in memory.

    A memory-mapped file would kill the process on a full disk, and numpy would raise an error that does not
    say that the disk is full.
    """
    first = np.asarray(array[0:1])
    header = {
        "descr": np.lib.format.dtype_to_descr(first.dtype),
        "fortran_order": False,
        "shape": (len(array), *first.shape[1:]),
    }
    written = 0
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start, chunk in _chunks(array):
            if chunk.shape[1:] != first.shape[1:]:
                raise DataError(
                    f"item 0 has shape {first.shape[1:]}, items from {start} on have {chunk.shape[1:]}"
                )
            file.write(chunk.astype(first.dtype, copy=False).data)
            written += len(chunk)
    if written != len(array):
        raise DataError(f"{len(array)} items were expected, and {written} came")


class Batches(Sequence[dict[str, Array]]):
    """A sequence of named batches, which are read anew each time, so that changes to one are not kept.

    With an ``order`` (indices of all items, ``[items]``) they come in that order, and with their labels if
    there are any.
    """

    #: Called with the index and each batch when it is handed out, to detect changes to it.
    on_batch: Callable[[int, dict[str, Array]], None] | None = None

    def __init__(self, split: Split, size: int, order: NDArray[np.intp] | None = None) -> None:
        self._split, self._size, self._order = split, size, order

    def __len__(self) -> int:
        return -(-len(self._split) // self._size)

    @overload
    def __getitem__(self, index: int) -> dict[str, Array]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Array]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Array] | list[dict[str, Array]]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        start = index * self._size
        stop = min(start + self._size, len(self._split))
        batch = self._read(start, stop)
        if self.on_batch is not None:
            self.on_batch(index, batch)
        return batch

    def _read(self, start: int, stop: int) -> dict[str, Array]:
        if self._order is None:
            return self._split.rows(start, stop)
        chosen = self._split.take(self._order[start:stop])
        return chosen.inputs if chosen.labels is None else {**chosen.inputs, "labels": chosen.labels}

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return (self[index] for index in range(len(self)))


def drawn_over_classes(labels: Array | None, total: int, count: int, seed: int) -> NDArray[np.intp]:
    """Draw ``count`` of ``total`` indices, as evenly over the classes as possible; the seed decides which.

    The items of each class are shuffled, and drawn in turns: the first of every class, then the second of
    every class, and so on. Without labels, or with labels that are no classes (floats, or several for an
    item), they are drawn at random.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(total)
    if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iub":
        shuffled = labels[order]
        turn = np.empty(total, dtype=np.int64)
        for label in np.unique(shuffled):
            members = np.flatnonzero(shuffled == label)
            turn[members] = np.arange(len(members))
        order = order[np.argsort(turn, kind="stable")]
    return order[:count]
