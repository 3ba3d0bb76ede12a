"""Small networks with random weights, one for each kind of layer or structure, for ``benchmarks.kinds``."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

CLASSES = 5


class Kind(nn.Module):
    """A network of one kind: subclasses make layers in ``make`` and have a ``body``."""

    def __init__(self, *, quantizable: bool) -> None:
        super().__init__()
        self.quant: nn.Module = nn.Identity()
        self.dequant: nn.Module = nn.Identity()
        if quantizable:
            self.quant, self.dequant = torch.ao.quantization.QuantStub(), torch.ao.quantization.DeQuantStub()
        self.make()

    def make(self) -> None:
        """Make the layers."""
        raise NotImplementedError

    def body(self, values: torch.Tensor) -> Any:
        """Return scores of classes ``[batch, CLASSES]``."""
        raise NotImplementedError

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return what the body gives, between the stubs."""
        scores: torch.Tensor = self.dequant(self.body(self.quant(values)))
        return scores

    def fuse_model(self) -> None:
        """Fuse nothing."""

    @staticmethod
    def draw(items: int) -> dict[str, torch.Tensor]:
        """Draw inputs by name."""
        return {"values": torch.randn(items, 3, 12, 12)}


class Series(Kind):
    """A network of series ``[batch, 3, 32]``."""

    @staticmethod
    def draw(items: int) -> dict[str, torch.Tensor]:
        """Draw inputs by name."""
        return {"values": torch.randn(items, 3, 32)}


class Steps(Kind):
    """A network of vectors ``[batch, 16, 24]``."""

    @staticmethod
    def draw(items: int) -> dict[str, torch.Tensor]:
        """Draw inputs by name."""
        return {"values": torch.randn(items, 16, 24)}


class Residual(Kind):
    """Two convolutions with batch normalization, and what goes past them."""

    def make(self) -> None:
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.first, self.second = (nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(2))
        self.norm, self.other_norm = nn.BatchNorm2d(16), nn.BatchNorm2d(16)
        self.sum = nn.quantized.FloatFunctional()
        self.head = nn.Linear(16, CLASSES)

    def body(self, values: torch.Tensor) -> Any:
        features = torch.relu(self.stem(values))
        inner = self.other_norm(self.second(torch.relu(self.norm(self.first(features)))))
        return self.head(torch.relu(self.sum.add(features, inner)).mean((2, 3)))

    def fuse_model(self) -> None:
        torch.ao.quantization.fuse_modules(self, [["first", "norm"], ["second", "other_norm"]], inplace=True)


class Depthwise(Kind):
    """A depthwise, a grouped and a 1x1 convolution."""

    def make(self) -> None:
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.grouped = nn.Conv2d(16, 32, 3, padding=1, groups=4)
        self.mix = nn.Conv2d(32, 32, 1)
        self.head = nn.Linear(32, CLASSES)

    def body(self, values: torch.Tensor) -> Any:
        features = torch.relu(self.depthwise(torch.relu(self.stem(values))))
        return self.head(torch.relu(self.mix(torch.relu(self.grouped(features)))).mean((2, 3)))


class Normalized(Kind):
    """A convolution, a layer that subclasses name, and another convolution."""

    def layer(self) -> nn.Module:
        """Return the layer."""
        raise NotImplementedError

    def make(self) -> None:
        self.stem, self.middle = nn.Conv2d(3, 16, 3, padding=1), self.layer()
        self.second, self.head = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, CLASSES)

    def body(self, values: torch.Tensor) -> Any:
        return self.head(self.second(self.middle(self.stem(values))).flatten(2).mean(2))


class WithGroupNorm(Normalized):
    """GroupNorm between convolutions."""

    def layer(self) -> nn.Module:
        return nn.GroupNorm(4, 16)


class WithGELU(Normalized):
    """GELU between convolutions."""

    def layer(self) -> nn.Module:
        return nn.GELU()


class WithSiLU(Normalized):
    """SiLU between convolutions."""

    def layer(self) -> nn.Module:
        return nn.SiLU()


