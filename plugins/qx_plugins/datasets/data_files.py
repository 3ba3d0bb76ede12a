"""Data in files, as ``--data`` and ``--calibration-data`` name them: the path decides how they are read.

A folder is a tree of class folders, which only those who know the size of the images can read. A file with
the suffix ``.npz`` holds named arrays. ``FILE.py:FUNCTION`` is a function that gives the data.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from qx import LABELS, Context, Data, DataError, UsageError, one_line
from qx_plugins.datasets.splits import Content, load_split, read_content
from qx_plugins.datasets.user_data import MOST_BYTES
from qx_plugins.networks.model_file import ModelFile, import_source

#: What data may be, in words for messages.
FORMS = "a folder {train,test}/<class>/<image>, an .npz of named arrays, or FILE.py:FUNCTION"
#: Names of the arrays of an ``.npz`` that are no inputs: right answers, names of classes.
TARGETS, CLASSES = ("targets", LABELS), "classes"
#: How names of further targets begin, and those of all arrays where a file holds both splits.
TARGET, SPLITS = "target.", ("train", "test")
#: Function of a file whose name is left out.
DEFAULT_FUNCTION = "load_data"


def is_folder(place: Path, option: str = "--data") -> bool:
    """Return whether data are a tree of class folders. Raises ``UsageError`` where nothing is there."""
    if place.is_dir():
        return True
    if _function_of(place) is None and not place.exists():
        raise UsageError(f"{option} {place} does not exist; expected {FORMS}")
    return False


def is_file(place: Path) -> bool:
    """Return whether data are a file, or a function of a file."""
    return place.is_file() or _function_of(place) is not None


def open_file(place: Path, split: str, context: Context, option: str) -> Content:
    """Return what a file of data has for a split, in whichever form. Raises ``UsageError`` and ``DataError``.

    ``option`` is that of the command line which named it, for messages.
    """
    if function := _function_of(place):
        return _call(*function, split, context, option)
    if place.suffix == ".npz":
        return _open_arrays(place, split, option)
    raise DataError(f"{option} {place}: a file of this kind is not taken; expected {FORMS}")


def load_file(split: str, context: Context) -> Data:
    """Return a split of ``--data``, which is a file. Raises ``UsageError`` and ``DataError``."""
    place = context.data
    assert place is not None
    return load_split(split, context, str(place), lambda: open_file(place, split, context, "--data"))


def load_calibration(context: Context) -> Data:
    """Return all items of ``--calibration-data``, which is a file, or what it calls its train split."""
    place = context.calibration_data
    assert place is not None
    return read_content(open_file(place, "train", context, "--calibration-data"), "train", context)


# Functions ----------------------------------------------------------------------------------------


def _function_of(place: Path) -> tuple[Path, str] | None:
    """Return the file and the name of a function; None where data are no function."""
    match = re.fullmatch(r"(.*\.py)(?::(\w*))?", str(place), re.DOTALL)
    return None if match is None else (Path(match[1]), match[2] or DEFAULT_FUNCTION)


def _call(file: Path, name: str, split: str, context: Context, option: str) -> Content:
    """Call a function of a file with those of ``split`` and ``context`` that it takes."""
    functions = ModelFile(f"{option} {file.name}", import_source(str(file), option))
    return content_of_function(functions, name, split, context, f"{name}() of {file.name}")


def content_of_function(file: ModelFile, name: str, split: str, context: Context, source: str) -> Content:
    """Return what a function gives: a split where it takes ``split``, else all items."""
    value = file.call(name, split=split, context=context)
    is_split = file.takes(name, "split")
    where = f"{file.source}: {name}({repr(split) if is_split else ''})"
    return Content(value, where, source, is_split)


# Named arrays -------------------------------------------------------------------------------------


def _open_arrays(place: Path, split: str, option: str) -> Content:
    """Return the arrays of an ``.npz``: inputs in the order of the file, targets, names of classes.

    The targets are ``labels`` or ``targets``, and what begins with ``target.``. Where every name begins with
    ``train.`` or ``test.``, the file holds both splits.
    """
    where = f"{option} {place.name}"
    if not place.is_file():
        raise UsageError(f"{option} {place}: there is no such file")
    with _opened(place, where) as archive:
        prefixes = {name.partition(".")[0] for name in archive.files if name != CLASSES}
        is_split = prefixes == set(SPLITS)
        prefix = ""
        if prefixes <= set(SPLITS):
            prefix = f"{split if is_split else min(prefixes, default='')}."
        names = [name for name in archive.files if name == CLASSES or name.startswith(prefix)]
        arrays = {name.removeprefix(prefix): archive[name] for name in names}
    return Content(_to_data(arrays, where, place.name), where, place.name, is_split)


@contextmanager
def _opened(place: Path, where: str) -> Iterator[Any]:
    """Open an archive of arrays, without pickles. Raises ``DataError`` for whatever is wrong with it."""
    try:
        with zipfile.ZipFile(place) as archive:
            members = archive.infolist()
        if others := [member.filename for member in members if not member.filename.endswith(".npy")]:
            raise DataError(f"{where} is no .npz of named arrays: it holds {others[0]!r}")
        if (size := sum(member.file_size for member in members)) > MOST_BYTES:
            raise DataError(
                f"{where} holds {size / 1e9:.1f} GB, more than the {MOST_BYTES >> 30} that are read at once: "
                f"have a function give arrays that are read lazily, as qx.Data"
            )
        with np.load(place, allow_pickle=False) as arrays:
            yield arrays
    except zipfile.BadZipFile as error:
        raise DataError(f"{where} is damaged, or no .npz of named arrays: {one_line(error)}") from error
    except (OSError, EOFError, ValueError, KeyError, MemoryError, RuntimeError, zlib.error) as error:
        cause = one_line(error)
        if "allow_pickle" in cause:
            cause = "an array of Python objects, which are never unpickled: save arrays of numbers"
        raise DataError(f"{where} cannot be read: {cause}") from error


def _to_data(arrays: Mapping[str, np.ndarray], where: str, source: str) -> Data:
    if all(name in arrays for name in TARGETS):
        raise DataError(f"{where} has both {' and '.join(map(repr, TARGETS))}: name one of them otherwise")
    inputs, targets = {}, {}
    for name, array in arrays.items():
        if name in TARGETS:
            targets[LABELS] = array
        elif name.startswith(TARGET):
            targets[name.removeprefix(TARGET)] = array
        elif name != CLASSES:
            inputs[name] = array.astype(np.float32) if array.dtype == np.float64 else array
    if not inputs:
        raise DataError(f"{where} has no inputs: it holds {', '.join(arrays) or 'no arrays'}")
    classes = tuple(map(str, np.atleast_1d(arrays[CLASSES]))) if CLASSES in arrays else ()
    return Data(inputs=inputs, targets=targets, classes=classes, source=source)
