"""Keep arrays that are costly to make as files between runs.

A file is an ``.npy`` file followed by its SHA-256, so that a damaged file is never used.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from qx import DataError, unfinished_folder

#: Size of a SHA-256, and of the pieces that files are read in, in bytes.
DIGEST, CHUNK = 32, 1 << 20


def file_identity(name: str, status: os.stat_result) -> str:
    """Return a text that changes whenever the file changes, without reading the file."""
    # With the time of change, because unpacking an archive restores old times of modification.
    return f"{name}\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def cached_array(
    cache: Path | None,
    name: str,
    *,
    origin: Path,
    identities: Iterable[str],
    make: Callable[[], np.ndarray],
) -> np.ndarray:
    """Return the array that ``make`` returns, memory-mapped from the folder ``cache`` if it is there.

    It is made again, and replaces the earlier file, when that file was damaged or when ``identities`` of the
    files under ``origin`` that it is made from have changed. Without a cache nothing is kept. Raises
    ``DataError`` where the array cannot be written, and then leaves no file behind.
    """
    if cache is None:
        return make()
    location = hashlib.blake2b(os.fsencode(origin.resolve()), digest_size=6).hexdigest()
    fingerprint = hashlib.blake2b(
        "\0\0".join(identities).encode("utf-8", "surrogateescape"), digest_size=12
    ).hexdigest()
    path = cache / f"{name}-{location}-{fingerprint}.npy"
    if _is_whole(path):
        return _open_mapped(path)
    array = make()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _write(array, path)
    except OSError as error:
        raise DataError(
            f"{cache}: cannot keep the decoded images there ({array.nbytes / 1e6:.1f} MB): "
            f"{error.strerror or error}; make room, or take another cache folder"
        ) from error
    for other in cache.glob(f"{name}-{location}-*.npy"):
        if other != path:
            with suppress(OSError):
                other.unlink()
    return _open_mapped(path)


def _open_mapped(path: Path) -> np.ndarray:
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _is_whole(path: Path) -> bool:
    """Whether this is a regular file that ends with the digest of its other bytes."""
    try:
        # Opening a pipe would block.
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open("rb") as file:
            remaining = os.fstat(file.fileno()).st_size - DIGEST
            state = hashlib.sha256()
            while remaining > 0 and (received := file.read(min(remaining, CHUNK))):
                state.update(received)
                remaining -= len(received)
            return remaining == 0 and file.read() == state.digest()
    except OSError:
        return False


def _write(array: np.ndarray, path: Path) -> None:
    """Write the file whole or not at all, so that readers and runs after a crash never see a part of it."""
    with unfinished_folder(path.parent) as folder:
        draft = folder / path.name
        with draft.open("wb") as file:
            # On a full disk numpy.save raises an error that does not say so.
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
            state = hashlib.sha256()
            for part in (header.getbuffer(), np.ascontiguousarray(array).reshape(-1).view(np.uint8).data):
                state.update(part)
                file.write(part)
            file.write(state.digest())
            file.flush()
            os.fsync(file.fileno())
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        os.replace(draft, path)
