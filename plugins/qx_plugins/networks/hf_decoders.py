"""Decoders of the library transformers, with its own cache of keys and values."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from qx import Unsupported, one_line
from qx_plugins.networks.language_models import Scorer

if TYPE_CHECKING:
    from qx_plugins.networks.hf_models import Source

#: Endings of names of architectures that predict the next token.
ENDINGS = ("ForCausalLM", "LMHeadModel")
#: Smallest length of an input, and the length of windows where the user names none.
SHORTEST, WINDOW = 32, 512
#: Names of the argument of ``forward`` that takes a cache, the newest first.
CACHE_ARGUMENTS = ("cache", "past_key_values")
#: Tokens of the text on which a step is compared with the whole text, and those of its first part.
TRIED, FIRST = 5, 3
#: Largest difference of scores between a text as a whole and one in parts, relative to the largest score, in
#: float32, and in types of 16 bits.
SAME, SAME_IN_16_BITS = 1e-3, 0.05


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

    @property
    def no_step(self) -> str:
        """Why the model cannot read a text in parts without a state; empty where it can."""
        return f"{type(self.model).__name__} takes no cache of keys and values"

    @property
    def positions(self) -> int | None:
        """Largest number of tokens of a text, with those that are generated; None where nothing says."""
        settings: Any = self.model.config
        positions = getattr(settings, "max_position_embeddings", None)
        return int(positions) if positions else None


class CachingTransformersDecoder(TransformersDecoder):
    """The same with the cache interface, for architectures that take a cache.

    Where all layers keep keys and values of each token, of one shape, it also has ``step`` and
    ``cache_shape``, see ``qx_plugins.networks.decoder_graphs``.
    """

    def __init__(self, model: nn.Module, cache_argument: str) -> None:
        super().__init__(model)
        takes = inspect.signature(model.forward).parameters
        self._cache_argument = cache_argument
        self._takes_positions = "logits_to_keep" in takes

    def new_cache(self, _batch_size: int, _length: int | None = None) -> TransformersCache:
        """Return an empty cache, which grows with each token as that of transformers does."""
        return TransformersCache(self.model.config)

    def extend(self, tokens: torch.Tensor, cache: TransformersCache) -> torch.Tensor:
        """Read further tokens into the cache, and return the scores of the token after the last."""
        return self._read(tokens, cache.states, 1)[:, -1]

    def _read(
        self, tokens: torch.Tensor, states: Any, scored: int | torch.Tensor | None = None
    ) -> torch.Tensor:
        """Read tokens into a cache of transformers, and return scores ``[batch, scored, vocabulary]``.

        ``scored`` are positions of ``tokens``, or the number of the last ones. An architecture that cannot
        leave any out gives the scores of all.
        """
        options = {} if scored is None or not self._takes_positions else {"logits_to_keep": scored}
        scores: torch.Tensor = self.model(
            input_ids=tokens, use_cache=True, **{self._cache_argument: states}, **options
        ).logits
        return scores

    # Without a state -------------------------------------------------------------------------------

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """Number of layers, of heads of keys and values in each, and the width of a head."""
        shape, reason = self._tried
        if shape is None:
            raise ValueError(reason)
        return shape

    @property
    def no_step(self) -> str:
        """Why the model cannot read a text in parts without a state; empty where it can."""
        return self._tried[1]

    def step(self, tokens: torch.Tensor, kept: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Read further tokens without a state: the cache comes in, and goes out with the tokens in it.

        ``past`` are keys and values of each layer in turn, ``[batch, heads, tokens, head]``. Returns the
        scores ``[batch, kept, vocabulary]`` at the positions ``kept`` of ``tokens``, and then the new cache.
        """
        from qx_plugins.networks.hf_passed_cache import passed_cache

        states = passed_cache(self.model.config, past)
        scores = self._read(tokens, states, kept)
        if not self._takes_positions:
            scores = scores.index_select(1, kept)
        return scores, *(part for layer in states.layers for part in (layer.keys, layer.values))

    @cached_property
    def _tried(self) -> tuple[tuple[int, int, int] | None, str]:
        """The shape of the cache, or why there is no ``step``, from a text that is read in two parts."""
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                shape = self._try_step()
        except Unsupported as error:
            return None, str(error)
        # An architecture that is not made for a cache may raise anything.
        except Exception as error:
            return None, one_line(error)
        finally:
            self.train(was_training)
        return shape, ""

    def _try_step(self) -> tuple[int, int, int]:
        """Return the shape of the cache. Raises ``Unsupported`` where ``step`` cannot be."""
        from qx_plugins.networks.hf_passed_cache import shape_of_cache

        device = next(self.parameters()).device
        tokens = torch.arange(TRIED, device=device).unsqueeze(0)
        whole = self(tokens)
        cache = self.new_cache(1)
        self.extend(tokens, cache)
        layers, heads, width = shape = shape_of_cache(cache.states)
        empty = whole.new_zeros(1, heads, 0, width)
        scores, *past = self.step(tokens[:, :FIRST], tokens.new_tensor([0, FIRST - 1]), *[empty] * 2 * layers)
        rest, *_ = self.step(tokens[:, FIRST:], torch.arange(TRIED - FIRST, device=device), *past)
        difference = (torch.cat([scores, rest], dim=1) - whole[:, [0, *range(FIRST - 1, TRIED)]]).abs().max()
        largest = SAME if whole.dtype == torch.float32 else SAME_IN_16_BITS
        if not difference <= largest * whole.abs().max():
            raise Unsupported("it says other things of a text that it reads in parts")
        return shape


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
