"""A folder in the cache for what is half made. qx removes those of dead processes, which hold no lock."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def half_made_folder(cache: Path) -> Iterator[Path]:
    """A folder on the same disk as the cache, removed at the end with all that was not moved out of it."""
    with tempfile.TemporaryDirectory(dir=cache, prefix=".", suffix=".qx-part") as name:
        lock = os.open(name, os.O_RDONLY)
        try:
            # Where the file system has no locks, nothing is removed either.
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(lock)
