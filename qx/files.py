"""Files and folders that appear whole or not at all, and where qx keeps what it can make again."""

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

#: Errors that say that a disk, or the user's share of it, is full.
FULL = (errno.ENOSPC, errno.EDQUOT)
#: Bytes: with less than this a disk is full, whatever could not be written.
LEAST_FREE = 1 << 20


def cache_folder() -> Path:
    """``QX_CACHE``, or the system's folder for caches. Raises ``UsageError`` where neither is known."""
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
    """The folder that an environment variable names, which may begin with ``~``; None if it is not set.

    Raises ``UsageError`` where whose home it is is not known.
    """
    value = os.environ.get(variable)
    if not value:
        return None
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError as error:
        raise UsageError(f"{variable}={value}: there is no such user; name a folder") from error


def sweep_cache() -> None:
    """Remove from the cache what processes that were killed have left half made."""
    cache = cache_folder()
    sweep(cache)
    for place in cache.iterdir() if cache.is_dir() else ():
        sweep(place)


def full_disk_advice(error: str = "") -> str:
    """What to do where a disk that qx writes to is full, or an error says that one is; nothing elsewhere.

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
    full = disk.f_bavail * disk.f_frsize < LEAST_FREE or (disk.f_files > 0 and disk.f_favail == 0)
    # One that nothing can be written to is full by nature.
    return full and not disk.f_flag & os.ST_RDONLY


@contextmanager
def new_folder(place: Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder that is renamed to ``place`` when all went well.

    Where ``place`` is there by then, it stays as it is, or with ``replace`` makes room, whatever it is.
    Raises ``UsageError`` where it cannot be made there.
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
        # What to do about a full disk is said by whoever tells the error.
        if error.errno in FULL:
            raise
        raise UsageError(f"cannot make {place}: {error.strerror or error}") from error


def _put(folder: Path, place: Path, *, replace: bool) -> None:
    """Rename a folder to ``place``. What was there takes the folder's name, and is left to be removed."""
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


def _exchange(one: Path, other: Path) -> bool:
    """Have two paths change names at once, so that neither is ever missing, where the system can do that."""
    import ctypes

    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the earlier one or this one, never a part of it."""
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files, in their order, so that all are replaced or, if one cannot be written, none.

    Those in one folder are all replaced even where this process is killed in the midst of that: whoever next
    calls ``sweep`` on the folder moves the rest.
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
                # One of writing names no file, and one of opening not that which is meant.
                error.filename = str(path)
                raise
            draft.chmod(0o644)
        for folder in drafts.values():
            move_out(folder)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises ``OSError``, also for a pipe, a device or a folder.

    What was opened is what is looked at, so nothing can be put in its place in between; and without blocking,
    since opening a pipe waits for whoever writes into it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bounded(path: Path, most: int) -> bytes:
    """Read a regular file of so many bytes at most. Raises ``OSError``, also for a larger one."""
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
    return content
