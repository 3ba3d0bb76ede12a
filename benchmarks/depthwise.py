"""What does one scale for each layer cost depthwise convolutions, and which layers in float give it back?"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from torch import nn

from benchmarks.common import HERE
from benchmarks.depthwise_network import make_model, read_images
from qx import LABELS
from qx.storage.cache import open_cache

NETWORK = HERE / "depthwise_network.py"
EPOCHS = 18


def train(folder: Path, epochs: int) -> nn.Module:
    """Return the network trained on the images in a folder."""
    from qx_plugins.networks.training import train_classifier

    start, said = time.monotonic(), -1

    def progress(done: float, text: str) -> None:
        nonlocal said
        if int(done * epochs * 4) > said:
            said = int(done * epochs * 4)
            print(f"{time.monotonic() - start:.0f} s: {text}", file=sys.stderr, flush=True)

    torch.manual_seed(0)
    data = read_images("train", folder, open_cache())
    # Depthwise convolutions are slower in bfloat16 on CPUs that have no kernels for them.
    return train_classifier(
        make_model(),
        data.inputs["image"],
        data.targets[LABELS],
        epochs=epochs,
        seed=0,
        progress=progress,
        bfloat16=False,
    )


def trained_weights(data: Path, work: Path, epochs: int) -> Path:
    """Return the file of the trained weights, which is written where there is none."""
    path = work / f"depthwise-{epochs}.pt"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        model = train(data, epochs)
        torch.save(model.state_dict(), path)
    return path


def main() -> None:
    """Train the network, and print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10: {train,test}/<class>/<image>")
    parser.add_argument("--work", type=Path, required=True, help="folder in which the weights are kept")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    trained_weights(arguments.data, arguments.work, arguments.epochs)


if __name__ == "__main__":
    main()
