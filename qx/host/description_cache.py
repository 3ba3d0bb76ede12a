"""The cache of plugins' descriptions, each of which is kept as long as it is valid."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from attrs import asdict, frozen

from qx.contract.description import Answers, Description, Group
from qx.contract.references import Reference, top_level_paths
from qx.errors import UsageError
from qx.files import cache_folder, write_whole
from qx.host.installed import Installation

#: Name of the folder in the cache.
FOLDER = "descriptions"
#: Version of the format, increased with each change of it.
FORMAT = 1
#: Largest number of files, each for a group of plugins; the oldest are removed first.
MOST_KEPT = 500
#: Seconds of a day.
DAY = 86400
#: Largest size of a file that is read, in bytes.
LARGEST = 4 << 20
#: Largest number of files of a package; descriptions of plugins in a larger one are not kept.
MOST_FILES = 20_000
#: Nanoseconds by which the time of a change may be too early: with fractions of a second, and without.
TICK, WHOLE_SECONDS = 20_000_000, 2_000_000_000


class Unstable(Exception):
    """A later change of files that a description depends on could go unnoticed."""


@frozen
class Stamp:
    """A text that changes with a file, or with any file of a folder."""

    text: str
    #: Time of the latest change, nanoseconds since 1970.
    changed: int


class DescriptionCache:
    """The kept descriptions that are valid for one state of the installation."""

    def __init__(self, installation: Installation, trust_cache: Path | None = None) -> None:
        """``trust_cache`` names a cache that is trusted although others can write it."""
        self._trust_cache = trust_cache
        self._start = time.time_ns()
        try:
            self._folder: Path | None = cache_folder() / FOLDER
        except UsageError:
            # Nothing is kept then. Listing plugins needs no cache, and commands that need one report it.
            self._folder = None
        qx = _stamp_folder(Path(__file__).parents[1]).text
        machine = sys.platform, os.uname().machine
        self._environment = "\n".join([str(FORMAT), sys.version, *machine, qx, *installation.stamps])

    def read(self, group: Group) -> Answers:
        """Return the valid descriptions of a group's plugins. A damaged file counts as missing."""
        try:
            entry = json.loads(_read(self._file(group), self._trust_cache))
            files = dict(entry["files"])
            current_files = {path: _stamp_file(path).text for path in files}
            packages = {path: stamp.text for path, stamp in _packages(group).items()}
            state = [entry["group"], entry["environment"], entry["packages"], files]
            if state != [_group_key(group), self._environment, packages, current_files]:
                return Answers()
            answers = Answers(files=frozenset(files))
            for plugin in group.plugins:
                if (key := _plugin_key(plugin)) in entry["plugins"]:
                    description = Description.from_json(entry["plugins"][key])
                    answers |= Answers.about(plugin, description, is_named=group.is_named)
            _touch(self._file(group))
            return answers.ready
        except (OSError, Unstable, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return Answers()

    def write(self, group: Group, answers: Answers) -> None:
        """Keep the descriptions of working plugins where possible: a cache may be read-only, or full."""
        from qx.storage.cache import open_folder

        ready = answers.ready
        if not ready.descriptions:
            return
        try:
            packages, files = _packages(group), {path: _stamp_file(path) for path in sorted(answers.files)}
            for stamp in (*packages.values(), *files.values()):
                self._require_older(stamp)
            content = {
                "group": _group_key(group),
                "environment": self._environment,
                "packages": {path: stamp.text for path, stamp in packages.items()},
                "files": {path: stamp.text for path, stamp in files.items()},
                "plugins": {
                    _plugin_key(plugin): description.to_json()
                    for plugin, description in ready.descriptions.items()
                },
            }
            # Not into a cache that others can write: it would not be trusted.
            open_folder(FOLDER, self._trust_cache)
            file = self._file(group)
            write_whole(file, json.dumps(content).encode())
            _remove_oldest(file.parent)
        except (OSError, Unstable, UsageError):
            return

    def _require_older(self, stamp: Stamp) -> None:
        """Raise ``Unstable`` where a change after the files were read could have left the same stamp."""
        tick = TICK if stamp.changed % 1_000_000_000 else WHOLE_SECONDS
        if stamp.changed > self._start - tick:
            raise Unstable

    def _file(self, group: Group) -> Path:
        if self._folder is None:
            raise Unstable
        return self._folder / f"{crc32(json.dumps(_group_key(group)).encode()):08x}.json"


def _group_key(group: Group) -> list[object]:
    """Return values that identify a group, also among environments that share the cache."""
    first = group.plugins[0]
    return [sys.prefix, sys.path, first.distribution if group.is_named else [first.target, first.folder]]


def _plugin_key(plugin: Reference) -> str:
    return json.dumps(asdict(plugin))


def _packages(group: Group) -> dict[str, Stamp]:
    """Return the stamps of the packages of a group's plugins. Raises ``Unstable`` or ``OSError``."""
    paths = top_level_paths(group.plugins)
    if not paths:
        raise Unstable
    return {str(path): _stamp_folder(path) if path.is_dir() else _stamp_file(path) for path in paths}


def _stamp_file(path: str | Path) -> Stamp:
    return _stamp(Path(path).stat())


def _stamp(status: os.stat_result) -> Stamp:
    # The time of the last change of status reveals a file that was replaced by one of equal size and age.
    text = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
    return Stamp(text, max(status.st_mtime_ns, status.st_ctime_ns))


def _stamp_folder(folder: Path) -> Stamp:
    """Return the stamp of all files in a folder, at any depth. Raises ``Unstable`` if there are too many."""
    stamps = {}
    for entry in _entries(str(folder)):
        stamps[entry.path] = _stamp(entry.stat(follow_symlinks=entry.is_file()))
        if len(stamps) > MOST_FILES:
            raise Unstable
    texts = sorted(f"{path} {stamp.text}" for path, stamp in stamps.items())
    return Stamp("\n".join(texts), max((stamp.changed for stamp in stamps.values()), default=0))


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                yield entry
            elif entry.name != "__pycache__":
                yield from _entries(entry.path)


def _read(path: Path, trust_cache: Path | None) -> bytes:
    """Return the content of a file that nobody else can have written, or that is trusted.

    Raises ``OSError`` or ``Unstable``.
    """
    folder = path.parent.stat()
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        others_may_write = folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        is_untrusted = folder.st_uid not in (os.geteuid(), 0) or others_may_write
        if is_untrusted and trust_cache is not None:
            from qx.storage.cache import lies_in

            is_untrusted = not lies_in(path, trust_cache)
        if is_untrusted or not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            raise Unstable
        return file.read(LARGEST)


def _touch(path: Path) -> None:
    """Mark a kept description as used, once a day: the cache drops what was not used for long."""
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > DAY:
            os.utime(path)


def _remove_oldest(folder: Path) -> None:
    files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    for path in files[:-MOST_KEPT]:
        path.unlink(missing_ok=True)
