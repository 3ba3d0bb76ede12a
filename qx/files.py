"""Files and folders that appear whole or not at all, and where qx keeps what it can make again."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from qx.leftovers import SUFFIX, move_out, remove_tree, sweep, temporary_place, unfinished_folder

#: Errors that say that a disk, or the user's share of it, is full.
FULL = (errno.ENOSPC, errno.EDQUOT)
#: Bytes: with less than this a disk is full, whatever could not be written.
LEAST_FREE = 1 << 20


def cache_folder() -> Path:
    """``QX_CACHE``, or the system's folder for caches."""
    if given := os.environ.get("QX_CACHE"):
        return Path(given).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("qx")


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

    Where ``place`` is there by then, it stays as it is, or with ``replace`` makes room.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(place.parent, f".{place.name[:24]}-") as folder:
        former = folder.with_name(f"{folder.stem}-former{SUFFIX}")
        try:
            yield folder
            folder.chmod(0o755)
            if replace and place.exists():
                place.rename(former)
            try:
                folder.rename(place)
            except OSError:
                if not place.is_dir():
                    raise
        finally:
            remove_tree(former)


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
