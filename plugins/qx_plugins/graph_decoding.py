"""Serve a decoder as a graph that takes a cache and passes it on, in any runtime. It imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qx import Artifact, Unsupported
from qx_plugins.language_outputs import DECODE, LOGITS, PREFILL, outputs_of_scores

if TYPE_CHECKING:
    import numpy as np

    from qx import Arrays


def check_no_cache(artifact: Artifact, what: str) -> None:
    """Raise ``Unsupported`` for a graph with a cache, which only a subject of this kind can serve."""
    if "decoder" in artifact.details:
        raise Unsupported(f"the graph takes a cache of keys and values and gives it back: no {what} for that")


class GraphDecoderSubject(ABC):
    """A graph whose inputs are tokens, the positions with scores, and a cache of keys and values.

    It gives the scores, and the cache with the tokens in it. A call reads a whole text and gives the scores
    at each position; one of the kind ``prefill`` those after the last token; and one of the kind ``decode``
    reads the last token, with those before it in the cache. Tensors stay in the runtime between calls.
    """

    def __init__(self, details: Mapping[str, Any]) -> None:
        self._cache_shape = details["decoder"]["cache_shape"]
        self._context: Sequence[Any] = ()
        self._read_from: object = None

    @abstractmethod
    def value(self, array: np.ndarray) -> Any:
        """Return an array as a tensor of the runtime."""

    @abstractmethod
    def array(self, value: Any) -> np.ndarray:
        """Return a tensor of the runtime as an array, which later calls leave as it is."""

    def empty(self, shape: tuple[int, ...]) -> Any:
        """Return a tensor of the runtime for a cache without tokens, of the type of its numbers."""
        import numpy as np

        return self.value(np.zeros(shape, dtype=np.float32))

    def copy(self, value: Any) -> Any:
        """Return a copy of a tensor of the runtime in memory of its own."""
        return self.value(self.array(value).copy())

    def size(self, value: Any) -> int:
        """Return the bytes of a tensor of the runtime."""
        return self.array(value).nbytes

    @abstractmethod
    def run(self, feeds: Sequence[Any]) -> Sequence[Any]:
        """Run the graph: inputs in, outputs out, in their order."""

    @property
    def kinds(self) -> Mapping[str, Callable[[Any], Any]]:
        """The functions of the further kinds of call."""
        return {PREFILL: self.prefill, DECODE: self.decode}

    @property
    def cache_bytes(self) -> int:
        """Size of what the cache holds when a token is decoded, in bytes."""
        return sum(map(self.size, self._context))

    def prepare(self, arrays: Arrays) -> Mapping[str, Any]:
        """Return the inputs of each kind of call: tensors of the runtime."""
        import numpy as np

        (tokens,) = arrays.values()
        batch_size, length = tokens.shape
        layers, heads, width = self._cache_shape
        empty = [self.empty((batch_size, heads, 0, width))] * (2 * layers)
        whole, first = self.value(tokens), self.value(np.array([0]))
        return {
            "tokens": tokens,
            "call": [whole, self.value(np.arange(length)), *empty],
            PREFILL: [whole, self.value(np.array([length - 1])), *empty],
            "context": [self.value(tokens[:, :-1]), first, *empty],
            DECODE: [self.value(tokens[:, -1:]), first],
        }

    def reset(self, native: Mapping[str, Any], kind: str) -> None:
        """Lay down the context of a token that is decoded: once for all calls of an input."""
        if kind == DECODE and self._read_from is not native:
            # Copies, since a runtime may use the memory of its outputs again.
            self._context = [self.copy(value) for value in self.run(native["context"])[1:]]
            self._read_from = native

    def continue_from(self, outputs: Sequence[Any], native: Mapping[str, Any]) -> None:
        """Take the cache that a call gave as the context of the token that ends an input.

        ``outputs`` are those of a call that read all tokens of the input but the last.
        """
        self._context = [self.copy(value) for value in outputs[1:]]
        self._read_from = native

    def call(self, native: Mapping[str, Any]) -> Any:
        """Read a text, and return its tokens with the scores after each."""
        return native["tokens"], self.run(native["call"])[0]

    def prefill(self, native: Mapping[str, Any]) -> Any:
        """Read a prompt."""
        return self.run(native[PREFILL])

    def decode(self, native: Mapping[str, Any]) -> Any:
        """Read one token."""
        return self.run([*native[DECODE], *self._context])

    def outputs(self, native: Any) -> Arrays:
        """Return the outputs of a text, or the scores of the token after a prompt as the only one."""
        if isinstance(native, tuple):
            tokens, scores = native
            return outputs_of_scores(tokens, self.array(scores))
        return {LOGITS: self.array(native[0])[:, -1].copy()}
