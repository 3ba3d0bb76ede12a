"""What the cache holds, how large it is and when it was used last, and the removal of what is not needed."""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from qx.leftovers import SUFFIX, remove_tree
from qx.storage.cache import BUILDS, SPLITS
from qx.storage.digests import FILE as DIGESTS
from qx.storage.uses import FILE as USES
from qx.storage.uses import while_unused

#: Folder with what plugins say of themselves.
DESCRIPTIONS = "descriptions"
#: What else lies in the cache: what workloads keep there, such as downloads and decoded images.
DOWNLOADS = "downloads"
#: The names of entries, by the folder that they lie in. Whatever else lies there is not qx's.
NAMES = {BUILDS: r"[0-9a-f]{32}", SPLITS: r"[0-9a-f]{64}", DESCRIPTIONS: r"[0-9a-f]{8}\.json"}
#: Seconds for which an entry counts as used where the system does not say which are.
WITHOUT_LOCKS = 86400.0


@frozen(kw_only=True)
class CacheEntry:
    """An entry of the cache."""

    #: ``builds``, ``splits``, ``descriptions`` or ``downloads``.
    kind: str
    path: Path
    #: Size of its files in bytes.
    size: int
    #: Time of its last use, in seconds since 1970.
    last_used: float


@frozen(kw_only=True)
class Pruned:
    """What was removed from the cache, or would be, and what was not."""

    removed: tuple[CacheEntry, ...]
    #: Entries that a run is using.
    in_use: tuple[CacheEntry, ...]
    #: Entries that could not be removed, each with the reason.
    failed: tuple[tuple[CacheEntry, str], ...]


def entries(cache: Path) -> list[CacheEntry]:
    """Return the entries of a cache, in the order of their kinds and names. Links are not followed.

    Raises ``OSError`` where the folder cannot be read.
    """
    found = [
        _entry(kind, path)
        for kind, pattern in NAMES.items()
        for path in _paths(cache / kind)
        if re.fullmatch(pattern, path.name)
    ]
    with os.scandir(cache) as listing:
        others = sorted(entry.name for entry in listing)
    return found + [
        _entry(DOWNLOADS, cache / name)
        for name in others
        if name not in NAMES and name != USES and not name.endswith(SUFFIX)
    ]


def strangers(cache: Path) -> list[Path]:
    """Return what lies in a folder of qx's and is none of its entries, and folders that are links."""
    links = [cache / kind for kind in NAMES if (cache / kind).is_symlink()]
    return links + [
        path
        for kind, pattern in NAMES.items()
        for path in _paths(cache / kind)
        if not re.fullmatch(pattern, path.name) and not path.name.endswith(SUFFIX)
    ]


def prune(
    cache: Path,
    *,
    unused_for: float | None = None,
    most_bytes: float | None = None,
    downloads: bool = False,
    dry_run: bool = False,
) -> Pruned:
    """Remove entries that no run is using: those not used for a time, then the oldest until few are left.

    Parameters
    ----------
    cache : Path
        Folder of the cache.
    unused_for : float, optional
        Seconds: entries that were not used for as long are removed.
    most_bytes : float, optional
        Bytes that may be left; those used longest ago are removed first.
    downloads : bool
        Whether what workloads keep there counts, and is removed too.
    dry_run : bool
        Whether nothing is removed.
    """
    candidates = [entry for entry in entries(cache) if downloads or entry.kind != DOWNLOADS]
    candidates.sort(key=lambda entry: entry.last_used)
    left = total_size(candidates)
    oldest = -float("inf") if unused_for is None else time.time() - unused_for
    removed: list[CacheEntry] = []
    in_use: list[CacheEntry] = []
    failed: list[tuple[CacheEntry, str]] = []
    for entry in candidates:
        is_too_much = most_bytes is not None and left > most_bytes
        if entry.last_used > oldest and not is_too_much:
            continue
        try:
            is_removed = _remove(cache, entry, dry_run=dry_run)
        except FileNotFoundError:
            # Another process has removed it.
            left -= entry.size
        except OSError as error:
            failed.append((entry, error.strerror or str(error)))
        else:
            (removed if is_removed else in_use).append(entry)
            left -= entry.size if is_removed else 0
    return Pruned(removed=tuple(removed), in_use=tuple(in_use), failed=tuple(failed))


def _remove(cache: Path, entry: CacheEntry, *, dry_run: bool) -> bool:
    """Remove an entry, as a whole: it loses its name in one step. False where a run is using it.

    Raises ``OSError``.
    """
    names = () if entry.kind == DOWNLOADS else (entry.kind, entry.path.name)
    with while_unused(cache, *names) as is_unused:
        if is_unused is None:
            is_unused = time.time() - entry.last_used > WITHOUT_LOCKS
        # Used since it was listed.
        if not is_unused or _last_used(entry.kind, entry.path) > entry.last_used:
            return False
        if dry_run:
            return True
        if not stat.S_ISDIR(entry.path.lstat().st_mode):
            entry.path.unlink()
            return True
        # In the same folder, so that a run which begins now removes what this process leaves.
        doomed = entry.path.with_name(f".{entry.path.name[:24]}-{secrets.token_hex(4)}{SUFFIX}")
        entry.path.rename(doomed)
    remove_tree(doomed)
    if os.path.lexists(doomed):
        raise OSError(0, "some of its files could not be removed", str(doomed))
    return True


def _paths(folder: Path) -> Iterator[Path]:
    """Yield the paths in a folder that is no link, in order."""
    if folder.is_symlink() or not folder.is_dir():
        return
    with suppress(OSError):
        yield from sorted(folder.iterdir())


def _entry(kind: str, path: Path) -> CacheEntry:
    size = sum(status.st_size for status in _files(path))
    return CacheEntry(kind=kind, path=path, size=size, last_used=_last_used(kind, path))


def _last_used(kind: str, path: Path) -> float:
    """Return when an entry was used last: runs touch its digests, and what workloads keep was read."""
    if kind == DOWNLOADS:
        return max((max(status.st_mtime, status.st_atime) for status in _files(path)), default=_mtime(path))
    marked = path if kind == DESCRIPTIONS else path / DIGESTS
    return _mtime(marked if os.path.lexists(marked) and not path.is_symlink() else path)


def _mtime(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _files(path: Path) -> Iterator[os.stat_result]:
    """Yield the status of each regular file of a path, at any depth, without following links."""
    waiting = [path]
    while waiting:
        place = waiting.pop()
        with suppress(OSError):
            status = place.lstat()
            if stat.S_ISREG(status.st_mode):
                yield status
            elif stat.S_ISDIR(status.st_mode):
                waiting += [Path(entry.path) for entry in os.scandir(place)]


def total_size(found: Iterable[CacheEntry]) -> int:
    """Return the size of entries in bytes."""
    return sum(entry.size for entry in found)
