"""Handwritten digits from scikit-learn as vectors: those of one digit lie together. It needs no download.

The images are the 8x8 ones of ``digits_cnn``, with the same split, as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import LABELS, Context, Data, Option, Unsupported, Workload, hookimpl
from qx_plugins.workloads.digits_cnn import split_indices

if TYPE_CHECKING:
    import torch

SIDE = 8
#: Mean and standard deviation of the training images, on the scale 0 to 1.
MEAN, STD = 0.305, 0.376


@hookimpl
def describe() -> Workload:
    return Workload(
        name="digits_embedding",
        summary="A network of 32,672 parameters that makes vectors of 500 of scikit-learn's digits.",
        weights="qx_weights:digits_embedding.pt",
        options=(Option(name="epochs", default=40, help="Passes over the training images, for `qx train`."),),
    )


@hookimpl
def make_model(context: Context) -> torch.nn.Module:
    from qx_plugins.networks.image_embedder import ImageEmbedder

    if context.quantizable:
        raise Unsupported(
            "ImageEmbedder has no form with quantize and dequantize stubs: eager mode has no 8-bit GELU "
            "(blocks.0.activation, GELU)"
        )
    return ImageEmbedder(channels=1)


@hookimpl
def load_data(split: str, context: Context) -> Data:
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = split_indices(digits.target)[split]
    images = (digits.images[chosen].astype(np.float32) / 16 - np.float32(MEAN)) / np.float32(STD)
    return Data(
        inputs={"image": images[:, np.newaxis]},
        targets={LABELS: digits.target[chosen].astype(np.int64)},
        classes=tuple(str(digit) for digit in digits.target_names),
        source="scikit-learn digits",
        preprocessing=f"grey pixels from 0 to 16, 8x8, divided by 16, less the mean {MEAN:g}, divided by the "
        f"standard deviation {STD:g}; axes (batch, channels, height, width)",
        task="embedding",
    )


@hookimpl
def example_inputs(batch_size: int, context: Context) -> tuple[torch.Tensor, ...]:
    import torch

    generator = torch.Generator().manual_seed(context.seed)
    return (torch.randn(batch_size, 1, SIDE, SIDE, generator=generator),)


@hookimpl
def train(model: torch.nn.Module, context: Context) -> torch.nn.Module:
    from qx_plugins.networks.image_embedder import neighbour_loss
    from qx_plugins.networks.training import train_by_adamw

    return train_by_adamw(
        model,
        load_data("train", context),
        lambda outputs, targets: neighbour_loss(outputs, targets[LABELS]),
        epochs=context.options["epochs"],
        seed=context.seed,
        progress=context.progress,
        learning_rate=3e-3,
    )
