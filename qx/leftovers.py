"""Unfinished folders, each locked by the process that fills it, so that abandoned ones can be removed.

The lock is that of flock(2) on the folder itself. The kernel releases it when the process ends, however that
happens, and unlike a process id it cannot be mistaken for another's. Where a file system has no such locks,
no folder counts as abandoned.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: End of the names of unfinished folders.
SUFFIX = ".qx-part"
#: Begin of the names of temporary folders.
TEMPORARY = "qx-"
#: Name of a file in an unfinished folder that says that all other files are whole and are being moved out.
WHOLE = ".qx-whole"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a temporary folder, which is removed at the end; those of dead runs are removed first."""
    with unfinished_folder(temporary_place(), TEMPORARY) as folder:
        yield folder


def temporary_place() -> Path:
    """Return the system's folder for temporary files.

    ``tempfile.gettempdir`` tries folders with a file of a random name, which stays if the process is killed.
    """
    variables = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    for place in filter(None, [tempfile.tempdir, *variables, "/tmp"]):  # noqa: S108 - last, as in tempfile
        if Path(place).is_dir() and os.access(place, os.W_OK | os.X_OK):
            return Path(place).absolute()
    return Path(tempfile.gettempdir())


@contextmanager
def unfinished_folder(parent: Path, prefix: str = ".") -> Iterator[Path]:
    """Yield a new folder for unfinished files, which is removed at the end with all that is left in it.

    It is locked until then. Abandoned folders in ``parent`` with the same prefix are removed first.
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


def lock_folder(folder: Path) -> int:
    """Lock a folder while the descriptor that this returns is open, so that others can tell it is in use."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try_lock(descriptor)
    return descriptor


def is_abandoned(folder: Path) -> bool:
    """Return whether a folder of this user's is locked by no living process."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return os.fstat(descriptor).st_uid == os.geteuid() and try_lock(descriptor) is True
    finally:
        os.close(descriptor)


def move_out(folder: Path) -> None:
    """Move the files of an unfinished folder into its parent, in the order of their names ``NUMBER-NAME``.

    All are moved, or none: where this process is killed meanwhile, the next ``sweep`` moves the rest.
    """
    (folder / WHOLE).touch()
    _move_on(folder)


def sweep(parent: Path, prefix: str = ".") -> None:
    """Finish ``move_out`` in this user's abandoned folders, and remove them.

    A folder that cannot be removed stays, without an error.
    """
    for folder in _abandoned(parent, prefix):
        with suppress(OSError):
            if (folder / WHOLE).exists():
                _move_on(folder)
            remove_tree(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder with its contents, even where permissions were taken away.

    A path that is no folder is removed too: whatever a new folder replaced gets its temporary name. There
    ``shutil.rmtree`` of Python before 3.11.9 would wait for a writer of a FIFO.
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
        # Until it is locked, another process may take it for abandoned and remove it.
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        if try_lock(lock) is not False and folder.exists():
            return folder, lock
        os.close(lock)


def _abandoned(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield unfinished folders that no living process has locked; each is locked while it is handled."""
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
            if try_lock(lock):
                yield Path(path)
        finally:
            os.close(lock)


def _is_unfinished(entry: os.DirEntry[str], prefix: str) -> bool:
    if not (entry.name.startswith(prefix) and entry.name.endswith(SUFFIX)):
        return False
    try:
        # Folders of other users are never removed, not even by root.
        is_ours = entry.stat(follow_symlinks=False).st_uid == os.geteuid()
    except OSError:
        return False
    return is_ours and entry.is_dir(follow_symlinks=False)


def try_lock(descriptor: int) -> bool | None:
    """Take the lock of an open folder. False where another process has it, None where there are no locks."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
