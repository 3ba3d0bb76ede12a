"""The data of a model of the user's own: from its file, from class folders, or generated."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve

from qx import Context, Data, UsageError
from qx_plugins.datasets.described_inputs import GENERATED, GENERATED_ITEMS, draw_split, draw_with
from qx_plugins.datasets.session_data import set_aside
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
    if file is not None and file.has("load_data"):
        data = _load_of_file(file, split, context)
    elif context.data is not None:
        data = _load_images(file, split, context)
    else:
        data = _generate(file, split, context)
    if file is None:
        return data
    ignored = "".join(f", {name}() is not called yet" for name in file.ignored)
    return evolve(data, task=file.task or data.task, source=f"{data.source}{ignored}")


def _load_for_transformers(split: str, context: Context) -> Data:
    """Return a split of the data of a model of transformers: the path decides who reads it."""
    from qx_plugins.networks.hf_data import load_transformers_data, reads

    if reads(context.data):
        return load_transformers_data(split, context)
    source = find_source(target_of(context), context)
    data = _load_images(None, split, context)
    return evolve(data, task=data.task or source.task)


# From the file ------------------------------------------------------------------------------------


def _load_of_file(file: ModelFile, split: str, context: Context) -> Data:
    for option in ("mean", "std"):
        if context.options[option]:
            raise UsageError(f"{file.source} has load_data(), so --{option} has no effect: leave it out")
    variable = os.environ.get("QX_DATA")
    is_from_variable = variable is not None and Path(variable).absolute() == context.data
    if context.data is not None and not is_from_variable and not file.takes("load_data", "context"):
        raise UsageError(
            f"{file.source}: load_data() takes no context, whose data is the folder of --data: leave --data "
            f"out, or have it take context"
        )
    data = _whole(file, split, context) if file.takes("load_data", "split") else _part(file, split, context)
    names = in_order_of_forward(list(data.inputs), context)
    return evolve(data, inputs={name: data.inputs[name] for name in names})


def _whole(file: ModelFile, split: str, context: Context) -> Data:
    """Return what ``load_data`` gives for a split."""
    from qx_plugins.datasets.user_data import to_data

    takes_split = file.takes("load_data", "split")
    value = file.call("load_data", split=split, context=context)
    return to_data(
        value,
        where=f"{file.source}: load_data({repr(split) if takes_split else ''})",
        source=f"load_data() of {Path(file.source).name}",
        limit=int(context.options["items"]),
        progress=context.progress,
    )


#: Items that a file gives together, by file: of one call for both splits.
_together: dict[str, Mapping[str, Data]] = {}


def _part(file: ModelFile, split: str, context: Context) -> Data:
    """Return a split of items that ``load_data`` gives together: some are set aside for calibration."""
    if file.source not in _together:
        _together[file.source] = set_aside(_whole(file, split, context), 0)
    return _together[file.source][split]


# Class folders ------------------------------------------------------------------------------------


def _load_images(file: ModelFile | None, split: str, context: Context) -> Data:
    from qx_plugins.datasets.fitted_images import load_fitted

    assert context.data is not None
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
        root=context.data,
        shape=shape,
        mean=statistics["mean"],
        std=statistics["std"],
        crop=_crop(context, metadata),
        count=context.options["images"] if split == "test" else 0,
        cache=context.cache,
        progress=context.progress,
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
        f"{target_of(context)} takes {listed}: have load_data() in a FILE.py give the data"
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
