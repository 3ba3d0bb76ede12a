"""A small transformer for pairs of sentences, with masks for what is padding."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

#: What an additive mask adds to the score of padding: far below any score, and finite in 16 bits.
EXCLUDED = -1e4


class PairEncoder(nn.Module):
    """One encoder for both sentences, attention from each to the other, and a classifier of the pair.

    The encoder's layer is called twice for each of the two sentences: four calls of the same weights. Its
    mask is boolean, that of the attention to the other sentence is additive. The input of each position
    includes the token before it, as in ``TextEncoder``.

    The model maps token numbers ``first`` and ``second``, ``[batch, length]`` (int64, with the model's own
    ``length``), to logits ``[batch, 2]``.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        length: int,
        padding: int,
        width: int = 64,
        heads: int = 4,
        hidden: int = 128,
    ) -> None:
        super().__init__()
        self.padding = padding
        self.tokens = nn.Embedding(vocabulary, width, padding_idx=padding)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.pairs = nn.Linear(2 * width, width)
        self.norm_attention = nn.LayerNorm(width)
        self.attention = MaskedAttention(width, heads)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.norm_other = nn.LayerNorm(width)
        self.other = MaskedAttention(width, heads)
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, 2))

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return the logits ``[batch, 2]`` of token numbers ``[batch, length]``."""
        features = (self._encoded(first), self._encoded(second))
        pooled = (
            self._pooled(first, features[0], features[1], second),
            self._pooled(second, features[1], features[0], first),
        )
        # The order of the sentences means nothing.
        likeness = torch.cat([pooled[0] * pooled[1], (pooled[0] - pooled[1]).abs()], dim=-1)
        logits: torch.Tensor = self.classifier(likeness)
        return logits

    def _encoded(self, tokens: torch.Tensor) -> torch.Tensor:
        embedded = self.tokens(tokens)
        previous = functional.pad(embedded[:, :-1], (0, 0, 1, 0))
        features: torch.Tensor = self.pairs(torch.cat([embedded, previous], dim=-1)) + self.positions
        mask = (tokens != self.padding)[:, None, None, :]
        for _ in range(2):
            normed = self.norm_attention(features)
            features = features + self.attention(normed, normed, mask)
            features = features + self.feed_forward(self.norm_feed_forward(features))
        return features

    def _pooled(
        self, tokens: torch.Tensor, features: torch.Tensor, others: torch.Tensor, other_tokens: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean of a sentence's features, with what it sees in the other, ``[batch, width]``."""
        mask = (other_tokens == self.padding).to(features.dtype)[:, None, None, :] * EXCLUDED
        features = features + self.other(self.norm_other(features), self.norm_other(others), mask)
        shares = (tokens != self.padding).to(features.dtype)[:, :, None]
        pooled: torch.Tensor = (self.norm(features) * shares).sum(dim=1) / shares.sum(dim=1)
        return pooled


class MaskedAttention(nn.Module):
    """Attention of several heads from ``features`` to ``others``, without positions that a mask excludes."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def forward(self, features: torch.Tensor, others: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return ``[batch, length, width]``; ``mask`` ``[batch, 1, 1, length]`` is boolean or is added."""
        query = self.query(features).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        parts = self.key_value(others).unflatten(-1, (2, self.heads, -1))
        key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        outputs: torch.Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return outputs
