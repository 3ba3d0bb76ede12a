"""Files and folders that appear whole or not at all, and where qx keeps what it can make again."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """``QX_CACHE``, or the system's folder for caches."""
    if given := os.environ.get("QX_CACHE"):
        return Path(given).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("qx")


@contextmanager
def new_folder(place: Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder that is renamed to ``place`` when all went well.

    Where ``place`` is there by then, it stays as it is, or with ``replace`` makes room.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{place.name[:24]}-", dir=place.parent))
    former = folder.with_name(folder.name + "-former")
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
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


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
