"""Which plugins the installed distributions name, read from their metadata.

``importlib.metadata`` reads the same files. It is not used because importing it takes a fifth of the time
that ``qx list`` has, and because it lists no entry point at all when the file of one distribution is damaged.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from qx.contract.hookspecs import PROJECT
from qx.contract.references import Reference

#: The name of a distribution whose metadata do not say it.
NAMELESS = "a distribution without a name"
#: How the folders that hold a distribution's metadata end.
ENDINGS = (".dist-info", "egg-info")


@frozen
class Distribution:
    """An installed distribution that has plugins."""

    name: str
    version: str | None
    plugins: tuple[Reference, ...] = ()
    #: Why its list of plugins cannot be read.
    flaw: str = ""


@frozen
class Installation:
    """What is installed."""

    #: Those that have plugins, in the order of the search path.
    distributions: tuple[Distribution, ...]
    #: Of every distribution, with plugins or not, where its metadata are and when they were written. What is
    #: installed, upgraded or removed changes them.
    stamps: tuple[str, ...]


def installation() -> Installation:
    """Read what is installed on the search path of this process."""
    distributions: dict[str, Distribution] = {}
    stamps = []
    for folder in _metadata_folders():
        stamps.append(_stamp(folder))
        distribution = _distribution(folder)
        if distribution is not None:
            # The same distribution may lie on the path twice (installed, and in the current folder).
            distributions.setdefault(re.sub(r"[-_.]+", "-", distribution.name).lower(), distribution)
    return Installation(tuple(distributions.values()), tuple(stamps))


def _metadata_folders() -> Iterator[Path]:
    for entry in dict.fromkeys(sys.path):
        root = entry or os.curdir
        try:
            names = sorted(os.listdir(root))
        except OSError:  # nothing is there, or no folder, or none that this user may read
            continue
        yield from (Path(root, name) for name in names if name.lower().endswith(ENDINGS))


def _stamp(folder: Path) -> str:
    """Where the metadata are, and when they were written."""
    for path in (folder / "METADATA", folder / "PKG-INFO", folder):
        try:
            status = path.stat()
        except OSError:
            continue
        return f"{folder} {status.st_size} {status.st_mtime_ns}"
    return str(folder)


def _distribution(folder: Path) -> Distribution | None:
    """The distribution of this folder; None where it has no plugins."""
    text = _content(folder / "entry_points.txt")
    if text is None or f"[{PROJECT}]".encode() not in text:
        return None
    name, version = NAMELESS, None
    try:
        metadata = _content(folder / "METADATA") or _content(folder / "PKG-INFO") or b""
        fields = _header(metadata.decode())
        name, version = fields.get("name") or NAMELESS, fields.get("version")
        return Distribution(name, version, tuple(dict.fromkeys(_plugins(text.decode(), name, version))))
    except ValueError as error:
        flaw = f"entry_points.txt or METADATA cannot be read: {type(error).__name__}: {error}"
        return Distribution(name, version, flaw=flaw)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _header(metadata: str) -> dict[str, str]:
    """The fields of the header, by their names in lower case; of one that is repeated the first."""
    fields: dict[str, str] = {}
    for line in metadata.splitlines():
        if not line:
            break
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    return fields


def _plugins(entry_points: str, distribution: str, version: str | None) -> Iterator[Reference]:
    """The plugins of an ``entry_points.txt``. Raises ``ValueError`` for a line that is none of its format."""
    section = ""
    for line in map(str.strip, entry_points.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line.strip("[]")
        elif section == PROJECT and line and not line.startswith("#"):
            name, sign, value = line.partition("=")
            module, _, attribute = value.partition("[")[0].partition(":")
            if not (sign and name.strip() and module.strip()):
                raise ValueError(f"{line!r} is no line such as 'name = package.module'")
            attribute = attribute.strip()
            yield Reference(name.strip(), module.strip(), None, attribute or None, distribution, version)
