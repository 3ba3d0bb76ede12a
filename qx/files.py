"""Write files and folders whole or not at all, and find the folder of the cache."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from qx.errors import UsageError
from qx.leftovers import SUFFIX, move_out, remove_tree, sweep, temporary_place, unfinished_folder

#: Errors for a disk that is full, or of which the user's share is used up.
FULL = (errno.ENOSPC, errno.EDQUOT)
#: Free bytes below which a disk counts as full.
LEAST_FREE = 1 << 20


def cache_folder() -> Path:
    """Return ``QX_CACHE``, or the system's folder for caches. Raises ``UsageError`` without either."""
    if (folder := folder_of_variable("QX_CACHE")) is not None:
        return folder
    from platformdirs import user_cache_path

    try:
        folder = user_cache_path("qx")
    except RuntimeError:
        folder = Path()
    # Older versions of platformdirs leave the ~ where it is.
    if not folder.is_absolute():
        raise UsageError("there is no home folder to keep builds in: set QX_CACHE to a folder")
    return folder


def folder_of_variable(variable: str) -> Path | None:
    """Return the folder in an environment variable, which may begin with ``~``; None if it is not set.

    Raises ``UsageError`` where the user of ``~USER`` does not exist.
    """
    value = os.environ.get(variable)
    if not value:
        return None
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError as error:
        raise UsageError(f"{variable}={value}: there is no such user; name a folder") from error


def sweep_cache() -> None:
    """Remove from the cache what killed processes left unfinished."""
    cache = cache_folder()
    sweep(cache)
    for place in cache.iterdir() if cache.is_dir() else ():
        sweep(place)


def full_disk_advice(error: str = "") -> str:
    """Return what to do about a full disk that qx writes to, or that an error is about; else an empty text.

    Libraries often hide why they could not write, and a file that is mapped into memory kills the process.
    """
    for variable, place in (("QX_CACHE", cache_folder()), ("TMPDIR", temporary_place())):
        if _is_full(place):
            return (
                f"the disk that holds {place} is full: free space there, "
                f"or name a folder on another disk in {variable}"
            )
    if any(os.strerror(code) in error for code in FULL):
        return "free space there, or name a folder on another disk (QX_CACHE, TMPDIR, --out)"
    return ""


def _is_full(place: Path) -> bool:
    while not place.exists():
        place = place.parent
    disk = os.statvfs(place)
    is_full = disk.f_bavail * disk.f_frsize < LEAST_FREE or (disk.f_files > 0 and disk.f_favail == 0)
    # A read-only file system always looks full.
    return is_full and not disk.f_flag & os.ST_RDONLY


@contextmanager
def new_folder(place: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder, which is renamed to ``place`` where no error occurs.

    Where ``place`` exists by then, it stays as it is, or is replaced with ``replace``, whatever it is.
    Raises ``UsageError`` where the folder cannot be made there.
    """
    with _named_in_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    sweep(place.parent)
    with ExitStack() as stack:
        with _named_in_errors(place):
            folder = stack.enter_context(unfinished_folder(place.parent, f".{place.name[:24]}-"))
        yield folder
        with _named_in_errors(place):
            folder.chmod(0o755)
            _put(folder, place, replace=replace)


@contextmanager
def _named_in_errors(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # The caller that reports the error adds what to do about a full disk.
        if error.errno in FULL:
            raise
        raise UsageError(f"cannot make {place}: {error.strerror or error}") from error


def _put(folder: Path, place: Path, *, replace: bool) -> None:
    """Rename a folder to ``place``. What it replaces gets the folder's name, and is removed later."""
    try:
        folder.rename(place)
    except OSError:
        if not os.path.lexists(place) or not (replace or place.is_dir()):
            raise
        if replace and not _exchange(folder, place):
            former = folder.with_name(f"{folder.name.removesuffix(SUFFIX)}-former{SUFFIX}")
            place.rename(former)
            try:
                folder.rename(place)
            finally:
                remove_tree(former)


def _exchange(path: Path, other: Path) -> bool:
    """Exchange two paths at once, so that neither is ever missing. False where the system cannot do that."""
    import ctypes

    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(path), here, os.fsencode(other), exchange) == 0


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the earlier content or the new content, never a part of it."""
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files, in their order, so that all are replaced, or none where one of them cannot be written.

    The files of one folder are all replaced even where this process is killed while it replaces them: the
    next call of ``sweep`` on the folder moves the rest.
    """
    with ExitStack() as stack:
        drafts: dict[Path, Path] = {}
        for number, (path, content) in enumerate(contents.items()):
            if path.parent not in drafts:
                path.parent.mkdir(parents=True, exist_ok=True)
                unfinished = unfinished_folder(path.parent, f".{path.name[:24]}-")
                drafts[path.parent] = stack.enter_context(unfinished)
            draft = drafts[path.parent] / f"{number:06d}-{path.name}"
            try:
                with draft.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                # An error of writing names no file, and one of opening names the draft.
                error.filename = str(path)
                raise
            draft.chmod(0o644)
        for folder in drafts.values():
            move_out(folder)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises ``OSError``, also for a pipe, a device or a folder.

    The opened file is checked and not its path, so that it cannot be replaced in between. It is opened
    without blocking, since opening a pipe waits for a writer.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bounded(path: Path, most: int) -> bytes:
    """Read a regular file of at most ``most`` bytes. Raises ``OSError``, also for a larger file."""
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
    return content
