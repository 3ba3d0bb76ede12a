"""The network of the kit's own workload."""

from __future__ import annotations

import torch
from torch import nn
from torch.ao.quantization import DeQuantStub, QuantStub, fuse_modules

CLASSES = 4


class BenchNet(nn.Module):
    """A network of 7,220 parameters with the layers that configs quantize.

    Maps images ``[batch, 1, 12, 12]`` (float32) to logits ``[batch, 4]``. With ``quantizable`` it has
    quantization stubs at entry and exit; the state dict is the same with and without.
    """

    def __init__(self, *, quantizable: bool = False) -> None:
        super().__init__()
        self.quant = QuantStub() if quantizable else nn.Identity()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(32, 64)
        self.activation = nn.ReLU()
        self.classifier = nn.Linear(64, CLASSES)
        self.dequant = DeQuantStub() if quantizable else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits ``[batch, 4]`` of images ``[batch, 1, 12, 12]``."""
        features = self.flatten(self.pool(self.features(self.quant(images))))
        outputs: torch.Tensor = self.dequant(self.classifier(self.activation(self.hidden(features))))
        return outputs

    def fuse_model(self) -> None:
        """Fold every Conv-BN-ReLU and Linear-ReLU into one module, in place; for eval mode."""
        groups = [["0", "1", "2"], ["4", "5", "6"]]
        fuse_modules(self.features, groups, inplace=True)
        fuse_modules(self, [["hidden", "activation"]], inplace=True)


def fit(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> nn.Module:
    """Train with Adam (Kingma & Ba, 2015) on images ``[n, 1, 12, 12]`` and labels ``[n]``."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model.train()
    for _ in range(epochs):
        for indices in torch.split(torch.randperm(len(images)), 32):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[indices]), labels[indices])
            torch.autograd.backward(loss)
            optimizer.step()
    return model.eval()
