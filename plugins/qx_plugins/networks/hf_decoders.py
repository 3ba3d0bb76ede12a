"""Decoders of the library transformers, with its own cache of keys and values."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from qx_plugins.networks.language_models import Scorer

if TYPE_CHECKING:
    from qx_plugins.networks.hf_models import Source

#: Endings of names of architectures that predict the next token.
ENDINGS = ("ForCausalLM", "LMHeadModel")
#: Smallest length of an input, and the length of windows where the user names none.
SHORTEST, WINDOW = 32, 512
#: Names of the argument of ``forward`` that takes a cache, the newest first.
CACHE_ARGUMENTS = ("cache", "past_key_values")


def is_decoder(source: Source) -> bool:
    """Return whether a model predicts the next token of a text."""
    return source.architecture.endswith(ENDINGS)


def make_decoder(model: nn.Module) -> nn.Module:
    """Return a model of transformers as qx measures decoders."""
    name = _cache_argument(model)
    return Scorer(TransformersDecoder(model) if name is None else CachingTransformersDecoder(model, name))


def _cache_argument(model: nn.Module) -> str | None:
    """Return the name of the argument that takes a cache; None where there is none."""
    takes = inspect.signature(model.forward).parameters
    return next((name for name in CACHE_ARGUMENTS if name in takes), None)


class TransformersDecoder(nn.Module):
    """A decoder of transformers that takes tokens ``[batch, length]`` and gives scores of the next one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the scores ``[batch, length, vocabulary]``."""
        scores: torch.Tensor = self.model(input_ids=tokens, use_cache=False).logits
        return scores


class CachingTransformersDecoder(TransformersDecoder):
    """The same with the cache interface, for architectures that take a cache."""

    def __init__(self, model: nn.Module, cache_argument: str) -> None:
        super().__init__(model)
        takes = inspect.signature(model.forward).parameters
        self._cache_argument = cache_argument
        self._options = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    def new_cache(self, _batch_size: int, _length: int | None = None) -> TransformersCache:
        """Return an empty cache, which grows with each token as that of transformers does."""
        return TransformersCache(self.model.config)

    def extend(self, tokens: torch.Tensor, cache: TransformersCache) -> torch.Tensor:
        """Read further tokens into the cache, and return the scores of the token after the last."""
        outputs = self.model(
            input_ids=tokens, use_cache=True, **{self._cache_argument: cache.states}, **self._options
        )
        scores: torch.Tensor = outputs.logits[:, -1]
        return scores


class TransformersCache:
    """The default cache of transformers."""

    def __init__(self, config: Any) -> None:
        from transformers import DynamicCache

        self.states: Any = DynamicCache(config=config)
        # Layers with a sliding window forget what a cut would need, unless a setting makes them keep it.
        if hasattr(self.states, "activate_past_recording"):
            self.states.activate_past_recording()

    @property
    def length(self) -> int:
        """Number of tokens in the cache."""
        return int(self.states.get_seq_length())

    @property
    def nbytes(self) -> int:
        """Size of the keys and values, in bytes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._tensors())

    def crop(self, length: int) -> None:
        """Forget all tokens but the first ``length``."""
        if length < self.length:
            # A negative number of tokens to remove means the same in all versions.
            self.states.crop(length - self.length)

    def _tensors(self) -> Iterator[torch.Tensor]:
        for layer in self.states.layers:
            for tensor in (layer.keys, layer.values):
                if isinstance(tensor, torch.Tensor):
                    yield tensor
