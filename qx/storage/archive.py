"""Read ``.npz`` archives of arrays from untrusted sources, within bounds.

Sizes, types and shapes stand in the archive's directory and in the arrays' headers, and are checked before
anything is unpacked. Nothing in an archive is ever run: pickles are refused.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from attrs import frozen
from numpy.lib import format as npy

from qx.environment import available_memory
from qx.files import open_regular
from qx.foreign import to_line
from qx.storage.strict_json import ROOM
from qx.values import Array

#: Largest size of the unpacked arrays of one archive, in bytes.
MOST_BYTES = 16 << 30
#: Largest ratio by which deflate can compress.
DENSEST = 1032
#: Largest size of an array without any data, in bytes.
HEADER = 1 << 14
#: Kinds of numpy types that can be computed with.
NUMBERS = "biuf"
SUFFIX = ".npy"


@frozen
class Header:
    """The header of an array, which precedes its data."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    order: Literal["C", "F"]

    @property
    def bytes(self) -> int:
        """Size of its data in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def holds_numbers(self) -> bool:
        """Whether it is an array of real numbers of at most 8 bytes, with one dimension or more."""
        return self.dtype.kind in NUMBERS and self.dtype.itemsize <= 8 and bool(self.shape)


class Archive:
    """The arrays of an archive by their names. Errors are ``ValueError``, or those of ``zipfile``."""

    def __init__(self, file: IO[bytes]) -> None:
        """Check the directory of the archive: names and sizes."""
        self._zip = ZipFile(file)
        self._members: dict[str, ZipInfo] = {}
        for member in self._zip.infolist():
            name = member.filename.removesuffix(SUFFIX)
            shown = to_line(name, ROOM)
            if name == member.filename:
                raise ValueError(f"it holds {shown!r}, which is not an array ({SUFFIX})")
            if name in self._members:
                raise ValueError(f"it holds the array {shown!r} twice")
            if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED) or member.flag_bits & 1:
                raise ValueError(f"its array {shown!r} is compressed in a way that is not supported")
            if member.file_size > DENSEST * member.compress_size + HEADER:
                raise ValueError(f"its array {shown!r} claims an impossible unpacked size")
            self._members[name] = member
        size = sum(member.file_size for member in self._members.values())
        if size > (most := _most_bytes()):
            raise ValueError(f"it unpacks to {size:,} bytes, more than the {most:,} that can be read here")

    @property
    def names(self) -> list[str]:
        """The names of the arrays in their order."""
        return list(self._members)

    def header(self, name: str) -> Header:
        """Return the header of an array. Raises ``KeyError`` where there is no array of that name."""
        with self._zip.open(self._members[name]) as member:
            return self._header(name, member)

    def array(self, name: str) -> Array:
        """Return an array, which is read-only. Raises ``KeyError`` where there is no array of that name."""
        with self._zip.open(self._members[name]) as member:
            header = self._header(name, member)
            content = member.read(header.bytes)
            # Reading to the end makes zipfile compare the checksum.
            if len(content) != header.bytes or member.read(1):
                raise ValueError(f"its array {to_line(name, ROOM)!r} is cut off")
        return np.ndarray(header.shape, header.dtype, content, order=header.order)

    def _header(self, name: str, member: IO[bytes]) -> Header:
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        # numpy warns where it has to guess at a header.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            shape, is_fortran, dtype = readers[npy.read_magic(member)](member)
        if dtype.hasobject:
            raise ValueError(f"its array {to_line(name, ROOM)!r} holds objects, which are never unpacked")
        header = Header(name, dtype, shape, "F" if is_fortran else "C")
        if min(shape, default=0) < 0 or member.tell() + header.bytes != self._members[name].file_size:
            raise ValueError(f"its array {to_line(name, ROOM)!r} is not as long as its header says")
        return header


def _most_bytes() -> int:
    """Return how many bytes may be unpacked: what fits into memory, where that is known."""
    try:
        return min(MOST_BYTES, available_memory())
    except OSError:
        return MOST_BYTES


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open an archive in a regular file. Raises ``OSError``, or any error for a damaged archive."""
    with open_regular(path) as file:
        yield Archive(file)
