"""Small networks of shapes on which converters were seen to go wrong, with weights that show it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

#: The shape of an input of every network: channels, height, width.
SHAPE = (3, 12, 12)


def images(count: int, seed: int = 0) -> Any:
    """Return random images, ``[count, 3, 12, 12]``."""
    return np.random.default_rng(seed).standard_normal((count, *SHAPE), dtype=np.float32)


def normalization(channels: int) -> nn.BatchNorm2d:
    """Return batch normalization with statistics and weights that folding has to get right."""
    layer = nn.BatchNorm2d(channels)
    with torch.no_grad():
        layer.weight.uniform_(0.5, 2.0)
        layer.bias.normal_(0.0, 0.3)
        layer.running_mean.normal_(0.0, 0.3)
        layer.running_var.uniform_(0.2, 1.0)
    return layer


class Network(nn.Module):
    """A convolution, a body that subclasses define, and a linear layer on the means of its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first, self.second = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.norm, self.other_norm = (normalization(8) for _ in range(2))
        self.activation = nn.ReLU()
        self.head = nn.Linear(8, 5)
        self.make()

    def make(self) -> None:
        """Replace layers of the network."""

    def body(self, values: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.stem(images)).mean((2, 3)))


class SharedByTwoNorms(Network):
    """One convolution that is called twice, each call with a normalization of its own."""

    def body(self, values: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.first(values))) + torch.relu(self.other_norm(self.first(-values)))


class SharedByNormAndNothing(Network):
    """One convolution that is called twice, and normalized once."""

    def body(self, values: torch.Tensor) -> torch.Tensor:
        return self.norm(self.first(values)) + self.first(-values)


class SharedByActivationAndNothing(Network):
    """One convolution that is called twice, and activated once by a module."""

    def body(self, values: torch.Tensor) -> torch.Tensor:
        return self.activation(self.first(values)) + self.first(-values)


class TiedWeights(Network):
    """Two convolutions with one weight, each with a normalization of its own."""

    def make(self) -> None:
        self.second.weight = self.first.weight

    def body(self, values: torch.Tensor) -> torch.Tensor:
        return self.other_norm(self.second(torch.relu(self.norm(self.first(values)))))


class TiedBiases(Network):
    """Two convolutions with one bias."""

    def make(self) -> None:
        self.second.bias = self.first.bias

    def body(self, values: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(values)))


class NormAndBranch(Network):
    """A convolution whose output is normalized, and used as it is as well."""

    def body(self, values: torch.Tensor) -> torch.Tensor:
        values = self.first(values)
        return self.norm(values) + values


class NormOfOtherChannels(Network):
    """A linear layer whose outputs are normalized along another dimension of the same length."""

    def make(self) -> None:
        self.linear = nn.Linear(12, 8)
        self.norm = nn.BatchNorm1d(8)
        self.norm.load_state_dict(normalization(8).state_dict())

    def body(self, values: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.linear(values.mean(3)))).unsqueeze(3)


class StatisticsOfTheBatch(Network):
    """Normalization without statistics of its own."""

    def make(self) -> None:
        self.norm = nn.BatchNorm2d(8, track_running_stats=False)

    def body(self, values: torch.Tensor) -> torch.Tensor:
        return self.norm(self.first(values))


class GroupedTransposed(Network):
    """A transposed convolution of two groups, normalized, and one that has more outputs than inputs."""

    def make(self) -> None:
        self.first = nn.ConvTranspose2d(8, 8, 3, groups=2, bias=False)
        self.second = nn.ConvTranspose2d(8, 16, 2, stride=2)
        self.head = nn.Linear(16, 5)

    def body(self, values: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(torch.relu(self.norm(self.first(values)))))


class PaddedByName(Network):
    """Padding "same" of an even kernel, which adds more to one end, and "valid"."""

    def make(self) -> None:
        self.first = nn.Conv2d(8, 8, (4, 1), padding="same")
        self.second = nn.Conv2d(8, 8, 3, padding="valid")

    def body(self, values: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(torch.relu(self.norm(self.first(values)))))


class PaddedByReplication(Network):
    """A convolution that repeats the border, and one that mirrors it."""

    def make(self) -> None:
        self.first = nn.Conv2d(8, 8, 3, padding=1, padding_mode="replicate")
        self.second = nn.Conv2d(8, 8, 3, padding=(1, 2), padding_mode="reflect")

    def body(self, values: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.norm(self.first(values))))


class Functions(Network):
    """Convolutions as functions, with arguments left out, as numbers, or by name."""

    def make(self) -> None:
        self.filters = nn.Parameter(torch.randn(8, 8, 3, 3) / 9)
        self.even = nn.Parameter(torch.randn(8, 8, 4, 4) / 9)

    def body(self, values: torch.Tensor) -> torch.Tensor:
        values = functional.relu(functional.conv2d(values, self.filters, stride=2, padding=1))
        return functional.relu(functional.conv2d(values, self.even, padding="same"))


class ChannelsLast(Network):
    """One channel, and weights and tensors whose channels lie together in memory."""

    def make(self) -> None:
        self.stem = nn.Conv2d(3, 1, 3, padding=1)
        self.first = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = self.stem(images.contiguous(memory_format=torch.channels_last))
        return self.head(torch.sigmoid(self.first(torch.sigmoid(values) - 0.5)).mean((2, 3)))


class Slopes(Network):
    """PReLU with a slope for each channel."""

    def make(self) -> None:
        self.activation = nn.PReLU(8)
        nn.init.uniform_(self.activation.weight, 0.1, 0.5)

    def body(self, values: torch.Tensor) -> torch.Tensor:
        return self.activation(self.first(values))


class InstanceNorms(Network):
    """Instance normalization of few pixels: batches have more items than an image has pixels."""

    def make(self) -> None:
        self.instance = nn.InstanceNorm2d(8)
        self.stem = nn.Conv2d(3, 8, 3, stride=4)

    def body(self, values: torch.Tensor) -> torch.Tensor:
        return self.first(torch.relu(self.instance(values)))


class SharedActivation(Network):
    """One activation module that is called after each layer, as residual networks have it."""

    def body(self, values: torch.Tensor) -> torch.Tensor:
        values = self.activation(self.norm(self.first(values)))
        return self.activation(self.other_norm(self.second(values)) + values)


class NormFirst(Network):
    """Normalization before any convolution, and dropout."""

    def make(self) -> None:
        self.input_norm = normalization(3)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.stem(self.input_norm(images)).mean((2, 3))))

    def body(self, values: torch.Tensor) -> torch.Tensor:
        return values


class Flag(Network):
    """Its ``forward`` branches on an argument that has a default and is no input."""

    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        features = self.first(self.stem(images).relu())
        if return_features:
            return features
        return self.head(features.relu().mean((2, 3)))


NETWORKS: dict[str, Callable[[], Network]] = {kind.__name__: kind for kind in Network.__subclasses__()}


def network(name: str, seed: int = 0) -> Network:
    """Return a network in eval mode, with weights by the seed."""
    torch.manual_seed(seed)
    return NETWORKS[name]().eval()
