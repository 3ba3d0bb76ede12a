"""Named outputs in array files of a folder: written batch by batch, and read as memory-mapped arrays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from qx.amounts import size_in_words
from qx.contract.records import Arrays
from qx.errors import PluginError, QxError
from qx.leftovers import remove_tree
from qx.values import Array
from qx.worker.outputs import require_names

#: Name of the file with the names of the outputs in their order, which is written last.
NAMES = "outputs.json"
#: Name of a folder for what ``postprocess`` makes of the outputs, within that of the outputs.
ANSWERS = "answers"
#: Number of bytes that are converted at once where an output turns out to need another type.
AT_ONCE = 16 << 20


class OutputWriter:
    """Writes the outputs of one batch after another into a folder, with no more than a batch in memory.

    The folder is made, and replaced where it exists. Where batches have different types, an output has the
    type that holds all of them. The files are written plainly: a memory-mapped file would kill the process
    on a full disk.
    """

    def __init__(self, folder: Path, items: int, plugin: str, hook: str = "outputs") -> None:
        """Write the outputs of ``items`` items; ``plugin`` and its ``hook`` are named in messages."""
        self._folder, self._items, self._plugin, self._hook = folder, items, plugin, hook
        self._written = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._types: dict[str, np.dtype] = {}
        self._files: dict[str, BinaryIO] = {}
        self._stack = ExitStack()
        remove_tree(folder)
        folder.mkdir(parents=True)

    def __enter__(self) -> OutputWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
        if error is None:
            (self._folder / NAMES).write_text(json.dumps(list(self._shapes)), encoding="ascii")

    def add(self, batch: Arrays) -> None:
        """Write the outputs of a batch, ``[batch, ...]`` by name; rows beyond the last item are left out.

        Raises ``PluginError`` if they have other names or shapes than those of the first batch, and
        ``QxError`` if the disk has too little room for all items.
        """
        if not self._files:
            self._open(batch)
        if self._hook == "outputs":
            require_names(self._plugin, list(self._shapes), batch)
        shapes = {name: array.shape[1:] for name, array in batch.items()}
        if shapes != self._shapes:
            raise PluginError(
                f"{self._plugin}: {self._hook} gave {_shown(self._shapes)} and {_shown(shapes)}; expected "
                f"the same for every batch but for the first dimension: pad where items have more of "
                f"something than others"
            )
        for name, array in batch.items():
            self._widen(name, np.result_type(self._types[name], array.dtype))
            rows = array[: self._items - self._written]
            self._files[name].write(np.ascontiguousarray(rows, dtype=self._types[name]).data)
        self._written += min(len(next(iter(batch.values()))), self._items - self._written)

    def _open(self, batch: Arrays) -> None:
        needed = sum(array.nbytes // len(array) * self._items for array in batch.values())
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise QxError(room_needed(f"the {self._hook} of {self._items:,} items", needed, free))
        for index, (name, array) in enumerate(batch.items()):
            self._shapes[name], self._types[name] = array.shape[1:], array.dtype
            self._files[name] = self._new_file(_path(self._folder, index), name)

    def _new_file(self, path: Path, name: str) -> BinaryIO:
        file = self._stack.enter_context(path.open("wb"))
        header = {
            "descr": np.lib.format.dtype_to_descr(self._types[name]),
            "fortran_order": False,
            "shape": (self._items, *self._shapes[name]),
        }
        np.lib.format.write_array_header_1_0(file, header)
        return file

    def _widen(self, name: str, dtype: np.dtype) -> None:
        """Have the file of an output hold this type: what is written already is converted."""
        if dtype == self._types[name]:
            return
        former, path = self._types[name], _path(self._folder, list(self._shapes).index(name))
        self._files[name].close()
        narrow = path.with_suffix(".narrow")
        path.rename(narrow)
        self._types[name] = dtype
        self._files[name] = self._new_file(path, name)
        with narrow.open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            while content := file.read(AT_ONCE // former.itemsize * former.itemsize):
                self._files[name].write(np.frombuffer(content, former).astype(dtype).data)
        narrow.unlink()


def read_outputs(folder: Path) -> dict[str, Array]:
    """Return the outputs in a folder by name: arrays that are memory-mapped, and cannot be written to.

    They stay readable where the files are removed. Raises ``OSError`` or ``ValueError`` where the outputs
    are not whole.
    """
    names = json.loads((folder / NAMES).read_text(encoding="ascii"))
    # Views of the plain type: results computed from a `memmap` would be of its type too.
    return {
        name: np.asarray(np.load(_path(folder, index), mmap_mode="r")) for index, name in enumerate(names)
    }


def room_needed(what: str, needed: int, free: int) -> str:
    """Say in one line how much room outputs need on the disk, how much there is, and what to do."""
    return (
        f"{what} take {size_in_words(needed)} on the disk, and {size_in_words(free)} are free: name a folder "
        f"on a larger disk in QX_CACHE, or evaluate fewer items"
    )


def _path(folder: Path, index: int) -> Path:
    # A number, since the name of an output may be any text.
    return folder / f"output_{index}.npy"


def _shown(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {['batch', *shape]}".replace("'", "") for name, shape in shapes.items())
