"""A small network that reads handwritten digits, for ``benchmarks/injured.py``."""

from collections import OrderedDict

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.ao.quantization import DeQuantStub, QuantStub, fuse_modules


def load_data(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images ``[n, 1, 8, 8]`` and labels ``[n]``."""
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    labels = torch.tensor(labels)
    return (images[:1000], labels[:1000]) if split == "train" else (images[1000:], labels[1000:])


class Digits(nn.Sequential):
    """A chain of layers that eager mode can fuse."""

    def fuse_model(self) -> None:
        """Fold every ReLU into the convolution before it, in place; for eval mode."""
        names = [name for name, layer in self.named_children() if isinstance(layer, nn.Conv2d)]
        fuse_modules(self, [[name, f"relu_{name}"] for name in names], inplace=True)


def make_model(*, quantizable: bool = False) -> nn.Sequential:
    """Return the network without its weights; quantizable with stubs around it."""
    layers = [
        ("one", nn.Conv2d(1, 16, 3, padding=1)),
        ("relu_one", nn.ReLU()),
        ("two", nn.Conv2d(16, 24, 3, padding=1)),
        ("relu_two", nn.ReLU()),
        ("pool", nn.MaxPool2d(2)),
        ("three", nn.Conv2d(24, 24, 3, padding=1)),
        ("relu_three", nn.ReLU()),
        ("four", nn.Conv2d(24, 32, 1)),
        ("relu_four", nn.ReLU()),
        ("five", nn.Conv2d(32, 32, 3, padding=1)),
        ("relu_five", nn.ReLU()),
        ("mean", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten()),
        ("six", nn.Linear(32, 10)),
    ]
    if quantizable:
        layers = [("quant", QuantStub()), *layers, ("dequant", DeQuantStub())]
    return Digits(OrderedDict(layers))
