"""Read which plugins the installed distributions have from their metadata.

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
from qx.foreign import one_line

#: Name of a distribution whose metadata have none.
NAMELESS = "a distribution without a name"
#: Ends of the names of folders with a distribution's metadata.
ENDINGS = (".dist-info", "egg-info")


@frozen
class Distribution:
    """An installed distribution that has plugins."""

    name: str
    version: str | None
    plugins: tuple[Reference, ...] = ()
    #: Reason why its list of plugins cannot be read; empty where it can.
    flaw: str = ""


@frozen
class Installation:
    """The installed distributions."""

    #: Distributions with plugins, in the order of the search path.
    distributions: tuple[Distribution, ...]
    #: Place and time of the metadata of every distribution, with plugins or not. They change whenever a
    #: distribution is installed, upgraded or removed.
    stamps: tuple[str, ...]


def installation() -> Installation:
    """Return what is installed on the search path of this process."""
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
        except OSError:  # it is missing, no folder, or one that this user may not read
            continue
        yield from (Path(root, name) for name in names if name.lower().endswith(ENDINGS))


def _stamp(folder: Path) -> str:
    """Return where the metadata are, and when they were written."""
    for path in (folder / "METADATA", folder / "PKG-INFO", folder):
        try:
            status = path.stat()
        except OSError:
            continue
        return f"{folder} {status.st_size} {status.st_mtime_ns}"
    return str(folder)


def _distribution(folder: Path) -> Distribution | None:
    """Return the distribution of a folder of metadata; None where it has no plugins."""
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
        flaw = f"entry_points.txt or METADATA cannot be read: {one_line(error)}"
        return Distribution(name, version, flaw=flaw)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _header(metadata: str) -> dict[str, str]:
    """Return the fields of the header by their names in lower case; the first of repeated fields counts."""
    fields: dict[str, str] = {}
    for line in metadata.splitlines():
        if not line:
            break
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    return fields


def _plugins(entry_points: str, distribution: str, version: str | None) -> Iterator[Reference]:
    """Yield the plugins in an ``entry_points.txt``. Raises ``ValueError`` for a line in another format."""
    section = ""
    for line in map(str.strip, entry_points.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line.strip("[]")
        elif section == PROJECT and line and not line.startswith("#"):
            name, sign, value = line.partition("=")
            module, _, attribute = value.partition("[")[0].partition(":")
            if not (sign and name.strip() and module.strip()):
                raise ValueError(f"{line!r} is not of the form 'name = package.module'")
            attribute = attribute.strip()
            yield Reference(name.strip(), module.strip(), None, attribute or None, distribution, version)