class WithLayerNorm(Steps):
    """LayerNorm between linear layers."""

    def make(self) -> None:
        self.first, self.norm = nn.Linear(24, 32), nn.LayerNorm(32)
        self.second, self.head = nn.Linear(32, 32), nn.Linear(32, CLASSES)

    def body(self, values: torch.Tensor) -> Any:
        return self.head(torch.relu(self.second(self.norm(self.first(values)))).mean(1))


class MaskedSteps(Kind):
    """Attention with a mask of the steps that count, ``[batch, 16]``."""

    def make(self) -> None:
        self.query, self.key, self.value = (nn.Linear(24, 32) for _ in range(3))
        self.out, self.head = nn.Linear(32, 32), nn.Linear(32, CLASSES)
        # With small weights all steps would count alike, and no mask and no rounding would be seen.
        nn.init.normal_(self.query.weight, std=0.5)
        nn.init.normal_(self.key.weight, std=0.5)

    def attend(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Return the mixed values of four heads, ``[batch, 4, 16, 8]``, which all arguments have as well."""
        raise NotImplementedError

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        steps = self.quant(values)
        heads = [
            layer(steps).unflatten(2, (4, 8)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        ]
        attended = self.attend(heads[0], heads[1], heads[2], mask[:, None, None])
        mixed = self.out(attended.transpose(1, 2).flatten(2))
        scores: torch.Tensor = self.dequant(self.head(torch.relu(mixed).mean(1)))
        return scores


class BooleanMask(MaskedSteps):
    """Attention by torch's function with a boolean mask."""

    def attend(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)

    @staticmethod
    def draw(items: int) -> dict[str, torch.Tensor]:
        """Draw inputs by name."""
        counted = torch.randint(4, 17, (items, 1))
        return {"values": torch.randn(items, 16, 24), "mask": torch.arange(16) < counted}


class AdditiveMask(MaskedSteps):
    """Attention by products and softmax, with a mask that is added: 0, or a large negative number."""

    def attend(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        return (queries @ keys.transpose(2, 3) / 8**0.5 + mask).softmax(-1) @ values

    @staticmethod
    def draw(items: int) -> dict[str, torch.Tensor]:
        """Draw inputs by name."""
        counted = torch.randint(4, 17, (items, 1))
        left_out = torch.arange(16) >= counted
        return {"values": torch.randn(items, 16, 24), "mask": left_out * -1e4}


class EncoderLayer(Kind):
    """The transformer layer of torch, with the steps that do not count."""

    def make(self) -> None:
        self.layer = nn.TransformerEncoderLayer(24, 4, 48, batch_first=True)
        nn.init.normal_(self.layer.self_attn.in_proj_weight, std=0.5)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, values: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        steps = self.layer(self.quant(values), src_key_padding_mask=padding)
        scores: torch.Tensor = self.dequant(self.head(steps.mean(1)))
        return scores

    @staticmethod
    def draw(items: int) -> dict[str, torch.Tensor]:
        """Draw inputs by name."""
        counted = torch.randint(4, 17, (items, 1))
        return {"values": torch.randn(items, 16, 24), "padding": torch.arange(16) >= counted}


class Embedded(Kind):
    """A table of vectors, and linear layers."""

    def make(self) -> None:
        self.table, self.positions = nn.Embedding(100, 24), nn.Embedding(16, 24)
        self.hidden, self.head = nn.Linear(24, 32), nn.Linear(32, CLASSES)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        vectors = self.table(tokens) + self.positions(torch.arange(16))
        scores: torch.Tensor = self.dequant(self.head(torch.relu(self.hidden(self.quant(vectors))).mean(1)))
        return scores

    @staticmethod
    def draw(items: int) -> dict[str, torch.Tensor]:
        """Draw inputs by name."""
        return {"tokens": torch.randint(100, (items, 16))}


class WithConv1d(Series):
    """Convolutions along time, one of them dilated."""

    def make(self) -> None:
        self.first, self.second = nn.Conv1d(3, 16, 5, padding=2), nn.Conv1d(16, 16, 3, dilation=2)
        self.head = nn.Linear(16, CLASSES)

    def body(self, values: torch.Tensor) -> Any:
        return self.head(torch.relu(self.second(torch.relu(self.first(values)))).mean(2))


class WithConvTranspose1d(Series):
    """A transposed convolution along time."""

    def make(self) -> None:
        self.first, self.up = nn.Conv1d(3, 16, 4, stride=2), nn.ConvTranspose1d(16, 24, 4, stride=2)
        self.head = nn.Linear(24, CLASSES)

    def body(self, values: torch.Tensor) -> Any:
        return self.head(torch.relu(self.up(torch.relu(self.first(values)))).mean(2))


class WithConvTranspose2d(Kind):
    """A transposed convolution of images, and another one of two groups."""

    def make(self) -> None:
        self.first, self.up = nn.Conv2d(3, 16, 3, stride=2), nn.ConvTranspose2d(16, 24, 2, stride=2)
        self.grouped, self.head = nn.ConvTranspose2d(24, 16, 3, groups=2), nn.Linear(16, CLASSES)

    def body(self, values: torch.Tensor) -> Any:
        features = torch.relu(self.up(torch.relu(self.first(values))))
        return self.head(torch.relu(self.grouped(features)).mean((2, 3)))


class Recurrent(Steps):
    """A recurrent layer in two directions, and a linear one on the last step."""

    kind: type[nn.LSTM] | type[nn.GRU] = nn.LSTM

    def make(self) -> None:
        self.steps = self.kind(24, 16, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, CLASSES)

    def body(self, values: torch.Tensor) -> Any:
        return self.head(self.steps(values)[0][:, -1])


class WithLSTM(Recurrent):
    """An LSTM."""


class WithGRU(Recurrent):
    """A GRU."""

    kind = nn.GRU


class SharedWeights(Steps):
    """Two linear layers with one weight."""

    def make(self) -> None:
        self.stem, self.head = nn.Linear(24, 32), nn.Linear(32, CLASSES)
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)
        self.second.weight = self.first.weight

    def body(self, values: torch.Tensor) -> Any:
        steps = torch.relu(self.first(torch.relu(self.stem(values))))
        return self.head(torch.relu(self.second(steps)).mean(1))


class CalledTwice(Kind):
    """A convolution that is called three times, on values of different sizes."""

    def make(self) -> None:
        self.stem, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, CLASSES)
        self.again = nn.Conv2d(16, 16, 3, padding=1)

    def body(self, values: torch.Tensor) -> Any:
        features = self.stem(values)
        for _ in range(3):
            features = torch.relu(self.again(features))
        return self.head(features.mean((2, 3)))


