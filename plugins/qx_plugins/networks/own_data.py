"""The data of a model of the user's own: from its file, from a folder or a file of data, or generated."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve

from qx import Context, Data, UsageError
from qx_plugins.datasets.data_files import content_of_function, is_folder, load_calibration, load_file
from qx_plugins.datasets.described_inputs import GENERATED, GENERATED_ITEMS, draw_split, draw_with
from qx_plugins.datasets.splits import load_split
from qx_plugins.networks.factory import find_factory
from qx_plugins.networks.hf_models import find_source, is_transformers
from qx_plugins.networks.libraries import is_in_library
from qx_plugins.networks.model_file import ModelFile
from qx_plugins.networks.own_inputs import (
    IMAGE,
    arguments,
    described_inputs,
    examples_of_file,
    image_size,
    in_order_of_forward,
    metadata_of,
    target_of,
)

#: Default share of the shorter side that is cropped, 224 of 256 pixels as for ImageNet, and the smallest one.
CROP, SMALLEST_CROP = 0.875, 0.1


def load_own_data(split: str, context: Context) -> Data:
    """Return a split of the data. Raises ``DataError`` or ``UsageError``."""
    target = target_of(context)
    if is_transformers(target):
        return _load_for_transformers(split, context)
    # First, so that a model that cannot be found is said before what is missing beside it.
    find_factory(target)
    file = ModelFile.of(target)
    data = _load(file, split, context)
    return data if file is None else evolve(data, task=file.task or data.task)


def _load_for_transformers(split: str, context: Context) -> Data:
    """Return a split of the data of a model of transformers: the path decides who reads it."""
    from qx_plugins.networks.hf_data import load_transformers_data, reads

    if reads(context.data):
        return load_transformers_data(split, context)
    source = find_source(target_of(context), context)
    data = _load(None, split, context)
    return evolve(data, task=data.task or source.task)


def _load(file: ModelFile | None, split: str, context: Context) -> Data:
    if split == "train" and context.calibration_data is not None:
        return load_own_calibration(context)
    if file is not None and file.has("load_data") and not _replaces_function(file, context):
        _check_no_statistics(f"{file.source} has load_data()", context)
        return _ordered(
            load_split(
                split,
                context,
                file.source,
                lambda: content_of_function(
                    file, "load_data", split, context, f"load_data() of {Path(file.source).name}"
                ),
            ),
            context,
        )
    if context.data is None:
        return _generate(file, split, context)
    if is_folder(context.data):
        sets_aside = context.calibration_data is None
        return _load_images(file, split, context.data, context, sets_aside=sets_aside)
    _check_no_statistics(f"--data {context.data.name} has inputs as the model takes them", context)
    return _ordered(load_file(split, context), context)


def load_own_calibration(context: Context) -> Data:
    """Return what ``--calibration-data`` has. Raises ``DataError`` or ``UsageError``."""
    place = context.calibration_data
    assert place is not None
    if is_folder(place, "--calibration-data"):
        return _load_images(ModelFile.of(target_of(context)), "train", place, context, sets_aside=False)
    return _ordered(load_calibration(context), context)


def _replaces_function(file: ModelFile, context: Context) -> bool:
    """Whether ``--data`` takes the place of ``load_data``, since that does not take it as its context's."""
    variable = os.environ.get("QX_DATA")
    is_from_variable = variable is not None and Path(variable).absolute() == context.data
    return context.data is not None and not is_from_variable and not file.takes("load_data", "context")


def _check_no_statistics(reason: str, context: Context) -> None:
    """Raise ``UsageError`` for options that say how images are normalised, where there are none."""
    for option in ("mean", "std"):
        if context.options[option]:
            raise UsageError(f"{reason}, so --{option} has no effect: leave it out")


def _ordered(data: Data, context: Context) -> Data:
    """Return data with its inputs in the order of the arguments of ``forward``."""
    names = in_order_of_forward(list(data.inputs), context)
    return evolve(data, inputs={name: data.inputs[name] for name in names})


# Class folders ------------------------------------------------------------------------------------


