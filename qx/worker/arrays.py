"""Splits of data as plain array files, memory-mapped, and the batches that are drawn from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from qx.contract.records import LABELS, Batch, Data
from qx.errors import DataError
from qx.values import Array

META = "split.json"
#: Version of the files of a split.
FORM = "qx split 2"


def _file(kind: str, index: int) -> str:
    """Return the name of an array's file: a number, since the name of an array may be any text."""
    return f"{kind}_{index}.npy"


@frozen
class Split:
    """Named inputs and targets, each ``[items, ...]``; there are no targets without right answers."""

    #: Arrays, or objects that return arrays when they are indexed.
    inputs: dict[str, Any]
    targets: dict[str, Array]
    classes: tuple[str, ...]
    source: str
    #: How the inputs were computed, as the workload says; not written, since it is no part of the data.
    preprocessing: str = ""
    #: Task that the workload states; None where it states none. The files of a split do not hold it.
    task: str | None = None
    #: Number of items that these were drawn from; None where these are all. The files do not hold it.
    total: int | None = None

    @classmethod
    def of(cls, data: Data) -> Split:
        """Return the split of a workload's data, with lazy inputs left lazy. Raises ``DataError``."""
        if not isinstance(data.targets, Mapping):
            raise DataError(
                f"targets is of type {type(data.targets).__name__}, and named arrays are expected, such as "
                f'{{"{LABELS}": array}}'
            )
        targets = {name: np.asarray(array) for name, array in data.targets.items()}
        inputs = dict(data.inputs)
        return cls(inputs, targets, data.classes, data.source, data.preprocessing, data.task, data.total)

    @classmethod
    def read(cls, folder: Path) -> Split:
        """Read the split that ``write`` has written, with its inputs memory-mapped."""
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        inputs = {
            name: np.load(folder / _file("input", index), mmap_mode="r")
            for index, name in enumerate(meta["inputs"])
        }
        targets = {
            name: np.load(folder / _file("target", index)) for index, name in enumerate(meta["targets"])
        }
        return cls(inputs, targets, tuple(meta["classes"]), meta["source"])

    def write(self, folder: Path) -> None:
        """Write the split into an existing folder."""
        for kind, arrays in (("input", self.inputs), ("target", self.targets)):
            for index, array in enumerate(arrays.values()):
                _save(folder / _file(kind, index), array)
        meta = {
            "inputs": list(self.inputs),
            "targets": list(self.targets),
            "classes": list(self.classes),
            "source": self.source,
        }
        (folder / META).write_text(json.dumps(meta), encoding="utf-8")

    @property
    def labels(self) -> Array | None:
        """The targets of a classifier; None if the split has no targets of that name."""
        return self.targets.get(LABELS)

    @property
    def files(self) -> frozenset[str]:
        """The names of the files that ``write`` writes."""
        inputs = (_file("input", index) for index in range(len(self.inputs)))
        targets = (_file("target", index) for index in range(len(self.targets)))
        return frozenset([META, *inputs, *targets])

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, indices: NDArray[np.intp] | slice) -> Split:
        """Return the items at these indices, in memory."""
        inputs = {name: np.ascontiguousarray(array[indices]) for name, array in self.inputs.items()}
        targets = {name: array[indices] for name, array in self.targets.items()}
        return evolve(self, inputs=inputs, targets=targets)

    def first(self, count: int | None) -> Split:
        """Return the first items, without reading them; None for all."""
        if count is None or count >= len(self):
            return self
        inputs = {name: array[:count] for name, array in self.inputs.items()}
        targets = {name: array[:count] for name, array in self.targets.items()}
        return evolve(self, inputs=inputs, targets=targets)

    def reordered(self, order: NDArray[np.intp]) -> Split:
        """Return all items in another order, with the inputs read when they are asked for."""
        inputs = {name: Reordered(array, order) for name, array in self.inputs.items()}
        targets = {name: array[order] for name, array in self.targets.items()}
        return evolve(self, inputs=inputs, targets=targets)

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
        """Return batches of ``size`` in a random order that depends on the seed."""
        return Batches(self, size, np.random.default_rng(seed).permutation(len(self)))

    def nbytes(self) -> int:
        """Return the size of the inputs and targets as plain arrays, in bytes."""
        arrays = [*self.inputs.values(), *self.targets.values()]
        return sum(len(array) * np.asarray(array[0:1]).nbytes for array in arrays)

    def fingerprint(self) -> str:
        """Return the SHA-256 of inputs, targets (names, types, shapes and values of both) and classes.

        It names the folder of a split. The version of the files is part of it, so that files of another
        version lie in another folder.
        """
        digest = hashlib.sha256(f"{FORM}\n".encode())
        for kind, arrays in (("input", self.inputs), ("target", self.targets)):
            for name, array in arrays.items():
                first = np.asarray(array[0:1])
                header = [kind, name, first.dtype.str, len(array), *first.shape[1:]]
                digest.update(f"{json.dumps(header)}\n".encode())
                for _, chunk in _chunks(array):
                    digest.update(chunk.data)
        digest.update(json.dumps(self.classes).encode())
        return digest.hexdigest()


