"""Named outputs in array files of a folder: written batch by batch, and read as memory-mapped arrays."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from attrs import asdict, frozen

from qx.amounts import size_in_words
from qx.contract.records import Arrays
from qx.errors import PluginError, QxError
from qx.files import open_regular, read_bounded, write_whole
from qx.leftovers import remove_tree
from qx.processes.structuring import structure
from qx.storage import strict_json
from qx.values import Array
from qx.worker.outputs import require_names

#: Name of the file with the names of the outputs in their order, which is written last.
NAMES = "outputs.json"
#: Name of a folder for what ``postprocess`` makes of the outputs, within that of the outputs.
ANSWERS = "answers"
#: What a worker calls what it does while it writes the outputs of one batch after another.
PREDICTIONS = "predictions"
#: Name of the file that says how far unfinished outputs are written, and its largest size in bytes.
NOTE, MOST_NOTE = "written.json", 1 << 20
#: Seconds between two of them: writing it waits for the disk.
CHUNK_SECONDS = 20.0
#: Number of bytes that are converted at once where an output turns out to need another type.
AT_ONCE = 16 << 20


@frozen(kw_only=True)
class Note:
    """How far outputs are written and on the disk."""

    #: Number of all items, and of those that are written.
    items: int
    written: int
    #: Names of the outputs in their order, with their shapes without the items, numpy's types, and the
    #: checksums of what is written.
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    types: tuple[str, ...]
    checksums: tuple[int, ...]

    def bytes(self, index: int) -> int:
        """Return the size of what is written of an output, in bytes."""
        return self.written * math.prod(self.shapes[index]) * np.dtype(self.types[index]).itemsize


def _read_note(folder: Path, items: int, *, grows: bool) -> Note | None:
    """Return the note that another process has left; None without one, or where the files are not so.

    With ``grows`` it may be a note of fewer items.
    """
    try:
        note = structure(Note, strict_json.loads(read_bounded(folder / NOTE, MOST_NOTE)))
        parts = (note.names, note.shapes, note.types, note.checksums)
        fits = note.items == items or (grows and note.items < items)
        if not fits or not 0 < note.written <= note.items or len(set(map(len, parts))) != 1:
            return None
        for index, checksum in enumerate(note.checksums):
            if np.dtype(note.types[index]).hasobject or min(note.shapes[index], default=0) < 0:
                return None
            with open_regular(_path(folder, index)) as file:
                _skip_header(file)
                if _checksum(file, note.bytes(index)) != checksum:
                    return None
    except (OSError, ValueError, TypeError):
        return None
    return note


def _checksum(file: BinaryIO, size: int) -> int | None:
    """Return the checksum of the next bytes of a file; None where there are fewer."""
    checksum = 0
    while size:
        content = file.read(min(size, AT_ONCE))
        if not content:
            return None
        checksum, size = zlib.crc32(content, checksum), size - len(content)
    return checksum


def _bytes(array: Array) -> memoryview:
    """Return the bytes of an array whose rows lie one after another, without a copy."""
    return array.reshape(-1).view(np.uint8).data


def _skip_header(file: BinaryIO) -> None:
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)


class OutputWriter:
    """Writes the outputs of one batch after another into a folder, with no more than a batch in memory.

    The folder is made, and replaced where it exists. Where batches have different types, an output has the
    type that holds all of them. The files are written plainly: a memory-mapped file would kill the process
    on a full disk.

    With ``chunk`` what has been written is put on the disk every so many seconds, with a note of how far that
    is (``NOTE``). Where another process has left such a note, writing goes on behind it, if the files are
    what it says: ``written`` is the number of items before. With ``grows`` the note stays when all items are
    written, so that those of more items can be written behind them.
    """

    def __init__(
        self,
        folder: Path,
        items: int,
        plugin: str,
        hook: str = "outputs",
        chunk: float | None = None,
        *,
        grows: bool = False,
    ) -> None:
        """Write the outputs of ``items`` items; ``plugin`` and its ``hook`` are named in messages."""
        self._folder, self._items, self._plugin, self._hook = folder, items, plugin, hook
        #: Number of items that are written.
        self.written = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._types: dict[str, np.dtype] = {}
        self._files: dict[str, BinaryIO] = {}
        #: Checksum (CRC-32) of what was written of each output, without the header of its file.
        self._checksums: dict[str, int] = {}
        self._chunk, self._noted, self._grows = chunk, time.monotonic(), grows
        self._stack = ExitStack()
        if chunk is not None and (note := _read_note(folder, items, grows=grows)) is not None:
            self._go_on(note)
            return
        remove_tree(folder)
        folder.mkdir(parents=True)

    def __enter__(self) -> OutputWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None and self._grows:
            self._note()
        elif error is None and self._chunk is not None:
            self._sync()
        self._stack.close()
        if error is None:
            (self._folder / NAMES).write_text(json.dumps(list(self._shapes)), encoding="ascii")
            if not self._grows:
                (self._folder / NOTE).unlink(missing_ok=True)

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
            rows = np.ascontiguousarray(array[: self._items - self.written], dtype=self._types[name])
            self._files[name].write(rows.data)
            if self._chunk is not None:
                self._checksums[name] = zlib.crc32(_bytes(rows), self._checksums.get(name, 0))
        self.written += min(len(next(iter(batch.values()))), self._items - self.written)
        if self._chunk is not None and time.monotonic() - self._noted >= self._chunk:
            self._note()

    def _sync(self) -> None:
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())

    def _note(self) -> None:
        """Put what is written on the disk, and note how far that is."""
        self._sync()
        note = Note(
            items=self._items,
            written=self.written,
            names=tuple(self._shapes),
            shapes=tuple(self._shapes.values()),
            types=tuple(dtype.str for dtype in self._types.values()),
            checksums=tuple(self._checksums[name] for name in self._shapes),
        )
        write_whole(self._folder / NOTE, json.dumps(asdict(note)).encode())
        self._noted = time.monotonic()

    def _go_on(self, note: Note) -> None:
        """Open the files that an earlier process has left, cut off behind what its note says."""
        # They are not whole any more, until all items are written.
        (self._folder / NAMES).unlink(missing_ok=True)
        for index, name in enumerate(note.names):
            self._shapes[name], self._types[name] = note.shapes[index], np.dtype(note.types[index])
            self._checksums[name] = note.checksums[index]
            file = self._stack.enter_context(_path(self._folder, index).open("r+b"))
            self._write_header(file, name)
            file.seek(note.bytes(index), os.SEEK_CUR)
            file.truncate()
            self._files[name] = file
        self.written = note.written

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
        self._write_header(file, name)
        return file

    def _write_header(self, file: BinaryIO, name: str) -> None:
        """Write the header for all items, which is as long as that of fewer: numpy leaves room."""
        header = {
            "descr": np.lib.format.dtype_to_descr(self._types[name]),
            "fortran_order": False,
            "shape": (self._items, *self._shapes[name]),
        }
        np.lib.format.write_array_header_1_0(file, header)

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
            _skip_header(file)
            self._checksums[name] = 0
            while content := file.read(AT_ONCE // former.itemsize * former.itemsize):
                converted = np.frombuffer(content, former).astype(dtype)
                self._files[name].write(converted.data)
                self._checksums[name] = zlib.crc32(_bytes(converted), self._checksums[name])
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
        f"on a larger disk (--out, or QX_CACHE where there is no such option), or evaluate fewer items"
    )


def _path(folder: Path, index: int) -> Path:
    # A number, since the name of an output may be any text.
    return folder / f"output_{index}.npy"


def _shown(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {['batch', *shape]}".replace("'", "") for name, shape in shapes.items())
