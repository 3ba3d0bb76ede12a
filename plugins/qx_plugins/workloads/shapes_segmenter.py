"""Discs, squares and triangles in noise, segmented by a small U-Net: generated, so it needs no download.

The class of each pixel is what was drawn there. A shape has some 25 pixels or more, and differs from the
background in each of three channels, so that the noise leaves little doubt about where it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import LABELS, Context, Data, Option, Workload, hookimpl

if TYPE_CHECKING:
    import torch

SIDE = 32
#: Number of pictures, and the seed that they are drawn with, by split.
PICTURES = {"train": (6_000, 5), "test": (500, 6)}


@hookimpl
def describe() -> Workload:
    return Workload(
        name="shapes_segmenter",
        summary="A U-Net of 117,412 parameters on 500 generated pictures of shapes, 32x32 pixels.",
        weights="qx_weights:shapes_segmenter.pt",
        options=(
            Option(name="epochs", default=6, help="Passes over the training pictures, for `qx train`."),
        ),
    )


@hookimpl
def make_model(context: Context) -> torch.nn.Module:
    from qx_plugins.datasets.drawn_shapes import KINDS
    from qx_plugins.networks.small_unet import SmallUNet

    return SmallUNet(channels=3, num_classes=len(KINDS) + 1, quantizable=context.quantizable)


@hookimpl
def load_data(split: str, context: Context) -> Data:
    from qx_plugins.datasets.drawn_shapes import KINDS, load_pictures

    count, seed = PICTURES[split]
    return load_pictures(
        count,
        SIDE,
        seed,
        lambda pictures: {LABELS: pictures.pixels},
        classes=("background", *KINDS),
        task="segmentation",
    )


@hookimpl
def example_inputs(batch_size: int, context: Context) -> tuple[torch.Tensor, ...]:
    from qx_plugins.datasets.drawn_shapes import random_pictures

    return (random_pictures(batch_size, SIDE, context.seed),)


@hookimpl
def train(model: torch.nn.Module, context: Context) -> torch.nn.Module:
    from torch.nn.functional import cross_entropy

    from qx_plugins.networks.training import train_by_adamw

    return train_by_adamw(
        model,
        load_data("train", context),
        lambda outputs, targets: cross_entropy(outputs, targets[LABELS]),
        epochs=context.options["epochs"],
        seed=context.seed,
        progress=context.progress,
        learning_rate=5e-3,
        batch_size=32,
    )