class Reordered:
    """The items of an array, or of what returns arrays when it is indexed, in another order."""

    def __init__(self, array: Any, order: NDArray[np.intp]) -> None:
        self._array, self._order = array, order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: slice | NDArray[np.intp]) -> Array:
        return np.asarray(self._array[self._order[index]])


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


class Batches(Sequence[Batch]):
    """A sequence of batches, which are read anew each time, so that changes to one are not kept.

    With an ``order`` (indices of all items, ``[items]``) the items come in that order.
    """

    #: Called with the index and each batch when it is handed out, to detect changes to it.
    on_batch: Callable[[int, Batch], None] | None = None

    def __init__(self, split: Split, size: int, order: NDArray[np.intp] | None = None) -> None:
        self._split, self._size, self._order = split, size, order

    def __len__(self) -> int:
        return -(-len(self._split) // self._size)

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Batch]: ...
    def __getitem__(self, index: int | slice) -> Batch | list[Batch]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        start = index * self._size
        stop = min(start + self._size, len(self._split))
        batch = self._read(start, stop)
        if self.on_batch is not None:
            self.on_batch(index, batch)
        return batch

    def _read(self, start: int, stop: int) -> Batch:
        items = slice(start, stop) if self._order is None else self._order[start:stop]
        # Copies, whatever the index: a plugin that changes them must change neither the split nor its files.
        inputs = {name: np.array(array[items]) for name, array in self._split.inputs.items()}
        targets = {name: np.array(array[items]) for name, array in self._split.targets.items()}
        return Batch(inputs=inputs, targets=targets)

    def __iter__(self) -> Iterator[Batch]:
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


def draw_items(labels: Any, total: int, count: int) -> NDArray[np.intp]:
    """Draw ``count`` of ``total`` items, and return their indices in order: the same ones each time.

    Each class keeps its share of the items, to within one item, so that a figure of the items drawn is an
    estimate of that of all. Every item has the same chance. ``labels`` are those of all items, ``[total]``;
    with None, or with labels that are no classes (floats, or several for an item), items are drawn at random.
    A ``count`` of ``total`` or more takes all.
    """
    if count >= total:
        return np.arange(total)
    # numpy guarantees that the numbers of RandomState never change.
    random = np.random.RandomState(0)
    order = random.permutation(total)
    classes = None if labels is None else np.asarray(labels)
    if classes is None or classes.ndim != 1 or classes.dtype.kind not in "iub":
        return np.sort(order[:count])
    # Systematic sampling (Madow and Madow, 1944): every so many items of the list, which is sorted by class.
    # The classes come in a random order, so that none is always the one that is rounded up.
    names, of_item = np.unique(classes, return_inverse=True)
    ranks = random.permutation(len(names))[of_item.reshape(-1)]
    ordered = order[np.argsort(ranks[order], kind="stable")]
    places = ((np.arange(count) + random.uniform()) * total / count).astype(np.intp)
    return np.sort(ordered[places])


def fair_order(labels: Any, total: int) -> NDArray[np.intp]:
    """Return all indices in an order of which every beginning is a fair sample: the same each time.

    In each beginning every class has its share of the items, to within one item, and each item has the same
    chance to be in it. ``labels`` are those of all items, ``[total]``; with None, or with labels that are no
    classes (floats, or several for an item), the order is random.
    """
    # As in `draw_items`: numbers that never change.
    random = np.random.RandomState(0)
    order = random.permutation(total)
    classes = None if labels is None else np.asarray(labels)
    if classes is None or classes.ndim != 1 or classes.dtype.kind not in "iub":
        return order
    names, of_item = np.unique(classes[order], return_inverse=True)
    counts = np.bincount(of_item.reshape(-1), minlength=len(names))
    places = np.empty(total)
    # The items of a class lie at equal distances, from a random beginning on.
    for number, offset in enumerate(random.uniform(size=len(names))):
        members = np.flatnonzero(of_item.reshape(-1) == number)
        places[members] = (np.arange(len(members)) + offset) / counts[number]
    return order[np.argsort(places, kind="stable")]
