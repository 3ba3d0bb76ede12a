"""A file of records that are only ever appended, each whole or not there.

After a first line that names the format comes one record after another: its length in bytes, the SHA-256 of
its content and of the checksum before it, and the content. So a record that was torn, changed, moved or taken
out shows, and what comes after it is no part of the file. Each record is on the disk (fsync(2)) before
``append`` returns.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from attrs import define

from qx.files import open_regular

#: The first line of every such file.
MAGIC = b"qx journal 1\n"
#: Length of a record in bytes, and its checksum.
PREFIX = struct.Struct("<Q32s")
#: Largest record, and largest file, that are written and read, in bytes.
MOST_RECORD, MOST_FILE = 256 << 20, 16 << 30


@define
class JournalFile:
    """A file of records that is open for appending."""

    path: Path
    _descriptor: int
    #: Checksum of the last record, or of the first line.
    _last: bytes
    #: Size of the whole records, in bytes.
    size: int

    @classmethod
    def create(cls, path: Path) -> JournalFile:
        """Make a new file without a record. Raises ``OSError``, also where there is one."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        file = cls(path, os.open(path, flags, 0o600), _checksum(b"", MAGIC), 0)
        try:
            file._write(MAGIC)
            _sync_folder(path.parent)
        except BaseException:
            file.close()
            raise
        return file

    @classmethod
    def open(cls, path: Path) -> tuple[JournalFile, list[bytes], int]:
        """Open a file to go on with it: return it, its whole records, and how many bytes of it were torn.

        What is torn is cut off. Raises ``ValueError`` for a file of another format, and ``OSError``.
        """
        records, last, size, torn = read_records(path)
        file = cls(path, os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW), last, size)
        try:
            if torn:
                os.ftruncate(file._descriptor, size)
                os.fsync(file._descriptor)
            os.lseek(file._descriptor, size, os.SEEK_SET)
        except BaseException:
            file.close()
            raise
        return file, records, torn

    def append(self, content: bytes) -> None:
        """Append a record. Where it cannot be written whole the file stays as it was. Raises ``OSError``."""
        if len(content) > MOST_RECORD or self.size + len(content) > MOST_FILE:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(self.path))
        checksum = _checksum(self._last, content)
        self._write(PREFIX.pack(len(content), checksum) + content)
        self._last = checksum

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, content: bytes) -> None:
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except BaseException as error:
            # Ctrl-C too: what was begun must not stand in the way of the next record.
            with suppress(OSError):
                os.ftruncate(self._descriptor, self.size)
                os.lseek(self._descriptor, self.size, os.SEEK_SET)
            if isinstance(error, OSError):
                error.filename = str(self.path)
            raise
        self.size += len(content)


def read_records(path: Path) -> tuple[list[bytes], bytes, int, int]:
    """Return the whole records of a file, the checksum of the last, their size, and the size of what follows.

    Raises ``ValueError`` for a file of another format, and ``OSError`` where there is no regular file.
    """
    with open_regular(path) as file:
        length = os.fstat(file.fileno()).st_size
        if length > MOST_FILE:
            raise ValueError(f"it has {length:,} bytes, more than the {MOST_FILE:,} of the largest journal")
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin as a journal that this qx writes")
        records, last, size = [], _checksum(b"", MAGIC), len(MAGIC)
        for content, checksum in _records(file, last, length):
            records.append(content)
            last, size = checksum, size + PREFIX.size + len(content)
    return records, last, size, length - size


def _records(file: BinaryIO, last: bytes, length: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield each whole record with its checksum, up to the first that is none."""
    while len(prefix := file.read(PREFIX.size)) == PREFIX.size:
        count, checksum = PREFIX.unpack(prefix)
        if count > min(MOST_RECORD, length - file.tell()):
            return
        content = file.read(count)
        if len(content) != count or _checksum(last, content) != checksum:
            return
        yield content, checksum
        last = checksum


def _checksum(last: bytes, content: bytes) -> bytes:
    state = hashlib.sha256(last)
    state.update(content)
    return state.digest()


def _sync_folder(folder: Path) -> None:
    """Have the name of a new file in a folder outlast a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Some file systems cannot do that for folders.
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
