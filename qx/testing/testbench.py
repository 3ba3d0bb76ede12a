"""The kit's own workload: strokes of four directions in noise, 12x12 pixels, generated from fixed seeds.

It needs no data and serves in microseconds, so that a check takes seconds. It has no entry point: the kit
finds it by its module, as ``-p qx.testing.testbench`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx.contract.conformance import TESTBENCH
from qx.contract.hookspecs import hookimpl
from qx.contract.records import LABELS, Context, Data, Option, Workload

if TYPE_CHECKING:
    import numpy as np
    import torch

SIDE = 12
#: Number of images of each class, by split.
COUNTS = {"train": 100, "test": 50}
#: Standard deviation of the noise, where a stroke adds 1 to a pixel.
NOISE = 0.8


@hookimpl
def describe() -> Workload:
    """Return the record."""
    return Workload(
        name=TESTBENCH,
        summary="Strokes of four directions in noise with a small network, for the conformance kit.",
        weights="qx.testing:testbench.pt",
        options=(Option(name="epochs", default=20, help="Passes over the training images, for `qx train`."),),
    )


@hookimpl
def make_model(context: Context) -> torch.nn.Module:
    """Make the network."""
    from qx.testing.network import BenchNet

    return BenchNet(quantizable=context.quantizable)


@hookimpl
def load_data(split: str) -> Data:
    """Return a split, which is the same for every seed."""
    import numpy as np

    # numpy promises that the numbers of RandomState never change.
    random = np.random.RandomState(list(COUNTS).index(split))
    labels = np.repeat(np.arange(4), COUNTS[split])
    images = random.normal(0, NOISE, (len(labels), SIDE, SIDE)).astype(np.float32)
    for image, label, offset in zip(images, labels, random.randint(3, SIDE - 3, len(labels)), strict=True):
        _draw(image, int(label), int(offset))
    order = random.permutation(len(labels))
    return Data(
        inputs={"image": images[order, np.newaxis]},
        targets={LABELS: labels[order].astype(np.int64)},
        classes=("horizontal", "vertical", "falling", "rising"),
        source="generated strokes",
        preprocessing="strokes of height 1 in noise, as they are generated",
    )


def _draw(image: np.ndarray, label: int, offset: int) -> None:
    """Add a stroke of the label's direction, shifted by ``offset`` pixels, to an image ``[12, 12]``."""
    import numpy as np

    along = np.arange(SIDE)
    across = (along + offset) % SIDE
    rows, columns = ((offset, along), (along, offset), (along, across), (along, across[::-1]))[label]
    image[rows, columns] += 1


@hookimpl
def example_inputs(batch_size: int, context: Context) -> tuple[torch.Tensor, ...]:
    """Return noise."""
    import torch

    generator = torch.Generator().manual_seed(context.seed)
    return (torch.randn(batch_size, 1, SIDE, SIDE, generator=generator),)


@hookimpl
def train(model: torch.nn.Module, context: Context) -> torch.nn.Module:
    """Fit the network to the training split."""
    import torch

    from qx.testing.network import fit

    data = load_data("train")
    images, labels = (torch.from_numpy(array) for array in (data.inputs["image"], data.targets[LABELS]))
    return fit(model, images, labels, context.options["epochs"])
