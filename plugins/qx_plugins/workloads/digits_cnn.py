"""Handwritten digits from scikit-learn, with the network of ``cifar10_cnn``: no download.

1,797 images of 8x8 pixels (Alpaydin and Kaynak, 1998), enlarged to 32x32 with three equal channels. The test
split has 50 images of each digit (500), the training split all others (1,297). Both splits have the same
writers, so the accuracy does not hold for new ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import LABELS, Context, Data, Option, Workload, hookimpl

if TYPE_CHECKING:
    import numpy as np
    import torch

TEST_IMAGES_PER_DIGIT = 50
#: Mean and standard deviation of the enlarged training images, on the scale 0 to 1.
MEAN, STD = 0.306, 0.324


@hookimpl
def describe() -> Workload:
    return Workload(
        name="digits_cnn",
        summary="The network of cifar10_cnn on 500 of scikit-learn's handwritten digits; needs no download.",
        weights="qx_weights:digits_cnn.pt",
        options=(Option(name="epochs", default=15, help="Passes over the training images, for `qx train`."),),
    )


@hookimpl
def make_model(context: Context) -> torch.nn.Module:
    from qx_plugins.networks.cifar_cnn import CifarCNN

    return CifarCNN(quantizable=context.quantizable)


@hookimpl
def load_data(split: str, context: Context) -> Data:
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = split_indices(digits.target)[split]
    images = (enlarge(digits.images[chosen]) / 16 - MEAN) / STD
    return Data(
        inputs={"image": np.repeat(images[:, np.newaxis], 3, axis=1)},
        targets={LABELS: digits.target[chosen].astype(np.int64)},
        classes=tuple(str(digit) for digit in digits.target_names),
        source="scikit-learn digits",
        preprocessing=(
            "grey pixels from 0 to 16, 8x8, enlarged bilinearly to 32x32 in float32, divided by 16, less the "
            f"mean {MEAN:g}, divided by the standard deviation {STD:g}, and the same in each of the three "
            "channels; axes (batch, channels, height, width)"
        ),
    )


@hookimpl
def example_inputs(batch_size: int, context: Context) -> tuple[torch.Tensor, ...]:
    import torch

    generator = torch.Generator().manual_seed(context.seed)
    return (torch.randn(batch_size, 3, 32, 32, generator=generator),)


@hookimpl
def train(model: torch.nn.Module, context: Context) -> torch.nn.Module:
    from qx_plugins.networks.training import train_classifier

    data = load_data("train", context)
    return train_classifier(
        model,
        data.inputs["image"],
        data.targets[LABELS],
        epochs=context.options["epochs"],
        seed=context.seed,
        progress=context.progress,
        batch_size=64,
        learning_rate=0.1,
        padding=3,
        # A mirrored digit is another character, or none.
        flip=False,
    )


def split_indices(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the indices of ``"train"`` and ``"test"`` in ``labels`` ``[n]``, the same for every seed."""
    import numpy as np

    # numpy guarantees that the numbers of RandomState never change.
    random = np.random.RandomState(0)
    test = np.concatenate(
        [
            random.permutation(np.flatnonzero(labels == digit))[:TEST_IMAGES_PER_DIGIT]
            for digit in np.unique(labels)
        ]
    )
    return {"train": np.setdiff1d(np.arange(len(labels)), test), "test": np.sort(test)}


def enlarge(images: np.ndarray, factor: int = 4) -> np.ndarray:
    """Enlarge images ``[n, side, side]`` bilinearly to float32 ``[n, factor * side, factor * side]``.

    For integers up to 16 and a factor of 4 every product and sum is exact in float32, so the result is the
    same on every machine.
    """
    import numpy as np

    side = images.shape[-1]
    position = np.clip((np.arange(factor * side) + 0.5) / factor - 0.5, 0, side - 1)
    weights = np.maximum(0, 1 - np.abs(position[:, np.newaxis] - np.arange(side))).astype(np.float32)
    result: np.ndarray = weights @ images.astype(np.float32) @ weights.T
    return result
