"""Read CIFAR-10 in either of two layouts, which are recognised by their files.

- torchvision's: a folder ``cifar-10-batches-py`` of pickled batches, or the archive that contains it;
- a tree ``{train,test}/<class>/<image>``, see :mod:`qx_plugins.datasets.image_folder`.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from qx import LABELS, Data, DataError, unfinished_folder
from qx_plugins.datasets import image_folder
from qx_plugins.datasets.array_cache import cached_array, file_identity
from qx_plugins.datasets.images import NormalisedImages, describe_normalisation

#: Names of the classes in the order of the labels, which is alphabetical.
CLASSES: tuple[str, ...] = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
#: Height and width of the images, in pixels.
SIDE = 32
#: Mean and standard deviation of the training images, for each channel: the usual values, which the weights
#: were trained with.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

BATCHES, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
#: Address from which torchvision downloads the archive.
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
HOW = f"with --data DIR or QX_DATA: a folder that holds torchvision's '{BATCHES}', or {image_folder.LAYOUT}"
_TIMEOUT_SECONDS = 15.0
_RECORD = np.dtype([("image", np.uint8, (SIDE, SIDE, 3)), ("label", np.uint8)])


def load_cifar10(
    split: str,
    *,
    data: Path | None,
    cache: Path | None,
    offline: bool,
    progress: Callable[[float, str], None],
) -> Data:
    """Return a split from the folder ``data``, or else from ``cache``, downloaded into it if necessary.

    ``inputs["image"]`` is float32 ``[n, 3, 32, 32]``, normalised as it is indexed; ``targets["labels"]`` is
    int64 ``[n]``.
    Raises ``DataError`` where the data are missing, incomplete or damaged.
    """
    root = data if data is not None else _download(cache, offline=offline, progress=progress)
    layout = _layout(root)
    if layout == ARCHIVE:
        root, layout = _unpack(root / ARCHIVE, cache, progress), BATCHES
    if layout == BATCHES:
        pixels, labels = _read_batches(root, split, cache)
        classes, source = CLASSES, "CIFAR-10"
    else:
        classes = image_folder.class_names(root, expected=len(CLASSES))
        tree = image_folder.read_split(root, split, classes, side=SIDE, cache=cache, progress=progress)
        pixels, labels = tree.pixels, tree.labels
        source = _tree_source(root, classes, tree.suffixes)
    images = NormalisedImages(pixels, mean=MEAN, std=STD)
    return Data(
        inputs={"image": images},
        targets={LABELS: labels},
        classes=classes,
        source=source,
        preprocessing=describe_normalisation(MEAN, STD),
    )


def _layout(root: Path) -> str:
    """Return the layout of the folder: ``BATCHES``, ``ARCHIVE`` or ``"tree"``; raises ``DataError``."""
    try:
        names = set(os.listdir(root))
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error.strerror}; give CIFAR-10 {HOW}") from error
    tree = not names.isdisjoint(image_folder.SPLITS)
    if BATCHES in names and tree:
        raise DataError(
            f"{root} holds both '{BATCHES}' and {image_folder.LAYOUT}; give a folder with one of them"
        )
    if BATCHES in names:
        return BATCHES
    if tree:
        return "tree"
    if ARCHIVE in names:
        return ARCHIVE
    state = "holds no CIFAR-10" if names else "is empty"
    raise DataError(f"{root} {state}; give CIFAR-10 {HOW}")


def _tree_source(root: Path, classes: tuple[str, ...], suffixes: frozenset[str]) -> str:
    if classes != CLASSES:
        return root.resolve().name
    if suffixes <= {"jpg", "jpeg"}:
        return "CIFAR-10, JPEG copy"
    return f"CIFAR-10, {root.resolve().name}"


# torchvision's layout -----------------------------------------------------------------------------


def _read_batches(root: Path, split: str, cache: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels uint8 ``[n, 32, 32, 3]`` and labels int64 ``[n]``, from ``cache`` if they are there.

    Reading them from the cache does not import torchvision.
    """
    folder = root / BATCHES
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{folder} lacks {', '.join(missing)}; remove the folder, then unpack or download CIFAR-10 anew"
        )
    records = cached_array(
        cache,
        f"batches-{split}",
        origin=root,
        identities=[file_identity(name, (folder / name).stat()) for name in FILES],
        make=lambda: _read_verified(root, split),
    )
    return records["image"], records["label"].astype(np.int64)


