"""A small transformer encoder for sequences of tokens, of layers that every runtime supports."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class TextEncoder(nn.Module):
    """Embeddings, encoder layers (pre-norm), the mean over positions, and a linear head.

    The input of each position includes the token before it: learning this by attention takes far longer than
    the rest, and training should take minutes.

    The model maps token numbers ``[batch, length]`` (int64, with the model's own ``length``) to logits
    ``[batch, num_classes]``.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        length: int,
        num_classes: int,
        width: int = 192,
        heads: int = 4,
        hidden: int = 384,
        layers: int = 2,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.pairs = nn.Linear(2 * width, width)
        self.layers = nn.Sequential(*(EncoderLayer(width, heads, hidden) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits ``[batch, num_classes]`` of token numbers ``[batch, length]``."""
        embedded = self.tokens(tokens)
        previous = functional.pad(embedded[:, :-1], (0, 0, 1, 0))
        features = self.layers(self.pairs(torch.cat([embedded, previous], dim=-1)) + self.positions)
        logits: torch.Tensor = self.classifier(self.norm(features).mean(dim=1))
        return logits


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each after a normalisation and with a residual connection.

    It replaces ``nn.TransformerEncoderLayer``, which in eval mode passes its weights to a fused kernel and
    ignores quantized linear layers.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features ``[batch, length, width]`` of the next layer."""
        features = features + self._attended(self.norm_attention(features))
        outputs: torch.Tensor = features + self.feed_forward(self.norm_feed_forward(features))
        return outputs

    def _attended(self, features: torch.Tensor) -> torch.Tensor:
        parts = self.query_key_value(features).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(query, key, value)
        outputs: torch.Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return outputs