def _load_images(
    file: ModelFile | None, split: str, root: Path, context: Context, *, sets_aside: bool
) -> Data:
    from qx_plugins.datasets.fitted_images import image_count, load_fitted

    shape = _image_shape(file, context)
    statistics = {name: _numbers(context, name, shape[0]) for name in ("mean", "std")}
    metadata: Mapping[str, Any] = {}
    if not (context.options["crop"] and all(statistics.values())):
        metadata = metadata_of(context)
    for name in statistics:
        if not statistics[name]:
            statistics[name] = _numbers_of_metadata(metadata, name, shape[0])
    return load_fitted(
        split,
        root=root,
        shape=shape,
        mean=statistics["mean"],
        std=statistics["std"],
        crop=_crop(context, metadata),
        count=image_count(split, context),
        cache=context.cache,
        progress=context.progress,
        sets_aside=sets_aside,
    )


def _image_shape(file: ModelFile | None, context: Context) -> tuple[int, int, int]:
    """Return channels, height and width of the only input. Raises ``UsageError`` where it is no image."""
    if file is not None and file.has("example_inputs"):
        shapes = [tuple(example.shape[1:]) for example in examples_of_file(file, 1, context).values()]
    else:
        shapes = [described.shape for described in described_inputs(context)]
    if len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][0] in (1, 3):
        return shapes[0]
    listed = ", ".join(str(["batch", *shape]).replace("'", "") for shape in shapes)
    raise UsageError(
        f"--data (or QX_DATA): a folder of images gives one input [batch, 1 or 3, height, width], and "
        f"{target_of(context)} takes {listed}: give an .npz, or FILE.py:FUNCTION"
    )


def _numbers(context: Context, name: str, channels: int) -> list[float]:
    """Return the numbers of an option, one for each channel; empty where the option is not set."""
    text = str(context.options[name])
    try:
        numbers = [float(part) for part in text.split(",")] if text else []
    except ValueError:
        numbers = [float("nan")]
    return _check_numbers(numbers, name, channels, f"--{name} {text}") if text else []


def _crop(context: Context, metadata: Mapping[str, Any]) -> float:
    crop = float(context.options["crop"] or metadata.get("crop_pct") or CROP)
    if crop < SMALLEST_CROP:
        raise UsageError(f"crop {crop:g}: expected a share from {SMALLEST_CROP} to 1")
    return crop


def _numbers_of_metadata(metadata: Mapping[str, Any], name: str, channels: int) -> list[float]:
    values = metadata.get(name)
    if values is None:
        raise UsageError(
            "the model does not say how its inputs are normalised (pretrained_cfg): give --mean and --std, "
            "a number for each channel, of pixels from 0 to 1"
        )
    return _check_numbers(
        [float(number) for number in values], name, channels, f"the model's metadata: {name} {values}"
    )


def _check_numbers(numbers: list[float], name: str, channels: int, source: str) -> list[float]:
    low = 0.0 if name == "mean" else 1e-6
    if len(numbers) != channels or not all(low <= number <= 1e6 for number in numbers):
        positive = "" if name == "mean" else ", above 0"
        raise UsageError(f"{source}: expected {channels} numbers{positive}, one for each channel")
    return numbers


# Generated ----------------------------------------------------------------------------------------


def _generate(file: ModelFile | None, split: str, context: Context) -> Data:
    """Return generated inputs without right answers: two draws for the two splits."""
    if file is not None and file.has("example_inputs"):

        def make(batch_size: int, seed: int) -> Mapping[str, np.ndarray]:
            examples = examples_of_file(file, batch_size, context, seed)
            return {name: example.detach().numpy() for name, example in examples.items()}

        return Data(inputs=draw_with(make, split), source=GENERATED)
    inputs = described_inputs(context)
    size = None if context.options["example"] else image_size(context)
    if size is None:
        return Data(inputs=draw_split(inputs, split), source=GENERATED)
    from qx_plugins.datasets.generated_images import GeneratedImages

    images = GeneratedImages(GENERATED_ITEMS[split], size, seed=list(GENERATED_ITEMS).index(split))
    return Data(inputs={IMAGE: images}, classes=_classes(context), source=GENERATED)


def _classes(context: Context) -> tuple[str, ...]:
    """Return names of the classes of a library's classifier, which say that outputs are scores; else none."""
    if not is_in_library(target_of(context)):
        return ()
    count = arguments(context).get("num_classes", metadata_of(context).get("num_classes")) or 0
    return tuple(map(str, range(int(count))))
