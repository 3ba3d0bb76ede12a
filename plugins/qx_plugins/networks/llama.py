"""A decoder of the Llama shape in plain torch, with a cache of keys and values.

RMS normalisation (Zhang & Sennrich, 2019), rotary positions (Su et al., 2021), SwiGLU (Shazeer, 2020) and
grouped-query attention (Ainslie et al., 2023), put together as in Touvron et al. (2023).
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import nn
from torch.nn import functional


@frozen(kw_only=True)
class LlamaShape:
    """The sizes of a decoder."""

    vocabulary: int
    #: Largest number of tokens of a text, with those that are generated.
    positions: int = 512
    width: int = 256
    hidden: int = 640
    layers: int = 6
    #: Heads of queries, and of keys and values, each of which several heads of queries share.
    heads: int = 8
    key_value_heads: int = 4

    @property
    def head_width(self) -> int:
        """Width of a head."""
        return self.width // self.heads


class LlamaCache:
    """Keys and values of all layers for the tokens so far, in memory for as many as it may hold."""

    def __init__(self, shape: LlamaShape, batch_size: int, length: int, like: torch.Tensor) -> None:
        """``like`` is a weight of the decoder: keys and values are of its type, and on its device."""
        size = (shape.layers, batch_size, shape.key_value_heads, length, shape.head_width)
        self.keys, self.values = like.new_zeros(size), like.new_zeros(size)
        #: Number of tokens in the cache.
        self.length = 0

    @property
    def nbytes(self) -> int:
        """Size of the keys and values of the tokens that are in the cache, in bytes."""
        held = self.keys[:, :, :, : self.length]
        return 2 * held.numel() * held.element_size()

    def crop(self, length: int) -> None:
        """Forget all tokens but the first ``length``."""
        self.length = min(self.length, length)

    def add(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Add those of new tokens ``[batch, heads, new, head]`` to a layer; return those of all tokens."""
        end = self.length + keys.shape[2]
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class _PassedCache:
    """Keys and values that are passed from one call to the next, in place of a state."""

    def __init__(self, past: tuple[torch.Tensor, ...]) -> None:
        self._past = past
        #: Keys and values of each layer in turn, with those of the tokens that were read.
        self.present: list[torch.Tensor] = []
        self.length = past[0].shape[2]

    def add(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Add those of new tokens to a layer, and return those of all tokens."""
        past = self._past[2 * layer : 2 * layer + 2]
        added = [torch.cat(pair, dim=2) for pair in zip(past, (keys, values), strict=True)]
        self.present += added
        return added[0], added[1]


class LlamaDecoder(nn.Module):
    """A decoder: token numbers ``[batch, length]`` (int64) to scores of the next token.

    ``forward`` gives the scores after each token, ``[batch, length, vocabulary]``. ``new_cache`` and
    ``extend`` are its cache interface, see ``qx_plugins.networks.language_models``.
    """

    cosines: torch.Tensor
    sines: torch.Tensor

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.shape = shape
        self.tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(LlamaLayer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=1e-5)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        cosines, sines = _rotations(shape.positions, shape.head_width)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)
        self.apply(_initialize)

    @property
    def vocabulary(self) -> int:
        """Number of tokens that there are."""
        return self.shape.vocabulary

    @property
    def positions(self) -> int:
        """Largest number of tokens of a text, with those that are generated."""
        return self.shape.positions

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the scores ``[batch, length, vocabulary]`` of the token after each."""
        scores: torch.Tensor = self.head(self._features(tokens, 0, None))
        return scores

    def new_cache(self, batch_size: int, length: int | None = None) -> LlamaCache:
        """Return an empty cache for texts of up to ``length`` tokens; None for as many as there are."""
        return LlamaCache(self.shape, batch_size, length or self.positions, self.norm.weight)

    def extend(self, tokens: torch.Tensor, cache: LlamaCache) -> torch.Tensor:
        """Read further tokens ``[batch, new]`` into the cache.

        Returns the scores ``[batch, vocabulary]`` of the token after the last.
        """
        features = self._features(tokens, cache.length, cache)
        cache.length += tokens.shape[1]
        scores: torch.Tensor = self.head(features[:, -1])
        return scores

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """Number of layers, of heads of keys and values in each, and the width of a head."""
        return self.shape.layers, self.shape.key_value_heads, self.shape.head_width

    def step(self, tokens: torch.Tensor, kept: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Read further tokens without a state: the cache comes in, and goes out with the tokens in it.

        ``past`` are keys and values of each layer in turn, ``[batch, heads, tokens, head]``. Returns the
        scores ``[batch, kept, vocabulary]`` at the positions ``kept`` of ``tokens``, and then the new cache.
        """
        cache = _PassedCache(past)
        features = self._features(tokens, past[0].shape[2], cache)
        return (self.head(features.index_select(1, kept)), *cache.present)

    def _features(
        self, tokens: torch.Tensor, start: int, cache: LlamaCache | _PassedCache | None
    ) -> torch.Tensor:
        end = start + tokens.shape[1]
        if isinstance(cache, _PassedCache):
            # A slice would want the table to be as long as the largest context and prompt together.
            places = torch.arange(start, end, device=tokens.device)
            rotations = self.cosines.index_select(0, places), self.sines.index_select(0, places)
        else:
            rotations = self.cosines[start:end], self.sines[start:end]
        features = self.tokens(tokens)
        for index, layer in enumerate(self.layers):
            features = layer(features, rotations, index, cache)
        normalized: torch.Tensor = self.norm(features)
        return normalized


class LlamaLayer(nn.Module):
    """Attention and a gated feed-forward network, each after a normalisation and with a residual."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.norm_attention = nn.RMSNorm(shape.width, eps=1e-5)
        self.attention = Attention(shape)
        self.norm_feed_forward = nn.RMSNorm(shape.width, eps=1e-5)
        self.feed_forward = GatedFeedForward(shape)

    def forward(
        self,
        features: torch.Tensor,
        rotations: tuple[torch.Tensor, torch.Tensor],
        index: int,
        cache: LlamaCache | _PassedCache | None,
    ) -> torch.Tensor:
        """Return the features ``[batch, length, width]`` of the next layer."""
        features = features + self.attention(self.norm_attention(features), rotations, index, cache)
        outputs: torch.Tensor = features + self.feed_forward(self.norm_feed_forward(features))
        return outputs


class Attention(nn.Module):
    """Grouped-query attention of each token to itself and those before it."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.heads, self.key_value_heads, self.head_width = (
            shape.heads,
            shape.key_value_heads,
            shape.head_width,
        )
        self.query = nn.Linear(shape.width, shape.heads * shape.head_width, bias=False)
        self.key = nn.Linear(shape.width, shape.key_value_heads * shape.head_width, bias=False)
        self.value = nn.Linear(shape.width, shape.key_value_heads * shape.head_width, bias=False)
        self.output = nn.Linear(shape.heads * shape.head_width, shape.width, bias=False)

    def forward(
        self,
        features: torch.Tensor,
        rotations: tuple[torch.Tensor, torch.Tensor],
        index: int,
        cache: LlamaCache | _PassedCache | None,
    ) -> torch.Tensor:
        """Return what the tokens ``[batch, length, width]`` take from those before them and the cache."""
        query = _rotated(self._by_head(self.query(features), self.heads), rotations)
        key = _rotated(self._by_head(self.key(features), self.key_value_heads), rotations)
        value = self._by_head(self.value(features), self.key_value_heads)
        start = 0
        if cache is not None:
            start = cache.length
            key, value = cache.add(index, key, value)
        if isinstance(cache, _PassedCache):
            attended = self._attend_to_passed(query, key, value, cache.length)
        elif cache is not None and query.shape[2] == 1:
            attended = self._attend_from_one(query, key, value)
        else:
            attended = self._attend(query, key, value, start)
        outputs: torch.Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return outputs

    def _by_head(self, features: torch.Tensor, heads: int) -> torch.Tensor:
        by_head: torch.Tensor = features.unflatten(-1, (heads, self.head_width))
        return by_head.transpose(1, 2)

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, start: int
    ) -> torch.Tensor:
        """Attend from tokens of which the first has ``start`` tokens before it."""
        shared = self.heads // self.key_value_heads
        key, value = (part.repeat_interleave(shared, dim=1) for part in (key, value))
        mask = None
        if start:
            mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril(start)
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None
        )

    def _attend_to_passed(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, start: int
    ) -> torch.Tensor:
        """Attend from any number of tokens after any number of others, as a graph has to without branches.

        Heads that share keys are positions of one head, so that none is copied.
        """
        batch, _, length, width = query.shape
        shared = query.reshape(batch, self.key_value_heads, -1, width)
        scores = shared @ key.transpose(2, 3) * width**-0.5
        places = torch.arange(start + length)
        hidden = places.unsqueeze(0) > places[start:].unsqueeze(1)
        mask = torch.zeros(hidden.shape, dtype=scores.dtype).masked_fill(hidden, -1e4)
        scores = scores.unflatten(2, (self.heads // self.key_value_heads, length)) + mask
        attended: torch.Tensor = scores.flatten(2, 3).softmax(dim=-1) @ value
        return attended.reshape(batch, self.heads, length, width)

    def _attend_from_one(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend from a single token to all; heads that share keys are its positions, so none is copied."""
        shared = query.reshape(len(query), self.key_value_heads, -1, self.head_width)
        attended = functional.scaled_dot_product_attention(shared, key, value)
        return attended.reshape(query.shape)


class GatedFeedForward(nn.Module):
    """A feed-forward network with a gate: SwiGLU."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features of the same shape."""
        outputs: torch.Tensor = self.down(functional.silu(self.gate(features)) * self.up(features))
        return outputs


def _initialize(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)


def _rotations(positions: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosines and sines of the angles by which heads are turned, each ``[positions, width]``."""
    frequencies = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), frequencies).repeat(1, 2)
    return angles.cos().float(), angles.sin().float()


def _rotated(heads: torch.Tensor, rotations: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    cosines, sines = rotations
    # Slices, since a split fixes the batch size where ExecuTorch lowers it.
    half = heads.shape[-1] // 2
    first, second = heads[..., :half], heads[..., half:]
    return heads * cosines + torch.cat([-second, first], dim=-1) * sines
