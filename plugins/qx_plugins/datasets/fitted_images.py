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

from qx import LABELS, Context, Data, DataError, draw_items
from qx_plugins.datasets import image_folder
from qx_plugins.datasets.array_cache import cached_array, file_identity
from qx_plugins.datasets.images import NormalisedImages, Pixels, describe_normalisation
from qx_plugins.datasets.splits import indices_aside

#: Folders of each split; ImageNet has ``val``.
FOLDERS = {"train": ("train",), "test": ("test", "val")}
LAYOUT = "{train,test}/<class>/<image>"
#: Test images that are evaluated where the user asks for no number.
IMAGES = 1000
#: Modes of PIL by number of channels.
MODES = {1: "L", 3: "RGB"}


def image_count(split: str, context: Context) -> int:
    """Return how many images of a split a run takes; 0 for all, which are decoded when they are drawn."""
    if split == "train":
        return 0
    return IMAGES if context.eval_n is None else context.eval_n


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
    sets_aside: bool = True,
) -> Data:
    """Return ``count`` images of a split (0: all), of each class by its share, always the same ones.

    Where the tree has no folder for training, some of the images are set aside for it, and none of those is
    in the other split; without ``sets_aside`` all images there are make up either split.

    ``inputs["image"]`` is float32 ``[n, *shape]`` (channels, height, width), normalised as it is indexed;
    ``labels`` int64 ``[n]``. Classes are numbered in the alphabetical order of their folders. Test images are
    decoded immediately and kept in ``cache``. Training images are decoded when they are indexed, because
    calibration needs a few hundred of what may exceed the memory. Raises ``DataError``, for a damaged image
    when it is decoded.
    """
    folder, is_together = _folder_of(root, split)
    classes = image_folder.classes_of(folder)
    files = [sorted(image_folder.images_of(folder / name)) for name in classes]
    if empty := [name for name, paths in zip(classes, files, strict=True) if not paths]:
        raise DataError(f"{folder} has no images in class folder {empty[0]!r}; expected {LAYOUT}")
    images = [(path, label) for label, paths in enumerate(files) for path in paths]
    source = root.resolve().name
    if is_together and sets_aside:
        parts = indices_aside(np.array([label for _, label in images]), len(images))
        source = f"{source}, {len(parts[0]):,} of {len(images):,} items set aside for calibration"
        images = [images[index] for index in parts[0 if split == "train" else 1]]
    labels = np.array([label for _, label in images], dtype=np.int64)
    chosen = [images[index] for index in draw_items(labels, len(images), count or len(images))]
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
            identities=[file_identity(str(path.relative_to(root)), path.stat()) for path, _ in chosen],
            make=lambda: lazy[:],
        )
    return Data(
        inputs={"image": NormalisedImages(pixels, mean=tuple(mean), std=tuple(std))},
        targets={LABELS: np.array([label for _, label in chosen], dtype=np.int64)},
        classes=classes,
        source=source,
        preprocessing=describe_fitting(shape, mean, std, crop),
        total=len(images),
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


def _folder_of(root: Path, split: str) -> tuple[Path, bool]:
    """Return the folder of class folders that has a split, and whether it has the other one too.

    Raises ``DataError``.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give one that holds {LAYOUT}")
    folders = {name: _named_folder(root, names) for name, names in FOLDERS.items()}
    train, test = folders["train"], folders["test"]
    if train is not None and test is not None:
        _check_same_classes(root, train, test)
    if (own := folders[split]) is not None:
        return own, split == "test" and train is None
    if test is not None:
        return test, True
    if train is not None:
        raise DataError(f"{root} has no folder 'test' or 'val'; expected {LAYOUT}")
    classes = set(image_folder.classes_of(root))
    if not classes - set(sum(FOLDERS.values(), ())):
        raise DataError(f"{root} has no class folders; expected {LAYOUT}, or <class>/<image>")
    return root, True


def _check_same_classes(root: Path, train: Path, test: Path) -> None:
    unmatched = sorted({*image_folder.classes_of(train)} ^ {*image_folder.classes_of(test)})
    if unmatched:
        raise DataError(
            f"{root}: class folder {unmatched[0]!r} is in only one of {train.name} and {test.name}; expected "
            f"{LAYOUT}"
        )


def _named_folder(root: Path, names: Sequence[str]) -> Path | None:
    """Return the first folder of these names that has class folders in it; None without one."""
    folders = [root / name for name in names if (root / name).is_dir()]
    return next((folder for folder in folders if image_folder.classes_of(folder)), None)
