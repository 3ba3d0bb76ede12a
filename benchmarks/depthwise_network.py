"""A network of depthwise convolutions for 32x32 photographs, for ``benchmarks/depthwise.py``.

The blocks of MobileNetV3 (Howard et al., 2019): a 1x1 convolution that expands, a depthwise one, squeeze and
excitation, and a 1x1 convolution that projects, with hard-swish in the later ones. ``--data`` is CIFAR-10.
Of its training images 10,000 are held out and evaluated beside the test images: 20,000 items, which a search
needs to show half a point.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from qx_plugins.datasets.cifar10 import load_cifar10
from torch import nn
from torch.ao.nn.quantized import FloatFunctional
from torch.ao.quantization import DeQuantStub, QuantStub, fuse_modules

from qx import LABELS, Context, Data
from qx.runner.request import Silent

CLASSES, SIDE = 10, 32
#: Training images that are evaluated and not trained on.
HELD_OUT = 10_000
#: Of each block: kernel, channels inside, channels that come out, squeeze and excitation, hard-swish, stride.
BLOCKS = (
    (3, 16, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 96, 40, True, False, 2),
    (5, 160, 40, True, True, 1),
    (5, 160, 40, True, True, 1),
    (3, 240, 96, False, True, 2),
    (5, 384, 96, True, True, 1),
)
STEM, HEAD = 16, 384


def _convolution(
    source: int,
    target: int,
    kernel: int = 1,
    stride: int = 1,
    *,
    groups: int = 1,
    act: type[nn.Module] | None,
) -> nn.Sequential:
    """Return a convolution with its normalisation and, if there is one, its activation function."""
    layers: list[nn.Module] = [
        nn.Conv2d(source, target, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(target),
    ]
    return nn.Sequential(*layers, *([] if act is None else [act()]))


class Excitation(nn.Module):
    """Squeeze and excitation (Hu et al., 2018): a weight between 0 and 1 for each channel."""

    def __init__(self, channels: int, *, quantizable: bool) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce, self.grow = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)
        self.relu, self.gate = nn.ReLU(), nn.Hardsigmoid()
        self.multiply = FloatFunctional() if quantizable else None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the images with each channel weighted, in their shape."""
        weights = self.gate(self.grow(self.relu(self.reduce(self.pool(images)))))
        weighted: torch.Tensor = (
            images * weights if self.multiply is None else self.multiply.mul(images, weights)
        )
        return weighted


class Block(nn.Module):
    """An inverted residual; what comes in is added where it has the shape of what comes out."""

    def __init__(
        self,
        source: int,
        kernel: int,
        inside: int,
        target: int,
        excites: bool,
        is_hard: bool,
        stride: int,
        *,
        quantizable: bool,
    ) -> None:
        super().__init__()
        act = nn.Hardswish if is_hard else nn.ReLU
        self.expand = nn.Identity() if inside == source else _convolution(source, inside, act=act)
        self.depthwise = _convolution(inside, inside, kernel, stride, groups=inside, act=act)
        self.excite = Excitation(inside, quantizable=quantizable) if excites else nn.Identity()
        self.project = _convolution(inside, target, act=None)
        self.adds = stride == 1 and source == target
        self.add = FloatFunctional() if quantizable and self.adds else None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return ``[batch, channels, height, width]``, of half the height and width for a stride of 2."""
        outputs: torch.Tensor = self.project(self.excite(self.depthwise(self.expand(images))))
        if not self.adds:
            return outputs
        if self.add is None:
            return images + outputs
        added: torch.Tensor = self.add.add(images, outputs)
        return added


class DepthwiseNet(nn.Module):
    """Maps images ``[batch, 3, 32, 32]`` (float32) to logits ``[batch, 10]``.

    With ``quantizable`` it has what eager-mode static quantization requires; both forms share one state dict.
    """

    def __init__(self, *, quantizable: bool = False) -> None:
        super().__init__()
        self.quant = QuantStub() if quantizable else nn.Identity()
        self.stem = _convolution(3, STEM, 3, act=nn.Hardswish)
        sources = [STEM, *(block[2] for block in BLOCKS)]
        self.blocks = nn.Sequential(
            *(
                Block(source, *block, quantizable=quantizable)
                for source, block in zip(sources, BLOCKS, strict=False)
            )
        )
        self.head = _convolution(sources[-1], HEAD, act=nn.Hardswish)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.classifier = nn.Linear(HEAD, CLASSES)
        self.dequant = DeQuantStub() if quantizable else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits ``[batch, 10]``."""
        features = self.head(self.blocks(self.stem(self.quant(images))))
        logits: torch.Tensor = self.dequant(self.classifier(self.flatten(self.pool(features))))
        return logits

    def fuse_model(self) -> None:
        """Fold every normalisation, and a ReLU behind it, into its convolution, in place; for eval mode."""
        for module in list(self.modules()):
            if isinstance(module, nn.Sequential) and isinstance(module[0], nn.Conv2d):
                count = 3 if isinstance(module[-1], nn.ReLU) else 2
                fuse_modules(module, [[str(index) for index in range(count)]], inplace=True)
            elif isinstance(module, Excitation):
                fuse_modules(module, ["reduce", "relu"], inplace=True)


def make_model(*, quantizable: bool = False) -> nn.Module:
    """Return the network without its weights."""
    return DepthwiseNet(quantizable=quantizable)


def load_data(split: str, context: Context) -> Data:
    """Return 40,000 training images, or the 10,000 test images and 10,000 that are held out beside them."""
    return read_images(split, context.data, context.cache)


def read_images(split: str, folder: Any, cache: Any) -> Data:
    """Return a split of the images in ``folder``; decoded pixels are kept in ``cache``."""

    def read(name: str) -> Data:
        return load_cifar10(name, data=folder, cache=cache, offline=True, progress=Silent().step)

    training = read("train")
    order = np.random.RandomState(0).permutation(len(training.inputs["image"]))
    chosen = order[:-HELD_OUT] if split == "train" else order[-HELD_OUT:]
    parts = [(np.asarray(training.inputs["image"][chosen]), training.targets[LABELS][chosen])]
    if split == "test":
        test = read("test")
        parts.insert(0, (np.asarray(test.inputs["image"][:]), test.targets[LABELS]))
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Data(
        inputs={"image": images},
        targets={LABELS: labels},
        classes=training.classes,
        source=f"{training.source}, {'40,000' if split == 'train' else '20,000'} images",
        preprocessing=training.preprocessing,
    )
