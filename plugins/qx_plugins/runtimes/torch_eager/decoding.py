"""Serve a decoder with a cache in eager mode: a prompt at once, or a token after a context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from qx_plugins.language_outputs import DECODE, PREFILL

if TYPE_CHECKING:
    import torch

    from qx_plugins.networks.language_models import Cache, CachingDecoder


class CachedCalls:
    """The calls of a decoder with a cache; a call's input is a tuple with tokens ``[batch, length]``.

    A call of the kind ``prefill`` reads all tokens into an empty cache, and gives the scores of the token
    after them. One of the kind ``decode`` reads the last token, with those before it in the cache. What lies
    in the cache then is laid down by ``reset``, which nobody times, and only once for all calls of an input.
    """

    def __init__(self, decoder: CachingDecoder) -> None:
        self.decoder = decoder
        self.cache: Cache | None = None
        self._tokens: torch.Tensor | None = None

    @property
    def kinds(self) -> Mapping[str, Callable[[Any], Any]]:
        """The functions of both kinds of call."""
        return {PREFILL: self.prefill, DECODE: self.decode}

    @property
    def cache_bytes(self) -> int:
        """Size of what the cache holds now, in bytes."""
        return 0 if self.cache is None else self.cache.nbytes

    def reset(self, native: tuple[torch.Tensor, ...], kind: str) -> None:
        """Bring the cache into the state in which a call of a kind begins."""
        if kind not in self.kinds:
            return
        tokens = native[0]
        context = tokens.shape[1] - 1 if kind == DECODE else 0
        if self.cache is None or self._tokens is not tokens:
            # The old one is dropped first, so that no two are in memory at a time.
            self.cache = None
            self.cache, self._tokens = self.decoder.new_cache(*tokens.shape), tokens
        self.cache.crop(context)
        if self.cache.length < context:
            self.decoder.extend(tokens[:, self.cache.length : context], self.cache)

    def prefill(self, native: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Read a whole prompt."""
        return self.decoder.extend(native[0], self.cache)

    def decode(self, native: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Read one token."""
        return self.decoder.extend(native[0][:, -1:], self.cache)