class PaddedSame(Kind):
    """Convolutions of even kernels with padding "same", which adds more to one end."""

    def make(self) -> None:
        self.first, self.second = (
            nn.Conv2d(3, 16, 4, padding="same"),
            nn.Conv2d(16, 16, (2, 3), padding="same"),
        )
        self.head = nn.Linear(16, CLASSES)

    def body(self, values: torch.Tensor) -> Any:
        return self.head(torch.relu(self.second(torch.relu(self.first(values)))).mean((2, 3)))


#: The kinds, by the words of the table.
KINDS: dict[str, type[Kind]] = {
    "residual": Residual,
    "depthwise and grouped convolutions": Depthwise,
    "GroupNorm": WithGroupNorm,
    "LayerNorm": WithLayerNorm,
    "GELU": WithGELU,
    "SiLU": WithSiLU,
    "attention, boolean mask": BooleanMask,
    "attention, additive mask": AdditiveMask,
    "TransformerEncoderLayer, masked": EncoderLayer,
    "embeddings": Embedded,
    "Conv1d": WithConv1d,
    "ConvTranspose1d": WithConvTranspose1d,
    "ConvTranspose2d": WithConvTranspose2d,
    "LSTM": WithLSTM,
    "GRU": WithGRU,
    "shared weights": SharedWeights,
    "a layer called three times": CalledTwice,
    "padding='same', even kernel": PaddedSame,
}


def make(kind: str, *, quantizable: bool = False) -> nn.Module:
    """Return the network of a kind, the same each time."""
    torch.manual_seed(0)
    return KINDS[kind](quantizable=quantizable).eval()
