"""Unfinished folders, each locked by the process that fills it: those of the dead can be told, and removed.

The lock is one of flock(2) on the folder itself: the kernel lets go of it when its process ends, however that
happens, and no process id can be mistaken for another's. Where a file system has no such locks, nothing is
held to be abandoned.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: How the names of unfinished folders end.
SUFFIX = ".qx-part"
#: How the names of temporary folders begin.
TEMPORARY = "qx-"
#: A file within an unfinished folder: all others are whole, and are being moved to where they belong.
WHOLE = ".qx-whole"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder in the system's place for temporary files, removed at the end; those of dead runs go first."""
    with unfinished_folder(temporary_place(), TEMPORARY) as folder:
        yield folder


def temporary_place() -> Path:
    """The system's place for temporary files.

    ``tempfile.gettempdir`` tries places out with a file of no known name, which stays if it is killed then.
    """
    named = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    for place in filter(None, [tempfile.tempdir, *named, "/tmp"]):  # noqa: S108 - looked for last, as there
        if Path(place).is_dir() and os.access(place, os.W_OK | os.X_OK):
            return Path(place).absolute()
    return Path(tempfile.gettempdir())


@contextmanager
def unfinished_folder(parent: Path, prefix: str = ".") -> Iterator[Path]:
    """A new folder for what is half made, removed at the end with all that was not moved out of it.

    It is held until then. Those in ``parent`` whose makers were killed, with the same beginning, go first.
    """
    sweep(parent, prefix)
    folder, lock = _locked_folder(parent, prefix)
    try:
        yield folder
    finally:
        with suppress(OSError):
            (folder / WHOLE).unlink(missing_ok=True)
        remove_tree(folder)
        os.close(lock)


def move_out(folder: Path) -> None:
    """Move the files of an unfinished folder to where it lies, in the order of their names ``NUMBER-NAME``.

    Whoever is killed on the way has it done by the next who sweeps: all are moved, or none.
    """
    (folder / WHOLE).touch()
    _move_on(folder)


def sweep(parent: Path, prefix: str = ".") -> None:
    """Remove this user's unfinished folders that no living process holds; first end ``move_out`` in them.

    What cannot be removed stays: whoever sweeps has work of its own to do.
    """
    for folder in _abandoned(parent, prefix):
        with suppress(OSError):
            if (folder / WHOLE).exists():
                _move_on(folder)
            remove_tree(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it, though somebody took away the right to.

    Whatever else lies there is removed too: what a new folder replaced has its temporary name, and
    ``shutil.rmtree`` of Python before 3.11.9 waits for a writer where that is a FIFO.
    """
    if not folder.is_dir() or folder.is_symlink():
        with suppress(OSError):
            folder.unlink(missing_ok=True)
        return
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for place, *_ in os.walk(folder):
            with suppress(OSError):
                os.chmod(place, 0o700)
        shutil.rmtree(folder, ignore_errors=True)


def _move_on(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.name != WHOLE:
            os.replace(path, folder.parent / path.name.partition("-")[2])


def _locked_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(SUFFIX, prefix, parent))
        # Until it is locked, somebody who sweeps may hold it to be abandoned, and remove it.
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        if _lock(lock) is not False and folder.exists():
            return folder, lock
        os.close(lock)


def _abandoned(parent: Path, prefix: str) -> Iterator[Path]:
    """Unfinished folders that no living process holds; each is held while it is looked at."""
    try:
        with os.scandir(parent) as entries:
            unfinished = [entry.path for entry in entries if _is_unfinished(entry, prefix)]
    except OSError:
        return
    for path in unfinished:
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if _lock(lock):
                yield Path(path)
        finally:
            os.close(lock)


def _is_unfinished(entry: os.DirEntry[str], prefix: str) -> bool:
    if not (entry.name.startswith(prefix) and entry.name.endswith(SUFFIX)):
        return False
    try:
        # Another user's are not ours to remove, not even for root.
        ours = entry.stat(follow_symlinks=False).st_uid == os.geteuid()
    except OSError:
        return False
    return ours and entry.is_dir(follow_symlinks=False)


def _lock(descriptor: int) -> bool | None:
    """Take the lock; False where another has it, None where there are no such locks."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
