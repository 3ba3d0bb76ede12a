"""Which entries of the cache runs are using: a lock for each, by its name, which the dead do not hold.

The locks are those of open file descriptions (fcntl(2), Linux) on single bytes of one file in the cache, at
places that follow from the entries' names. They need one descriptor however many entries a run uses, and a
cache that can only be read has them too, where the file exists.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

#: Name of the file with the locks.
FILE = ".uses"
#: Name under which a run holds the cache as a whole: what workloads keep there has no names that qx knows.
EVERYTHING = ""
#: The longest time that a run waits for a lock, in seconds: it is held for one renaming.
PATIENCE = 2.0


class Uses:
    """The locks that one run holds. Without a cache, or where there are no such locks, it holds none."""

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def hold(self, cache: Path, kind: str = EVERYTHING, name: str = "") -> None:
        """Keep an entry from being pruned until ``close``, or with no name what workloads keep."""
        if self._descriptor is None:
            self._descriptor = _open(cache)
        until = time.monotonic() + PATIENCE
        while self._descriptor is not None and _lock(self._descriptor, kind, name, shared=True) is False:
            if time.monotonic() > until:
                return
            time.sleep(0.01)

    def close(self) -> None:
        """Let all entries be pruned again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Uses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def while_unused(cache: Path, kind: str = EVERYTHING, name: str = "") -> Iterator[bool | None]:
    """Yield whether no run uses an entry; none begins to before the block ends. None: it is not known."""
    descriptor = _open(cache)
    try:
        yield None if descriptor is None else _lock(descriptor, kind, name, shared=False)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open(cache: Path) -> int | None:
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        try:
            return os.open(cache / FILE, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        except OSError:
            continue
    return None


def _lock(descriptor: int, kind: str, name: str, *, shared: bool) -> bool | None:
    """Take a lock. False where another run's forbids it, None where there are no such locks."""
    if sys.platform != "linux":
        return None
    import fcntl

    key = hashlib.sha256(f"{kind}/{name}".encode("utf-8", "surrogateescape")).digest()
    # Offsets are positive numbers of 64 bits.
    start = int.from_bytes(key[:8], "big") >> 2
    request = struct.pack("hhqqi", fcntl.F_RDLCK if shared else fcntl.F_WRLCK, os.SEEK_SET, start, 1, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
    except OSError as error:
        return False if error.errno in (errno.EAGAIN, errno.EACCES) else None
    return True
