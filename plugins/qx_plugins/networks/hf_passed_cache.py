"""A cache of transformers whose keys and values come in as tensors, and go out as tensors.

It imports transformers: import it inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch

from qx import Unsupported

#: The module of transformers that has its caches; its types leave open what layers keep.
_caches: Any = import_module("transformers.cache_utils")

#: Layers of a cache that keep keys and values of each token. Those with a sliding window only forget what
#: the mask of the model hides.
KEEPING = (_caches.DynamicLayer, _caches.DynamicSlidingWindowLayer)


class PassedLayer(_caches.DynamicLayer):  # type: ignore[misc]
    """Keys and values of a layer, ``[batch, heads, tokens, head]``, of any number of tokens, also none.

    A layer with a sliding window keeps all tokens, too: what the window hides is left to the mask.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, *, is_sliding: bool) -> None:
        super().__init__()
        self.keys, self.values, self.is_sliding = keys, values, is_sliding
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def get_seq_length(self, *_: Any) -> int:
        """Return the number of tokens, without a branch for an empty cache, which a graph could not have."""
        return self.keys.shape[-2]


def passed_cache(settings: Any, past: Sequence[torch.Tensor]) -> Any:
    """Return a cache of these keys and values of each layer in turn, for a model with these settings."""
    kinds = [
        bool(getattr(layer, "is_sliding", False)) for layer in _caches.DynamicCache(config=settings).layers
    ]
    count = len(past) // 2
    kinds += [False] * (count - len(kinds))
    return _caches.Cache(
        layers=[
            PassedLayer(past[2 * index], past[2 * index + 1], is_sliding=kinds[index])
            for index in range(count)
        ]
    )


def shape_of_cache(cache: Any) -> tuple[int, int, int]:
    """Return the number of layers, of heads in each, and the width of a head, of a cache with tokens in it.

    Raises ``Unsupported`` where a layer keeps something else, or layers keep what differs in shape.
    """
    shapes = set()
    for index, layer in enumerate(cache.layers):
        if type(layer) not in KEEPING:
            raise Unsupported(
                f"layer {index} of its cache is a {type(layer).__name__}, which keeps other things than "
                f"keys and values of each token"
            )
        if not isinstance(layer.keys, torch.Tensor) or not layer.is_initialized:
            raise Unsupported(f"layer {index} has no keys and values of its own")
        shapes |= {tuple(layer.keys.shape), tuple(layer.values.shape)}
    if len(shapes) != 1:
        shown = " and ".join(f"{heads} x {width}" for _, heads, _, width in sorted(shapes)[:2])
        raise Unsupported(f"its keys and values differ in heads x width: {shown or 'none'}")
    ((_, heads, _, width),) = shapes
    return len(cache.layers), heads, width
