"""Serve a decoder with llama.cpp, whose cache of keys and values stays inside; torch is not imported."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx_plugins.language_outputs import DECODE, LOGITS, PREFILL, outputs_of_scores

if TYPE_CHECKING:
    import numpy as np

    from qx import Arrays

#: The kind of call that all subjects have.
CALL = "call"
#: llama.cpp makes the part of a context that a text has a multiple of so many tokens.
CONTEXT_STEP = 256
#: Numbers of the types that a cache may have, in llama.cpp, and their bytes.
CACHE_TYPES = {"float32": (0, 4), "float16": (1, 2)}


class Tokens:
    """Tokens of several texts as llama.cpp takes them, with the places after which scores are wanted."""

    def __init__(self, tokens: np.ndarray, first: int = 0, *, are_all_scored: bool = False) -> None:
        """``tokens`` are ``[texts, length]``; ``first`` is the position of the first of each text.

        Scores are wanted after the last token of each text, or after all.
        """
        import llama_cpp

        texts, length = tokens.shape
        self.native = llama_cpp.llama_batch_init(texts * length, 0, 1)
        weakref.finalize(self, llama_cpp.llama_batch_free, self.native)
        self.native.n_tokens = texts * length
        #: Places of the last token of each text.
        self.last = [text * length + length - 1 for text in range(texts)]
        for text in range(texts):
            for number in range(length):
                place = text * length + number
                self.native.token[place] = int(tokens[text, number])
                self.native.pos[place] = first + number
                self.native.n_seq_id[place] = 1
                self.native.seq_id[place][0] = text
                self.native.logits[place] = are_all_scored or number == length - 1


class LlamaCppSubject:
    """A model of llama.cpp, with a context for each number of texts that are read together."""

    def __init__(self, path: Path, threads: int, details: Mapping[str, Any]) -> None:
        import llama_cpp

        from qx_plugins.runtimes.llama_cpp import logs

        logs.silence()
        logs.forget()
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        self._library, self._logs, self._threads = llama_cpp, logs, threads
        self._details = details
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot read {path.name}: {logs.reason()}")
        #: Contexts with their lengths, by the number of texts.
        self._contexts: dict[int, tuple[Any, int]] = {}
        #: What the context holds that was laid down for single tokens: the inputs, or None.
        self._read_from: object = None
        self._held = 0

    @property
    def kinds(self) -> Mapping[str, Callable[[Any], Any]]:
        """The functions of the further kinds of call."""
        return {PREFILL: self.prefill, DECODE: self.decode}

    @property
    def cache_bytes(self) -> int:
        """Size of what the cache holds when a token is decoded, in bytes."""
        layers, heads, width = self._details["decoder"]["cache_shape"]
        _, size = CACHE_TYPES[self._details["decoder"]["cache_type"]]
        return int(2 * layers * heads * width * size * self._held)

    def prepare(self, arrays: Arrays) -> Mapping[str, Any]:
        """Return the inputs of each kind of call. Texts of a ``call`` are read one after another."""
        (tokens,) = arrays.values()
        length = tokens.shape[1]
        return {
            "tokens": tokens,
            "call": [Tokens(text[None], are_all_scored=True) for text in tokens],
            PREFILL: Tokens(tokens),
            "context": Tokens(tokens[:, :-1]),
            DECODE: Tokens(tokens[:, -1:], length - 1),
        }

    def reset(self, native: Mapping[str, Any], kind: str) -> None:
        """Empty the cache; before a token is decoded, have it hold the tokens before that one."""
        texts, length = native["tokens"].shape
        if kind == CALL:
            return
        context = self._context(texts, length)
        memory = self._library.llama_get_memory(context)
        if kind != DECODE:
            self._clear(context)
        elif self._read_from is not native:
            self._clear(context)
            self._decode(context, native["context"])
            self._read_from, self._held = native, texts * (length - 1)
        else:
            for text in range(texts):
                self._library.llama_memory_seq_rm(memory, text, length - 1, -1)

    def call(self, native: Mapping[str, Any]) -> Any:
        """Read each text, and return the tokens with the scores after each, until the next call."""
        import numpy as np

        texts = native["tokens"]
        context = self._context(1, texts.shape[1])
        scores = []
        for tokens in native["call"]:
            self._clear(context)
            self._decode(context, tokens)
            values = self._library.llama_get_logits(context)
            one = np.ctypeslib.as_array(values, (texts.shape[1], self._details["vocabulary"]))
            scores.append(one if len(texts) == 1 else one.copy())
        return texts, scores

    def prefill(self, native: Mapping[str, Any]) -> list[np.ndarray]:
        """Read prompts, and return the scores of the token after each."""
        self._read_from = None
        return self._scores_of(native, PREFILL)

    def decode(self, native: Mapping[str, Any]) -> list[np.ndarray]:
        """Read one token of each text, and return the scores of the token after it."""
        return self._scores_of(native, DECODE)

    def outputs(self, native: Any) -> Arrays:
        """Return the outputs of texts, or the scores of the token after each prompt as the only one."""
        import numpy as np

        if isinstance(native, tuple):
            tokens, scores = native
            return outputs_of_scores(tokens, np.stack(scores))
        return {LOGITS: np.stack(native)}

    def _scores_of(self, native: Mapping[str, Any], kind: str) -> list[np.ndarray]:
        import numpy as np

        context, tokens = self._context(*native["tokens"].shape), native[kind]
        self._decode(context, tokens)
        values = (self._library.llama_get_logits_ith(context, place) for place in tokens.last)
        return [np.ctypeslib.as_array(one, (self._details["vocabulary"],)).copy() for one in values]

    def _context(self, texts: int, length: int) -> Any:
        """Return a context for so many texts of this length, or longer ones that were read before."""
        context, longest = self._contexts.get(texts, (None, 0))
        if length > longest:
            if context is not None:
                self._library.llama_free(context)
                self._read_from = None
            self._contexts[texts] = self._make_context(texts, length), length
        return self._contexts[texts][0]

    def _make_context(self, texts: int, length: int) -> Any:
        most = self._library.llama_max_parallel_sequences()
        if texts > most:
            raise RuntimeError(f"llama.cpp reads at most {most} texts at once, not {texts}")
        parameters = self._library.llama_context_default_params()
        # It divides the context among the texts, in multiples of this size.
        parameters.n_ctx = texts * -(-length // CONTEXT_STEP) * CONTEXT_STEP
        parameters.n_batch = texts * length
        parameters.n_seq_max = texts
        parameters.n_threads = parameters.n_threads_batch = self._threads
        kind, _ = CACHE_TYPES[self._details["decoder"]["cache_type"]]
        parameters.type_k = parameters.type_v = kind
        names = ("LLAMA_FLASH_ATTN_TYPE_DISABLED", "LLAMA_FLASH_ATTN_TYPE_ENABLED")
        parameters.flash_attn_type = getattr(self._library, names[self._details["flash_attention"]])
        self._logs.forget()
        context = self._library.llama_init_from_model(self._model, parameters)
        if not context:
            raise RuntimeError(
                f"llama.cpp cannot make a context for {texts} texts of {length} tokens: {self._logs.reason()}"
            )
        return context

    def _clear(self, context: Any) -> None:
        self._read_from = None
        self._library.llama_memory_clear(self._library.llama_get_memory(context), False)

    def _decode(self, context: Any, tokens: Tokens) -> None:
        code = self._library.llama_decode(context, tokens.native)
        if code != 0:
            raise RuntimeError(f"llama.cpp failed with code {code}: {self._logs.reason()}")
