"""Jobs on their way to another machine: which files they need, and where these lie there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from qx.cluster.files import Shelf, Tree
from qx.errors import UsageError
from qx.values import Json, JsonObject

#: Fields of jobs that name files or folders to be read.
READ = ("weights", "calibration", "training", "inputs")
#: Fields that name folders to be written. What is in them before is sent too.
WRITTEN = ("folder", "outputs", "finished")
#: Field that names a folder for what several jobs share. Each machine has its own.
SHARED = "shared"
#: Field that names a folder of this machine which helps, and which no other has.
OWN = "compiled"
#: Fields whose values are options of plugins, by name, which may name files.
OPTIONS = ("workload_options", "config_options", "metric_options")
#: What may follow the path of a Python file in an option.
_PYTHON = re.compile(r"(?P<file>.*\.py)(?P<rest>(:[\w.]+)?)", re.DOTALL)
#: The beginning of options that name a folder or an id of the hub of transformers.
_HUB = "hf:"


@frozen
class Place:
    """Where a text in the fields of a job leads on another machine."""

    tree: Tree
    #: Text before the path, and after it.
    before: str = ""
    after: str = ""


def places_of(fields: JsonObject, shelf: Shelf) -> dict[str, Place]:
    """Put the files that a job reads into the cluster; return where they lie, by the texts that name them.

    Raises ``UsageError`` where something is named that cannot be sent.
    """
    places: dict[str, Place] = {}
    for text in _paths(fields):
        places[text] = Place(shelf.tree(Path(text)))
    for text in _option_texts(fields):
        if text not in places and (place := _place_of_option(text, shelf)) is not None:
            places[text] = place
    for reference in _references(fields):
        if reference.get("folder") is not None:
            raise UsageError(
                f"--executor: the plugin {reference['name']} is a module in the current folder, which other "
                f"machines do not have: give it as FILE.py, or install it on all of them"
            )
        if (path := reference.get("path")) is not None:
            places[path] = _python_file(Path(path), "", shelf)
    return places


def replace_texts(value: Any, texts: Mapping[str, str]) -> Any:
    """Return a value of JSON with whole texts replaced by others."""
    if isinstance(value, str):
        return texts.get(value, value)
    if isinstance(value, Mapping):
        return {name: replace_texts(item, texts) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [replace_texts(item, texts) for item in value]
    return value


def _paths(fields: JsonObject) -> Iterator[str]:
    """Yield the files and folders that a job reads, but for those that options name."""
    yield from (str(fields[name]) for name in READ if fields.get(name) is not None)
    lengths = fields.get("lengths")
    yield from map(str, lengths.values() if isinstance(lengths, Mapping) else ())
    artifact = fields.get("artifact")
    if isinstance(artifact, Mapping):
        yield str(artifact["folder"])


def _option_texts(value: Any) -> Iterator[str]:
    """Yield the texts in options of plugins, wherever they are in the fields of a job."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(item) if name in OPTIONS else _option_texts(item)


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def _references(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the references to plugins in the fields of a job."""
    if isinstance(value, Mapping):
        if {"name", "module", "path", "folder"} <= value.keys():
            yield value
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _references(item)


def _place_of_option(text: str, shelf: Shelf) -> Place | None:
    """Return where a file that an option names lies; None where it names none."""
    if match := _PYTHON.fullmatch(text):
        file = Path(match["file"])
        return _python_file(file, match["rest"], shelf) if _exists(file) else None
    before = _HUB if text.startswith(_HUB) else ""
    path = Path(text[len(before) :])
    # A word without a slash or a suffix is a name, whatever lies in the current folder.
    if not (before or "/" in text or path.suffix) or not text or not _exists(path):
        return None
    return Place(shelf.tree(path), before)


def _python_file(file: Path, rest: str, shelf: Shelf) -> Place:
    """Return where a Python file lies, with the Python files beside it, which it may import."""
    folder = file.absolute().parent
    return Place(shelf.tree(folder, sorted(folder.glob("*.py"))), "", f"/{file.name}{rest}")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
