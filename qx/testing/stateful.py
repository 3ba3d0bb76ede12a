"""Toy subjects whose calls change a state, as those of a model with a cache do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qx.contract.records import OUTPUT, Arrays
from qx.values import Array

#: Number of inputs that the cache holds when a call of the kind ``decode`` begins.
PROMPT = 3


class Growing:
    """Serves a function of an array with a cache that only grows: no two calls are the same.

    Each call works through all inputs so far, and adds their number before this one to its outputs.
    """

    def __init__(self, function: Callable[[Array], Array]) -> None:
        self.function = function
        self.cache: list[Array] = []

    def prepare(self, arrays: Arrays) -> Array:
        """Return the first input."""
        return next(iter(arrays.values()))

    def call(self, native: Array) -> Array:
        """Add the input to the cache, and return what all of it gives."""
        self.cache.append(native)
        return [self.function(entry) for entry in self.cache][-1] + (len(self.cache) - 1)

    def outputs(self, native: Array) -> Arrays:
        """Return the only output."""
        return {OUTPUT: native}


class Stateful(Growing):
    """The same with a reset: calls begin with an empty cache, and those of ``decode`` with a prompt in it."""

    @property
    def kinds(self) -> Mapping[str, Callable[[Array], Array]]:
        """The function of each further kind of call."""
        return {"decode": self.call}

    def reset(self, native: Array, kind: str) -> None:
        """Put the cache into the state that a call of a kind begins from."""
        self.cache = [native] * (PROMPT if kind == "decode" else 0)
