"""The cache: a folder that only its user can write, with entries that are checked before they are used."""

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
from qx.storage.digests import FILE, Damaged, FileDigest, check_digests, write_digests

#: Names of the folders with entries: builds, and splits of data as plain arrays.
BUILDS, SPLITS = "builds", "splits"

Content = TypeVar("Content")
#: Digests by the names of files.
Digests: TypeAlias = Mapping[str, FileDigest]


# Access -------------------------------------------------------------------------------------------


def open_cache(trusted: Path | None = None) -> Path:
    """Return the cache folder, after making it and its folders if needed. Raises ``UsageError``.

    ``trusted`` names a cache that is used although others can write it. Unfinished entries of killed runs are
    removed.
    """
    for name in (BUILDS, SPLITS):
        sweep(open_folder(name, trusted))
    return cache_folder()


def open_folder(name: str, trusted: Path | None = None) -> Path:
    """Return a folder of the cache, made if needed, as ``private_folder`` does. Raises ``UsageError``."""
    # A folder that the user chose may hold other things, so its mode is the user's.
    cache = private_folder(cache_folder(), trusted, tighten=not os.environ.get("QX_CACHE"))
    return private_folder(cache / name, trusted)


def private_folder(folder: Path, trusted: Path | None = None, *, tighten: bool = True) -> Path:
    """Return a folder, made if needed, after checking that only its user and root can write it.

    With ``tighten`` read access of others is removed. ``trusted``, and folders in it, are not checked. Raises
    ``UsageError``.
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
        # Where the mode cannot be changed, others can read the folder, which does no harm.
        with suppress(OSError):
            folder.chmod(0o700)
    return folder


def lies_in(folder: Path, outer: Path) -> bool:
    """Return whether a path is ``outer`` or lies in it, after resolving links."""
    inner_path, outer_path = os.path.realpath(folder), os.path.realpath(outer)
    return inner_path == outer_path or inner_path.startswith(os.path.join(outer_path, ""))


def _complaint(folder: Path, status: os.stat_result) -> str:
    """Return who else can write a folder, and what to do about it; empty where nobody can."""
    is_ours = status.st_uid == os.geteuid()
    if not is_ours and status.st_uid != 0:
        return f"{folder} belongs to {_user_name(status.st_uid)}: use one of your own"
    by_group = status.st_mode & stat.S_IWGRP and not _is_private_group(status.st_gid)
    if not by_group and not status.st_mode & stat.S_IWOTH:
        return ""
    # Closing a folder such as /tmp would harm everybody who uses it.
    if is_ours and not status.st_mode & stat.S_ISVTX:
        return f"{folder} can be written by other users: chmod 700 {shlex.quote(str(folder))}"
    return f"{folder} can be written by other users: make a folder of your own in it"


def _is_private_group(group_id: int) -> bool:
    """Return whether a group has only this user, as on systems with a group for each user."""
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
    """Yield a folder to fill, which gets digests of its files and appears at ``place`` where no error occurs.

    An entry that another run has put there meanwhile stays, or is replaced with ``replace``.
    """
    with new_folder(place, replace=replace) as folder:
        yield folder
        write_digests(folder)


def read_entry(place: Path, read: Callable[[Path, Digests], Content]) -> Content | None:
    """Return the result of ``read(entry, digests)``; None where there is no entry.

    All files with a digest have been checked, and ``read`` must open no others. An entry that another run
    replaces meanwhile is read again. Raises ``Damaged``.
    """
    while (before := _status(place)) is not None:
        try:
            if not stat.S_ISDIR(before.st_mode):
                raise Damaged("it is not a folder")
            content = read(place, check_digests(place))
            _touch(place)
            return content
        except Damaged:
            after = _status(place)
            if after is not None and _is_same_folder(before, after):
                raise
    return None


def _touch(place: Path) -> None:
    """Mark an entry as used now, where its user can write it: ``qx cache prune`` goes by that."""
    with suppress(OSError):
        os.utime(place / FILE, follow_symlinks=False)


def _is_same_folder(before: os.stat_result, after: os.stat_result) -> bool:
    # A folder that takes the place of a removed one may get its inode, but not the time of its renaming.
    return os.path.samestat(before, after) and before.st_ctime_ns == after.st_ctime_ns


def _status(place: Path) -> os.stat_result | None:
    try:
        return place.lstat()
    except FileNotFoundError:
        return None
