"""The cache: a folder that its user alone can write, with entries that are checked before they are used."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias, TypeVar

from qx.errors import UsageError
from qx.files import cache_folder, new_folder
from qx.leftovers import sweep
from qx.storage.digests import Damaged, FileDigest, check_digests, write_digests

#: Folders of the cache whose folders are entries: builds, and splits of data as plain arrays.
BUILDS, SPLITS = "builds", "splits"

Content = TypeVar("Content")
#: By the name of the file.
Digests: TypeAlias = Mapping[str, FileDigest]


# Who can write it ---------------------------------------------------------------------------------


def open_cache(trusted: Path | None = None) -> Path:
    """The cache folder with the folders of its entries, made if need be. Raises ``UsageError``.

    ``trusted`` names a cache that is taken although others can write it. What killed runs left unfinished is
    removed.
    """
    for name in (BUILDS, SPLITS):
        sweep(open_folder(name, trusted))
    return cache_folder()


def open_folder(name: str, trusted: Path | None = None) -> Path:
    """A folder of the cache, made if need be, as ``private_folder`` gives it. Raises ``UsageError``."""
    # A folder that the user chose may hold other things, so its mode is the user's.
    cache = private_folder(cache_folder(), trusted, tighten=not os.environ.get("QX_CACHE"))
    return private_folder(cache / name, trusted)


def private_folder(folder: Path, trusted: Path | None = None, *, tighten: bool = True) -> Path:
    """The same folder, made if need be, where nobody but its user and root can write it.

    With ``tighten`` one that others could read is closed to them. ``trusted``, and what lies in it, is taken
    as it is. Raises ``UsageError``.
    """
    is_trusted = trusted is not None and lies_in(folder, trusted)
    try:
        if not folder.exists():
            folder.mkdir(mode=0o777 if is_trusted else 0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise UsageError(
            f"the cache folder {folder} cannot be used: {error.strerror or error}; name another in QX_CACHE"
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise UsageError(f"the cache folder {folder} is a file: remove it, or name a folder in QX_CACHE")
    if is_trusted:
        return folder
    if complaint := _complaint(folder, status):
        raise UsageError(
            f"the cache folder {complaint}, or name another in QX_CACHE; "
            f"if you trust everybody who can write it, give --trust-cache {shlex.quote(str(folder))}"
        )
    if tighten and status.st_uid == os.geteuid() and status.st_mode & 0o077:
        # Where that cannot be changed, others can read it, and no more.
        with suppress(OSError):
            folder.chmod(0o700)
    return folder


def lies_in(folder: Path, outer: Path) -> bool:
    """Whether a file or folder is another one or lies in it, whatever links lead there."""
    inner = os.path.realpath(folder)
    return inner == (whole := os.path.realpath(outer)) or inner.startswith(os.path.join(whole, ""))


def _complaint(folder: Path, status: os.stat_result) -> str:
    """Who else can write a folder, and what to do about it; empty where nobody can."""
    is_ours = status.st_uid == os.geteuid()
    if not is_ours and status.st_uid != 0:
        return f"{folder} belongs to {_user_name(status.st_uid)}: use one of your own"
    by_group = status.st_mode & stat.S_IWGRP and not _is_private_group(status.st_gid)
    if not by_group and not status.st_mode & stat.S_IWOTH:
        return ""
    # To close a folder like /tmp would harm everybody who uses it.
    if is_ours and not status.st_mode & stat.S_ISVTX:
        return f"{folder} can be written by other users: chmod 700 {shlex.quote(str(folder))}"
    return f"{folder} can be written by other users: make a folder of your own in it"


def _is_private_group(group_id: int) -> bool:
    """Whether the user alone is in this group, as where each user has a group of the same name."""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(group_id)
    except KeyError:
        return False
    is_own = user.pw_gid == group_id and group.gr_name == user.pw_name
    return is_own and set(group.gr_mem) <= {user.pw_name}


def _user_name(user_id: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"user {user_id}"


# Entries ------------------------------------------------------------------------------------------


@contextmanager
def new_entry(place: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, which gets digests of its files and appears at ``place`` when all went well.

    An entry that another run has put there by then stays, or with ``replace`` makes room.
    """
    with new_folder(place, replace=replace) as folder:
        yield folder
        write_digests(folder)


def read_entry(place: Path, read: Callable[[Path, Digests], Content]) -> Content | None:
    """What ``read`` makes of an entry and the digests of its files; None where there is no entry.

    All files that have a digest are as they were written then: ``read`` opens no others. Raises ``Damaged``.
    An entry that another run replaces meanwhile is read again.
    """
    while (before := _status(place)) is not None:
        try:
            if not stat.S_ISDIR(before.st_mode):
                raise Damaged("it is no folder")
            return read(place, check_digests(place))
        except Damaged:
            now = _status(place)
            if now is not None and os.path.samestat(now, before):
                raise
    return None


def _status(place: Path) -> os.stat_result | None:
    try:
        return place.lstat()
    except FileNotFoundError:
        return None
