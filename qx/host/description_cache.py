"""What plugins said of themselves, kept in the cache as data for as long as it holds."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

from attrs import asdict, frozen

from qx.contract.description import Answers, Group
from qx.contract.references import Reference, top_level_paths
from qx.errors import UsageError
from qx.files import cache_folder, write_whole
from qx.host.installed import Installation

#: The folder in the cache.
FOLDER = "descriptions"
#: Raised when what is kept is written in another way.
FORMAT = 1
#: Files that are kept, each of a group of plugins; those written longest ago go first.
MOST_KEPT = 500
#: Bytes of a file that is read.
LARGEST = 4 << 20
#: Files of a package that are looked at; what the plugins of a larger one say is not kept.
MOST_FILES = 20_000
#: Nanoseconds by which a file system may write the time of a change too early: some write whole seconds only.
TICK, WHOLE_SECONDS = 20_000_000, 2_000_000_000


class Unstable(Exception):
    """Files from which a description follows cannot be told from what they may become."""


@frozen
class Stamp:
    """What tells a file, or all files of a folder, from how they may become."""

    text: str
    #: The latest change, nanoseconds since 1970.
    changed: int


class Memory:
    """What is kept, and holds for one state of the installation."""

    def __init__(self, installation: Installation, trust_cache: Path | None = None) -> None:
        """``trust_cache`` names a cache that is believed although others can write it."""
        self._trust_cache = trust_cache
        self._began = time.time_ns()
        try:
            self._folder: Path | None = cache_folder() / FOLDER
        except UsageError:
            # Nothing is kept then: to list plugins takes no cache. What needs one tells.
            self._folder = None
        qx = _stamp_folder(Path(__file__).parents[1]).text
        machine = sys.platform, os.uname().machine
        self._environment = "\n".join([str(FORMAT), sys.version, *machine, qx, *installation.stamps])

    def read(self, group: Group) -> Answers:
        """Return what is kept of a group's plugins and holds. What is damaged is as if it were not there."""
        try:
            kept = json.loads(_read(self._file(group), self._trust_cache))
            files = dict(kept["files"])
            now = {path: _stamp_file(path).text for path in files}
            packages = {path: stamp.text for path, stamp in _packages(group).items()}
            state = [kept["group"], kept["environment"], kept["packages"], files]
            if state != [_whose(group), self._environment, packages, now]:
                return Answers()
            answers = Answers(files=frozenset(files))
            for plugin in group.plugins:
                if (name := _name(plugin)) in kept["plugins"]:
                    said = {"description": kept["plugins"][name], "files": []}
                    answers |= Answers.from_message(plugin, said, is_named=group.is_named)
            return answers.ready
        except (OSError, Unstable, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return Answers()

    def write(self, group: Group, answers: Answers) -> None:
        """Keep what plugins that are in order said, where that can be; a cache may be read-only, or full."""
        from qx.storage.cache import open_folder

        ready = answers.ready
        if not ready.descriptions:
            return
        try:
            packages, files = _packages(group), {path: _stamp_file(path) for path in sorted(answers.files)}
            for stamp in (*packages.values(), *files.values()):
                self._require_older(stamp)
            content = {
                "group": _whose(group),
                "environment": self._environment,
                "packages": {path: stamp.text for path, stamp in packages.items()},
                "files": {path: stamp.text for path, stamp in files.items()},
                "plugins": {_name(plugin): said.to_json() for plugin, said in ready.descriptions.items()},
            }
            # Not into a cache that others can write: nothing of it would be believed.
            open_folder(FOLDER, self._trust_cache)
            file = self._file(group)
            write_whole(file, json.dumps(content).encode())
            _remove_oldest(file.parent)
        except (OSError, Unstable, UsageError):
            return

    def _require_older(self, stamp: Stamp) -> None:
        """Raise ``Unstable`` where a change after the files were read could have left the same stamp."""
        tick = TICK if stamp.changed % 1_000_000_000 else WHOLE_SECONDS
        if stamp.changed > self._began - tick:
            raise Unstable

    def _file(self, group: Group) -> Path:
        if self._folder is None:
            raise Unstable
        return self._folder / f"{crc32(json.dumps(_whose(group)).encode()):08x}.json"


def _whose(group: Group) -> list[object]:
    """What tells a group from others, also from those of other environments that share the cache."""
    first = group.plugins[0]
    return [sys.prefix, sys.path, first.distribution if group.is_named else [first.target, first.folder]]


def _name(plugin: Reference) -> str:
    return json.dumps(asdict(plugin))


def _packages(group: Group) -> dict[str, Stamp]:
    """The stamps of the packages that the group's plugins belong to. Raises ``Unstable`` or ``OSError``."""
    paths = top_level_paths(group.plugins)
    if not paths:
        raise Unstable
    return {str(path): _stamp_folder(path) if path.is_dir() else _stamp_file(path) for path in paths}


def _stamp_file(path: str | Path) -> Stamp:
    return _stamp(Path(path).stat())


def _stamp(status: os.stat_result) -> Stamp:
    # The time of the last change of status tells a file that was replaced by one of the same size and age.
    text = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
    return Stamp(text, max(status.st_mtime_ns, status.st_ctime_ns))


def _stamp_folder(folder: Path) -> Stamp:
    """The stamp of all files in a folder, at any depth. Raises ``Unstable`` where there are too many."""
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
    """The content of a file that nobody else can have written, or that is trusted.

    Raises ``OSError``, or ``Unstable``.
    """
    folder = path.parent.stat()
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        theirs = folder.st_uid not in (os.geteuid(), 0) or folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if theirs and trust_cache is not None:
            from qx.storage.cache import lies_in

            theirs = not lies_in(path, trust_cache)
        if theirs or not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            raise Unstable
        return file.read(LARGEST)


def _remove_oldest(folder: Path) -> None:
    files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    for path in files[:-MOST_KEPT]:
        path.unlink(missing_ok=True)
