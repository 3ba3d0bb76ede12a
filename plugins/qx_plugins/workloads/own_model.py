"""The user's own model, without a plugin: ``--model``, ``--weights``, ``--data``, ``--input-shape``.

The model comes from a factory, the images from a tree of class folders. Without ``--weights`` the weights are
those from the factory, and accuracy is reported only if ``--trained`` says that they are trained. Model and
data may also be objects of a Python session that has called ``qx.run``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qx import Context, Data, DataError, Option, UsageError, Workload, hookimpl

if TYPE_CHECKING:
    import torch

#: Default share of the shorter side that is cropped, 224 of 256 pixels as for ImageNet, and the smallest one.
CROP, SMALLEST_CROP = 0.875, 0.1


@hookimpl
def describe() -> Workload:
    return Workload(
        name="own_model",
        summary="Your own model, from a factory, on images in class folders; see --model.",
        takes_model=True,
        random_weights=True,
        options=(
            Option(name="model", default="", help="What makes the model: MODULE:FACTORY or FILE.py:FACTORY."),
            Option(name="data", default="", help="Set by `qx.run`: the arrays of a session, not --data."),
            Option(name="examples", default="", help="Set by `qx.run`: inputs out of these arrays."),
            Option(
                name="model_args",
                default="",
                help="Keyword arguments of the factory, a dict as in Python: {'num_classes': 10}.",
            ),
            Option(name="input_shape", default="", help="Channels, height and width: 3,224,224."),
            Option(
                name="mean", default="", help="Of each channel, 0 to 1; else the model's metadata say it."
            ),
            Option(name="std", default="", help="Of each channel, 0 to 1; else the model's metadata say it."),
            Option(
                name="crop",
                default=0.0,
                minimum=0.0,
                maximum=1.0,
                help="Share of the shorter side that is cut out; 0 for what the metadata say, else 0.875.",
            ),
            Option(
                name="images",
                default=1000,
                minimum=0,
                help="Test images that are evaluated, drawn evenly over the classes; 0 for all.",
            ),
        ),
    )


@hookimpl
def make_model(context: Context) -> torch.nn.Module:
    from qx_plugins.networks.factory import make_from_factory

    return make_from_factory(
        _required_option(context, "model"), _arguments(context), quantizable=context.quantizable
    )


@hookimpl
def load_data(split: str, context: Context) -> Data:
    from qx_plugins.datasets.fitted_images import LAYOUT, load_fitted
    from qx_plugins.networks.factory import read_metadata

    if reference := context.options.get("data"):
        from qx_plugins.datasets.session_data import load_session_data

        return load_session_data(reference, split, context)
    shape = _shape(context)
    if context.data is None:
        raise DataError(f"no data were given; give --data DIR, a folder that holds {LAYOUT}")
    statistics = {name: _numbers(context, name, shape[0]) for name in ("mean", "std")}
    metadata = {}
    if not (context.options["crop"] and all(statistics.values())):
        metadata = dict(read_metadata(_required_option(context, "model"), _arguments(context)))
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


@hookimpl
def example_inputs(batch_size: int, context: Context) -> tuple[torch.Tensor, ...]:
    import torch

    if reference := context.options.get("examples"):
        from qx_plugins.datasets.session_data import example_arrays

        return tuple(map(torch.from_numpy, example_arrays(reference, batch_size)))
    generator = torch.Generator().manual_seed(context.seed)
    return (torch.randn(batch_size, *_shape(context), generator=generator),)


def _required_option(context: Context, name: str) -> str:
    text = str(context.options[name])
    if not text:
        raise UsageError(f"--{name.replace('_', '-')} is missing: a model of your own needs it")
    return text


def _arguments(context: Context) -> dict[str, Any]:
    from qx_plugins.networks.factory import read_arguments

    return read_arguments(str(context.options["model_args"]))


def _shape(context: Context) -> tuple[int, int, int]:
    text = _required_option(context, "input_shape")
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() for part in parts):
        raise UsageError(f"--input-shape {text}: expected channels, height and width, such as 3,224,224")
    channels, height, width = (int(part) for part in parts)
    if channels not in (1, 3) or not (height and width):
        raise UsageError(f"--input-shape {text}: images have 1 or 3 channels and some pixels")
    return channels, height, width


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
