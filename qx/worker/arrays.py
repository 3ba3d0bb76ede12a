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
    """Named inputs ``[n, ...]`` and labels ``[n]`` (or None)."""

    #: Arrays, or what makes them when it is indexed.
    inputs: dict[str, Any]
    labels: Array | None
    classes: tuple[str, ...]
    source: str

    @classmethod
    def of(cls, data: Data) -> Split:
        """What a workload gave, its inputs left as lazy as they are."""
        labels = None if data.labels is None else np.asarray(data.labels)
        return cls(dict(data.inputs), labels, data.classes, data.source)

    @classmethod
    def read(cls, folder: Path) -> Split:
        """The split that ``write`` laid down, memory-mapped."""
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        inputs = {
            name: np.load(folder / _input_file(index), mmap_mode="r")
            for index, name in enumerate(meta["inputs"])
        }
        labels = np.load(folder / LABELS) if meta["labels"] else None
        return cls(inputs, labels, tuple(meta["classes"]), meta["source"])

    def write(self, folder: Path) -> None:
        """Lay the split down in an existing folder."""
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
        """The names of the files that ``write`` lays down."""
        labels = [] if self.labels is None else [LABELS]
        return frozenset([META, *labels, *map(_input_file, range(len(self.inputs)))])

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, indices: NDArray[np.intp] | slice) -> Split:
        """The items at these places, in memory."""
        inputs = {name: np.ascontiguousarray(array[indices]) for name, array in self.inputs.items()}
        labels = None if self.labels is None else self.labels[indices]
        return Split(inputs, labels, self.classes, self.source)

    def rows(self, start: int, stop: int) -> dict[str, Array]:
        """One batch of inputs: items ``start`` to ``stop``, begun again from the first where they end."""
        if stop <= len(self):
            return {name: np.array(array[start:stop]) for name, array in self.inputs.items()}
        places = np.arange(start, stop) % len(self)
        return {name: np.array(array[places]) for name, array in self.inputs.items()}

    def batches(self, size: int) -> Batches:
        """All items in order, ``size`` at a time."""
        return Batches(self, size)

    def shuffled(self, size: int, seed: int) -> Batches:
        """All items in a random order, the same for a seed, with their labels under ``"labels"``."""
        return Batches(self, size, np.random.default_rng(seed).permutation(len(self)))

    def nbytes(self) -> int:
        """What the inputs take as plain arrays."""
        return sum(len(array) * np.asarray(array[0:1]).nbytes for array in self.inputs.values())

    def fingerprint(self) -> str:
        """SHA-256 over names, shapes, values and labels."""
        digest = hashlib.sha256()
        arrays = dict(self.inputs) if self.labels is None else {**self.inputs, "": self.labels}
        for name, array in arrays.items():
            first = np.asarray(array[0:1])
            digest.update(f"{name} {first.dtype.str} {(len(array), *first.shape[1:])}".encode())
            for _, chunk in _chunks(array):
                digest.update(chunk.data)
        digest.update("\n".join(self.classes).encode())
        return digest.hexdigest()


#: Items, and their bytes, that are converted at a time, where an array may be larger than the memory.
CHUNK, CHUNK_BYTES = 1024, 64 << 20


def _chunks(array: Any) -> Iterator[tuple[int, Array]]:
    item = max(1, np.asarray(array[0:1]).nbytes)
    size = max(1, min(CHUNK, CHUNK_BYTES // item))
    for start in range(0, len(array), size):
        yield start, np.ascontiguousarray(array[start : start + size])


def _save(path: Path, array: Any) -> None:
    """As ``numpy.save`` does, with no more than a chunk in memory.

    Not through a map of the file, and not by numpy: on a full disk the one kills the process, and the other
    raises an error that does not say so.
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
        raise DataError(f"{len(array)} items were promised, and there were {written}")


class Batches(Sequence[dict[str, Array]]):
    """A sequence of named batches, each made afresh when asked for: none can be spoilt for the next.

    With an ``order`` (places of all items) they come in it, and with their labels where there are any.
    """

    #: Told of each batch as it is handed out, to see what becomes of it.
    handed: Callable[[int, dict[str, Array]], None] | None = None

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
            return [self[place] for place in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        start = index * self._size
        stop = min(start + self._size, len(self._split))
        batch = self._made(start, stop)
        if self.handed is not None:
            self.handed(index, batch)
        return batch

    def _made(self, start: int, stop: int) -> dict[str, Array]:
        if self._order is None:
            return self._split.rows(start, stop)
        chosen = self._split.take(self._order[start:stop])
        return chosen.inputs if chosen.labels is None else {**chosen.inputs, "labels": chosen.labels}

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return (self[index] for index in range(len(self)))


def drawn_over_classes(labels: Array | None, total: int, count: int, seed: int) -> NDArray[np.intp]:
    """``count`` of ``total`` indices, as evenly over the classes as they allow, the same for a seed.

    The items of each class are shuffled, then taken in turn: one of every class, the next of every class...
    Without labels, and with labels that are no classes (floats, or several for an item), they are drawn at
    random.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(total)
    if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iub":
        shuffled = labels[order]
        turn = np.empty(total, dtype=np.int64)
        for label in np.unique(shuffled):
            places = np.flatnonzero(shuffled == label)
            turn[places] = np.arange(len(places))
        order = order[np.argsort(turn, kind="stable")]
    return order[:count]
