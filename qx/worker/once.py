"""What several builds of a run need, made once: the first that asks for it makes it, and the others find it.

It lies in a folder of the run with digests of its files, as entries of the cache do. What is damaged is made
anew, and what a build that dies has left half made is never seen.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

from qx.contract.records import make_apart
from qx.storage.cache import new_entry
from qx.storage.digests import Damaged, check_digests

#: Fills an empty folder.
Make: TypeAlias = Callable[[Path], object]
#: Seconds to wait for another build that makes the same: one that hangs must not hold up the others.
PATIENCE = 120.0


def once_in(folder: str | None) -> Callable[[str, Make], Path]:
    """Return the function ``once`` of a context, which shares through a folder; None: nothing is shared."""
    return make_apart if folder is None else partial(once, Path(folder))


def once(folder: Path, name: str, make: Make) -> Path:
    """Return a folder that ``make`` has filled, now or in an earlier process that gave the same ``name``.

    Errors of ``make`` are passed on, and then nothing is kept. Where another process makes it for too long,
    this one makes its own.
    """
    place = folder / hashlib.sha256(name.encode()).hexdigest()[:32]
    with _locked(place.with_suffix(".lock")) as is_locked:
        if not is_locked:
            return make_apart(name, make)
        if not _is_whole(place):
            with new_entry(place, replace=True) as part:
                make(part)
    return place


def _is_whole(place: Path) -> bool:
    try:
        check_digests(place)
    except (Damaged, OSError):
        return False
    return True


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock, which ends with the process at the latest. Yields whether it was to be had in time."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        except OSError:
            # A file system without locks: nothing is shared there.
            return False
        else:
            return True