def _read_verified(root: Path, split: str) -> np.ndarray:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    folder = root / BATCHES
    sums = {**dict(CIFAR10.train_list + CIFAR10.test_list), CIFAR10.meta["filename"]: CIFAR10.meta["md5"]}
    # The batches are pickles, which can run any code: check every sum before unpickling.
    damaged = [name for name in FILES if not check_integrity(folder / name, sums[name])]
    if damaged:
        raise DataError(
            f"{folder}: {', '.join(damaged)} damaged (not the MD5 sum that torchvision knows); "
            "remove the folder, then unpack or download CIFAR-10 anew"
        )
    with _silence_torchvision():
        dataset = CIFAR10(root, train=split == "train")
    records = np.empty(len(dataset.data), dtype=_RECORD)
    records["image"] = dataset.data
    records["label"] = dataset.targets
    return records


def _download(cache: Path | None, *, offline: bool, progress: Callable[[float, str], None]) -> Path:
    """Return the folder in the cache that holds CIFAR-10, downloaded if it is missing."""
    if cache is None:
        raise DataError(
            f"no folder with CIFAR-10 was given, and there is no cache to download it into; give it {HOW}"
        )
    root = cache / "cifar10"
    if root.is_dir() and any(root.iterdir()):
        return root
    if offline:
        raise DataError(f"CIFAR-10 is not in {root}, and downloads are turned off; give it {HOW}")

    def fetch(folder: str) -> None:
        from torchvision.datasets import CIFAR10

        CIFAR10(folder, download=True)

    try:
        # Notice an unreachable server before importing torchvision, which takes seconds.
        request = urllib.request.Request(URL, method="HEAD")
        urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS).close()  # noqa: S310 - ours
        progress(0.0, "downloading CIFAR-10 (170 MB)")
        _fetch_whole(fetch, root)
    # torchvision raises RuntimeError for a download with a wrong sum.
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        reason = getattr(reason, "strerror", None) or reason
        raise DataError(
            f"CIFAR-10 is not in {root}, and its download failed ({reason}); give it {HOW}"
        ) from error
    return root


def _unpack(archive: Path, cache: Path | None, progress: Callable[[float, str], None]) -> Path:
    """Return the folder in the cache with the unpacked archive; the user's own folder is not changed."""
    if cache is None:
        raise DataError(
            f"{archive} must be unpacked, and there is no cache folder to unpack it into: unpack it yourself"
        )
    root = cache / "cifar10"
    if (root / BATCHES).is_dir():
        return root

    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity, extract_archive

    if not check_integrity(archive, CIFAR10.tgz_md5):
        raise DataError(f"{archive} is damaged (not the MD5 sum that torchvision knows); download it anew")

    progress(0.0, f"unpacking {ARCHIVE}")
    try:
        _fetch_whole(lambda folder: extract_archive(os.fspath(archive), folder), root)
    except OSError as error:
        raise DataError(f"{archive} cannot be unpacked in {cache}: {error.strerror or error}") from error
    return root


def _fetch_whole(fetch: Callable[[str], None], root: Path) -> None:
    """Have ``fetch`` write the batches to a temporary folder, then move all of them or none into ``root``."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(root.parent) as folder:
        with _silence_torchvision():
            fetch(os.fspath(folder))
        root.mkdir(exist_ok=True)
        # Another process may have been faster.
        if not (root / BATCHES).is_dir():
            os.replace(os.path.join(folder, BATCHES), root / BATCHES)


@contextlib.contextmanager
def _silence_torchvision() -> Iterator[None]:
    """Keep torchvision from printing, and from waiting without limit for a server."""
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    try:
        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
            warnings.catch_warnings(),
        ):
            # The files were pickled by an old numpy, and torchvision unpacks archives without a filter.
            warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
            warnings.filterwarnings("ignore", message="Python 3.14 will, by default, filter extracted tar")
            yield
    finally:
        socket.setdefaulttimeout(previous)
