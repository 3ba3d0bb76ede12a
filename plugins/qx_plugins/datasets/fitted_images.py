"""Read images of any size from a tree of class folders, scaled and cropped to the size of a network's inputs.

The shorter side is scaled (bilinear, with antialiasing) so that the centre crop is the share ``crop`` of it,
as torchvision and timm evaluate: to 256 pixels for inputs of 224 at the usual 0.875.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qx import LABELS, Data, DataError
from qx_plugins.datasets import image_folder
from qx_plugins.datasets.array_cache import cached_array, file_identity
from qx_plugins.datasets.images import NormalisedImages, Pixels, describe_normalisation

#: Folders of each split; ImageNet has ``val``.
FOLDERS = {"train": ("train",), "test": ("test", "val")}
LAYOUT = "{train,test}/<class>/<image>"
#: Modes of PIL by number of channels.
MODES = {1: "L", 3: "RGB"}


def load_fitted(
    split: str,
    *,
    root: Path,
    shape: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    crop: float,
    count: int,
    cache: Path | None,
    progress: Callable[[float, str], None],
) -> Data:
    """Return ``count`` images of a split (0: all), drawn evenly over its classes, always the same ones.

    ``inputs["image"]`` is float32 ``[n, *shape]`` (channels, height, width), normalised as it is indexed;
    ``labels`` int64 ``[n]``. Classes are numbered in the alphabetical order of their folders. Test images are
    decoded immediately and kept in ``cache``. Training images are decoded when they are indexed, because
    calibration needs a few hundred of what may exceed the memory. Raises ``DataError``, for a damaged image
    when it is decoded.
    """
    folder = _folder(root, split)
    classes = image_folder.classes_of(folder)
    other = _folder(root, "test" if split == "train" else "train")
    if unmatched := sorted({*classes} ^ {*image_folder.classes_of(other)}):
        raise DataError(
            f"{root}: class folder {unmatched[0]!r} is in only one of {folder.name} and {other.name}; "
            f"expected {LAYOUT}"
        )
    files = [sorted(image_folder.images_of(folder / name)) for name in classes]
    if empty := [name for name, paths in zip(classes, files, strict=True) if not paths]:
        raise DataError(f"{folder} has no images in class folder {empty[0]!r}; expected {LAYOUT}")
    chosen = [(path, label) for label, paths in enumerate(_draw_evenly(files, count)) for path in paths]
    lazy = LazyPixels(
        [path for path, _ in chosen],
        (*shape[1:], shape[0]),
        lambda image: fit_image(image, shape, crop),
        lambda done, text: progress(done, f"decoding {split} images, {text}"),
    )
    pixels: Pixels = lazy
    if split == "test":
        pixels = cached_array(
            cache,
            f"fitted-{split}-{'x'.join(map(str, shape))}-{crop:g}-{count}",
            origin=root,
            identities=[file_identity(str(path.relative_to(folder)), path.stat()) for path, _ in chosen],
            make=lambda: lazy[:],
        )
    return Data(
        inputs={"image": NormalisedImages(pixels, mean=tuple(mean), std=tuple(std))},
        targets={LABELS: np.array([label for _, label in chosen], dtype=np.int64)},
        classes=classes,
        source=root.resolve().name,
        preprocessing=describe_fitting(shape, mean, std, crop),
    )


def describe_fitting(
    shape: tuple[int, int, int], mean: Sequence[float], std: Sequence[float], crop: float
) -> str:
    """Say how an image becomes an input, as ``Data.preprocessing`` does."""
    _, height, width = shape
    return (
        f"the image is scaled (bilinear, with antialiasing) until {height} rows of {width} pixels are its "
        f"centre crop of {crop:g}, and cropped; {describe_normalisation(mean, std)}"
    )


class LazyPixels:
    """Image files indexed like an array uint8 ``[n, height, width, channels]``, decoded at each access."""

    def __init__(
        self,
        paths: Sequence[Path],
        shape: tuple[int, int, int],
        fit: Callable[[Image.Image], np.ndarray],
        progress: Callable[[float, str], None],
    ) -> None:
        self.shape: tuple[int, ...] = (len(paths), *shape)
        self._paths, self._size = np.array([str(path) for path in paths], dtype=object), shape
        self._fit, self._progress, self._done = fit, progress, 0

    def __getitem__(self, key: Any) -> np.ndarray:
        """Return one image for an integer, ``[k, ...]`` for a slice or an array. Raises ``DataError``."""
        chosen = self._paths[key]
        paths = [chosen] if isinstance(chosen, str) else chosen.tolist()
        previous, total = self._done, len(self._paths)

        def report(done: float, _: str) -> None:
            count = previous + round(done * len(paths))
            self._progress(min(1.0, count / total), f"{count} so far")

        pixels = image_folder.decode_all(paths, self._size, self._fit, report)
        self._done += len(paths)
        return pixels[0] if isinstance(chosen, str) else pixels


def fit_image(image: Image.Image, shape: tuple[int, int, int], crop: float) -> np.ndarray:
    """Scale an image and return its centre crop, uint8 ``[height, width, channels]``."""
    channels, height, width = shape
    image = image.convert(MODES[channels])
    scale = max(height / crop / image.height, width / crop / image.width)
    size = max(width, int(scale * image.width + 1e-6)), max(height, int(scale * image.height + 1e-6))
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    pixels = np.asarray(image.crop((left, top, left + width, top + height)))
    return pixels.reshape(height, width, channels)


def _folder(root: Path, split: str) -> Path:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give one that holds {LAYOUT}")
    for name in FOLDERS[split]:
        if (root / name).is_dir():
            return root / name
    raise DataError(f"{root} has no folder {' or '.join(map(repr, FOLDERS[split]))}; expected {LAYOUT}")


def _draw_evenly(files: Sequence[Sequence[Path]], count: int) -> list[list[Path]]:
    """Draw ``count`` files in total, of each class the same number or one more; 0 for all.

    A class with too few files contributes all of them.
    """
    shares = [0] * len(files)
    remaining = count or sum(map(len, files))
    while remaining and any(share < len(paths) for share, paths in zip(shares, files, strict=True)):
        for label, paths in enumerate(files):
            if remaining and shares[label] < len(paths):
                shares[label] += 1
                remaining -= 1
    # numpy guarantees that the numbers of RandomState never change.
    random = np.random.RandomState(0)
    orders = [random.permutation(len(paths)) for paths in files]
    return [
        [paths[index] for index in sorted(order[:share])]
        for paths, order, share in zip(files, orders, shares, strict=True)
    ]
