"""Files and folders that appear whole or not at all, and where qx keeps what it can make again."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from qx.errors import UsageError


def cache_folder() -> Path:
    """``QX_CACHE``, or the system's folder for caches. Raises ``UsageError``."""
    if (folder := folder_of_variable("QX_CACHE")) is not None:
        return folder
    from platformdirs import user_cache_path

    return user_cache_path("qx")


def folder_of_variable(variable: str) -> Path | None:
    """The folder that an environment variable names, or None. Raises ``UsageError``."""
    value = os.environ.get(variable)
    if not value:
        return None
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError as error:
        raise UsageError(f"{variable}={value}: there is no such user; name a folder") from error


#: Ends the name of a folder that is not whole yet.
PART = ".qx-part"


@contextmanager
def new_folder(place: Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder that is renamed to ``place`` when all went well.

    Where ``place`` is there by then, it stays as it is, or with ``replace`` makes room, whatever it is.
    Raises ``UsageError`` where it cannot be made there.
    """
    with _named_in_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(place.parent)
        folder, lock = _locked_folder(place)
    try:
        yield folder
        with _named_in_errors(place):
            folder.chmod(0o755)
            _put(folder, place, replace=replace)
    finally:
        remove(folder)
        os.close(lock)


@contextmanager
def _named_in_errors(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot make {place}: {error.strerror or error}") from error


def remove_leftovers(parent: Path) -> None:
    """Remove the unfinished folders that processes left here which did not live to finish them."""
    for path in parent.glob(f".*{PART}"):
        with suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(path)
            finally:
                os.close(handle)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, whatever its modes; do nothing where there is none."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            _open_up(path)
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _open_up(path: Path) -> None:
    """Let the user list and change a folder and all folders in it."""
    path.chmod(0o700)
    for place, folders, _ in os.walk(path):
        for child in (Path(place, name) for name in folders):
            if not child.is_symlink():
                child.chmod(0o700)


def _locked_folder(place: Path) -> tuple[Path, int]:
    """A new folder beside ``place``, and a descriptor that keeps others from taking it for a leftover."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{place.name[:24]}-", suffix=PART, dir=place.parent))
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            # Some file systems have no locks. Nobody can have one there, so nothing is swept either.
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            # Until it was locked it looked like a leftover.
            if folder.exists():
                return folder, lock
            os.close(lock)


def _put(folder: Path, place: Path, *, replace: bool) -> None:
    """Rename a folder to ``place``. What was there takes the folder's name, and is left to be removed."""
    try:
        folder.rename(place)
    except OSError:
        if not os.path.lexists(place) or not (replace or place.is_dir()):
            raise
        if replace and not _exchange(folder, place):
            former = folder.with_name(f"{folder.name.removesuffix(PART)}-former{PART}")
            place.rename(former)
            try:
                folder.rename(place)
            finally:
                remove(former)


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
    """Write files, in their order, so that all are replaced or, if one cannot be written, none."""
    temporaries: dict[Path, str] = {}
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporaries[path] = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporaries[path], 0o644)
        for path, temporary in temporaries.items():
            os.replace(temporary, path)
    finally:
        for temporary in temporaries.values():
            Path(temporary).unlink(missing_ok=True)
