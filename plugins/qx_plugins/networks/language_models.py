"""Decoders as qx measures them: what they say of the tokens of a text, and how they continue one.

A decoder is a module that gives scores ``[batch, length, vocabulary]`` for tokens ``[batch, length]``. It has
a cache interface where it has two methods more:

``new_cache(batch_size, length=None)``
    returns an empty cache, of any type, for texts of up to ``length`` tokens. It has the number of its tokens
    as ``length``, their size in bytes as ``nbytes``, and ``crop(length)`` forgets all but the first ones.
``extend(tokens, cache)``
    reads further tokens ``[batch, new]`` into the cache, and returns the scores ``[batch, vocabulary]`` of
    the token after the last.

qx looks for such a module within whatever a config has made of the model, so a config keeps the interface by
keeping the module.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

from qx_plugins.language_outputs import KEPT_EVERY, KEPT_FROM, LOG_LIKELIHOODS, LOGITS


class Cache(Protocol):
    """What a decoder knows of the tokens that it has read."""

    length: int

    @property
    def nbytes(self) -> int:
        """Size of what is held for these tokens, in bytes."""

    def crop(self, length: int) -> None:
        """Forget all tokens but the first ``length``."""


class CachingDecoder(Protocol):
    """A decoder with a cache interface."""

    def new_cache(self, batch_size: int, length: int | None = None) -> Cache:
        """Return an empty cache for texts of up to ``length`` tokens."""

    def extend(self, tokens: torch.Tensor, cache: Any) -> torch.Tensor:
        """Read further tokens into the cache, and return the scores of the token after the last."""


class Scorer(nn.Module):
    """A decoder that says what it thinks of a text, in place of scores of all tokens at every position.

    Scores of 4,096 tokens at each position would be 4,096 numbers where one is needed. So there are the
    natural logarithm of the probability of each token that follows, ``[batch, length]``, where the last has
    the first token for its next, and all scores at every 16th position alone,
    ``[batch, positions, vocabulary]``, for the distance between distributions.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the scores that are kept, and the log-likelihoods, of ``tokens`` ``[batch, length]``."""
        scores = self.decoder(tokens).float()
        # Not by sums, differences and concatenations, which quantizers would round as those of the network.
        following = tokens.roll(-1, dims=1)
        likelihoods = scores.log_softmax(dim=2).gather(2, following.unsqueeze(2)).squeeze(2)
        return {LOGITS: scores[:, KEPT_FROM::KEPT_EVERY], LOG_LIKELIHOODS: likelihoods}


def find_decoder(module: nn.Module) -> CachingDecoder | None:
    """Return the decoder with a cache interface within a module; None where there is none."""
    for part in module.modules():
        if callable(getattr(part, "new_cache", None)) and callable(getattr(part, "extend", None)):
            decoder: Any = part
            return decoder  # type: ignore[no-any-return]
    return None


def continue_greedily(decoder: CachingDecoder, tokens: torch.Tensor, count: int) -> torch.Tensor:
    """Return ``count`` tokens that continue texts ``[batch, length]``, each the most probable one.

    The text is read into a cache at once, and then each token that was chosen.
    """
    cache = decoder.new_cache(len(tokens), tokens.shape[1] + count)
    chosen = [decoder.extend(tokens, cache).argmax(dim=-1, keepdim=True)]
    while len(chosen) < count:
        chosen.append(decoder.extend(chosen[-1], cache).argmax(dim=-1, keepdim=True))
    return torch.cat(chosen, dim=1)
