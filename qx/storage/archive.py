"""An ``.npz`` archive of arrays from whoever made it, read within bounds.

Sizes, types and shapes stand in the archive's directory and in the arrays' headers, and are looked at before
anything is unpacked. Nothing in it is ever run: there are no pickles.
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

#: Bytes that the arrays of one archive may have when they are unpacked.
MOST_BYTES = 16 << 30
#: Deflate packs no more than so many bytes into one.
DENSEST = 1032
#: Bytes that an array without any data has at most.
HEADER = 1 << 14
#: Types of numbers that can be computed with, at most eight bytes each.
NUMBERS = "biuf"
SUFFIX = ".npy"


@frozen
class Header:
    """What an array says of itself, before its data."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    order: Literal["C", "F"]

    @property
    def bytes(self) -> int:
        """Bytes of its data."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def holds_numbers(self) -> bool:
        """Whether it is an array of real numbers, of one dimension or more."""
        return self.dtype.kind in NUMBERS and self.dtype.itemsize <= 8 and bool(self.shape)


class Archive:
    """The arrays of an archive, each by its name. Errors are ``ValueError``, or what ``zipfile`` raises."""

    def __init__(self, file: IO[bytes]) -> None:
        """Look at the directory of the archive: names, and how large everything is."""
        self._zip = ZipFile(file)
        self._members: dict[str, ZipInfo] = {}
        for member in self._zip.infolist():
            name = member.filename.removesuffix(SUFFIX)
            shown = to_line(name, ROOM)
            if name == member.filename:
                raise ValueError(f"it holds {shown!r}, which is no array ({SUFFIX})")
            if name in self._members:
                raise ValueError(f"it holds the array {shown!r} twice")
            if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED) or member.flag_bits & 1:
                raise ValueError(f"its array {shown!r} is packed in a way that is not read")
            if member.file_size > DENSEST * member.compress_size + HEADER:
                raise ValueError(f"its array {shown!r} says that it unpacks to more than it can")
            self._members[name] = member
        size = sum(member.file_size for member in self._members.values())
        if size > (most := _most_bytes()):
            raise ValueError(f"it unpacks to {size:,} bytes, and {most:,} can be read here")

    @property
    def names(self) -> list[str]:
        """The arrays in their order."""
        return list(self._members)

    def header(self, name: str) -> Header:
        """What an array is, without its data. Raises ``KeyError`` where there is none of that name."""
        with self._zip.open(self._members[name]) as member:
            return self._header(name, member)

    def array(self, name: str) -> Array:
        """An array, not to be written into. Raises ``KeyError`` where there is none of that name."""
        with self._zip.open(self._members[name]) as member:
            header = self._header(name, member)
            content = member.read(header.bytes)
            # Until nothing is left, where the checksum is compared.
            if len(content) != header.bytes or member.read(1):
                raise ValueError(f"its array {to_line(name, ROOM)!r} is cut off")
        return np.ndarray(header.shape, header.dtype, content, order=header.order)

    def _header(self, name: str, member: IO[bytes]) -> Header:
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        # Where numpy has to guess at a header, it warns.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            shape, is_fortran, dtype = read[npy.read_magic(member)](member)
        if dtype.hasobject:
            raise ValueError(f"its array {to_line(name, ROOM)!r} holds objects, which are never unpacked")
        header = Header(name, dtype, shape, "F" if is_fortran else "C")
        if min(shape, default=0) < 0 or member.tell() + header.bytes != self._members[name].file_size:
            raise ValueError(f"its array {to_line(name, ROOM)!r} is not as long as its header says")
        return header


def _most_bytes() -> int:
    """Bytes that may be unpacked: what fits into memory, where the system tells that."""
    try:
        return min(MOST_BYTES, available_memory())
    except OSError:
        return MOST_BYTES


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open an archive in a regular file. Raises ``OSError`` and, for a damaged one, whatever it runs into."""
    with open_regular(path) as file:
        yield Archive(file)
