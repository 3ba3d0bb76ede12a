"""Read images from a tree ``{train,test}/<class>/<image>``.

Classes are numbered in the alphabetical order of their folders. Images are sorted by class, then by name.
Names that begin with a dot are ignored, and so are files where folders are expected.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from attrs import frozen
from PIL import Image, UnidentifiedImageError

from qx import DataError
from qx_plugins.datasets.array_cache import cached_array, file_identity

SPLITS = ("train", "test")
LAYOUT = "{train,test}/<class>/<image>"
#: Largest number of files that one thread decodes at a time.
_CHUNK = 250
#: Number of damaged images that a message names.
_NAMED = 3


def class_names(root: Path, *, expected: int) -> tuple[str, ...]:
    """Return the classes of the tree in the order of their labels.

    Raises ``DataError`` for an incomplete tree.
    """
    for split in SPLITS:
        if not (root / split).is_dir():
            raise DataError(f"{root} has no folder '{split}'; expected {LAYOUT}")
    train, test = ([entry.name for entry in _entries(root / split) if entry.is_dir()] for split in SPLITS)
    for split, names, others in (("train", train, test), ("test", test, train)):
        missing = sorted(set(others) - set(names))
        if missing:
            raise DataError(
                f"{root / split} lacks {_list_names('class folder', missing)}, which the other split has; "
                f"expected {LAYOUT}"
            )
    if len(train) != expected:
        raise DataError(
            f"{root / 'train'} has {_count_nouns(len(train), 'class folder')}, the model has {expected} "
            f"classes; "
            f"expected {LAYOUT}"
        )
    for split in SPLITS:
        empty = [name for name in train if _is_empty(root / split / name)]
        if empty:
            raise DataError(
                f"{root / split} has no images in {_list_names('class folder', empty)}; expected {LAYOUT}"
            )
    return tuple(train)


@frozen
class Split:
    """One split of a tree: pixels uint8 ``[n, side, side, 3]`` and labels int64 ``[n]``."""

    pixels: np.ndarray
    labels: np.ndarray
    #: Suffixes of the files' names, in lower case and without the dot (``"jpg"``).
    suffixes: frozenset[str]


def read_split(
    root: Path,
    split: str,
    classes: tuple[str, ...],
    *,
    side: int,
    cache: Path | None,
    progress: Callable[[float, str], None],
) -> Split:
    """Read a split whose classes come from :func:`class_names`; its pixels are kept in ``cache``.

    Raises ``DataError`` with the names of images that are unreadable or not ``side`` pixels high and wide.
    """
    folders = [_entries(root / split / name) for name in classes]
    files = [entry for entries in folders for entry in entries]
    try:
        identities = [file_identity(entry.name, entry.stat()) for entry in files]
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error
    pixels = cached_array(
        cache,
        f"images-{split}-{side}",
        origin=root,
        identities=(
            *(f"{name} {len(entries)}" for name, entries in zip(classes, folders, strict=True)),
            *identities,
        ),
        make=lambda: decode_all(
            [entry.path for entry in files],
            (side, side, 3),
            lambda image: _square_pixels(image, side),
            lambda done, text: progress(done, f"decoding {split} images, {text}"),
        ),
    )
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(entries) for entries in folders])
    suffixes = frozenset(suffix.lower() for suffix in {entry.name.rpartition(".")[2] for entry in files})
    return Split(pixels, labels, suffixes)


def classes_of(folder: Path) -> tuple[str, ...]:
    """Return the class folders in the folder of a split, in the order of their labels."""
    return tuple(entry.name for entry in _entries(folder) if entry.is_dir())


def images_of(folder: Path) -> list[Path]:
    """Return the files in a class folder, in the order of their names."""
    return [Path(entry.path) for entry in _entries(folder) if entry.is_file()]


def decode_all(
    paths: list[str],
    shape: tuple[int, int, int],
    fit: Callable[[Image.Image], np.ndarray],
    progress: Callable[[float, str], None],
) -> np.ndarray:
    """Decode images to uint8 ``[n, height, width, channels]``; ``fit`` brings each to the shape.

    Raises ``DataError`` with the names of images that cannot be used.
    """
    pixels = np.empty((len(paths), *shape), dtype=np.uint8)
    problems: list[str] = []
    threads = os.cpu_count() or 1
    # Split the work into several steps for each thread, even for few images.
    step = max(1, min(_CHUNK, len(paths) // (4 * threads)))

    def decode(start: int) -> list[str]:
        return [
            problem
            for index in range(start, min(start + step, len(paths)))
            if (problem := _decode(paths[index], pixels[index], fit))
        ]

    # Threads in place of processes: for small images they are as fast (50,000 in 5 s), start immediately and
    # put no conditions on the main program.
    with ThreadPoolExecutor(threads) as pool:
        done = 0
        for messages in pool.map(decode, range(0, len(paths), step)):
            problems += messages
            done = min(len(paths), done + step)
            progress(done / len(paths), f"{done} of {len(paths)}")
    if problems:
        more = len(problems) - _NAMED
        raise DataError(
            f"{_count_nouns(len(problems), 'image')} of {len(paths)} cannot be used: "
            + "; ".join(problems[:_NAMED])
            + (f"; and {more} more" if more > 0 else "")
        )
    return pixels


def _decode(path: str, pixels: np.ndarray, fit: Callable[[Image.Image], np.ndarray]) -> str | None:
    """Decode an image into ``pixels`` ``[height, width, channels]``; return a problem as text, or None."""
    try:
        with Image.open(path) as image:
            pixels[...] = fit(image)
    except MemoryError:
        raise
    except UnidentifiedImageError:
        return f"{path} is not an image"
    except _WrongSize as error:
        return f"{path} {error}"
    except Exception as error:  # A damaged file can make a decoder raise anything.
        return f"{path} cannot be read ({getattr(error, 'strerror', None) or error})"
    return None


class _WrongSize(Exception):
    """An image does not have the required size."""


def _square_pixels(image: Image.Image, side: int) -> np.ndarray:
    if image.size != (side, side):
        raise _WrongSize(f"is {image.width}x{image.height} pixels, not {side}x{side}")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                (entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name
            )
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error


def _is_empty(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return all(entry.name.startswith(".") for entry in entries)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error


def _count_nouns(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _list_names(noun: str, names: list[str]) -> str:
    return f"{noun if len(names) == 1 else noun + 's'} {', '.join(map(repr, names))}"
