"""A folder that one run at a time writes into, and the note that says which run that is.

The lock is that of flock(2) on the folder itself, which the kernel releases when the process ends, however
that happens. The note beside is for people, and says nothing once nobody holds the lock.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from qx.errors import UsageError
from qx.files import read_bounded, write_whole
from qx.foreign import to_line
from qx.leftovers import try_lock
from qx.storage import strict_json

#: Name of the note in a folder of results.
NOTE = ".qx-run.json"
#: Largest note that is read, in bytes, and longest part of it in a message, in characters.
MOST_NOTE, MAX_SHOWN = 1 << 12, 80


@contextmanager
def hold_folder(folder: Path, note: str = NOTE) -> Iterator[None]:
    """Hold a folder, which is made if needed, and leave a note of that name in it meanwhile.

    Folders that were made for that, and are still empty at the end, are removed. Raises ``UsageError`` where
    another process holds the folder, with who that is.
    """
    created = _make(folder)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if try_lock(descriptor) is False:
            raise UsageError(f"another run writes into {folder}: {_holder(folder / note)}")
        (folder / note).unlink(missing_ok=True)
        write_whole(folder / note, json.dumps(_own_note()).encode())
        try:
            yield
        finally:
            with suppress(OSError):
                (folder / note).unlink(missing_ok=True)
    finally:
        os.close(descriptor)
        for empty in created:
            with suppress(OSError):
                empty.rmdir()


def _make(folder: Path) -> list[Path]:
    """Make a folder, and return those that were made for it, the innermost first."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror or error}") from error
    return missing


def _own_note() -> dict[str, object]:
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": platform.node(), "since": since}


def _holder(note: Path) -> str:
    """Return in words who holds a folder, as far as the note says it."""
    try:
        fields = strict_json.loads(read_bounded(note, MOST_NOTE))
        assert isinstance(fields, dict)
        pid, host, since = (to_line(str(fields[name]), MAX_SHOWN) for name in ("pid", "host", "since"))
    except (OSError, ValueError, KeyError, AssertionError):
        return "it has only just begun; wait for it, or name another folder with --out"
    return f"process {pid} on {host}, since {since}; wait for it, or name another folder with --out"
