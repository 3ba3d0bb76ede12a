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

#: Numbers of the types that a cache may have, in llama.cpp, and their bytes.
CACHE_TYPES = {"float32": (0, 4), "float16": (1, 2)}


class Tokens:
    """Tokens of several texts as llama.cpp takes them, with what is wanted after each.

    ``scored`` says after which tokens of a text scores are wanted.
    """

    def __init__(self, tokens: np.ndarray, first: int, scored: str) -> None:
        """``tokens`` are ``[texts, length]``; ``first`` is the position of the first of each text."""
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
                self.native.logits[place] = scored == "all" or place in self.last[text : text + 1]


class LlamaCppSubject:
    """A model of llama.cpp, with a context for each number of texts that are read together."""

    def __init__(self, path: Path, threads: int, details: Mapping[str, Any]) -> None:
        import llama_cpp

        from qx_plugins.runtimes.llama_cpp import logs

        logs.silence()
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        self._library, self._threads = llama_cpp, threads
        self._details = details
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot read {path.name}: {logs.last_line()}")
        #: Contexts by the number of texts.
        self._contexts: dict[int, Any] = {}
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
        """Return the inputs of each kind of call, and make a context for so many texts."""
        (tokens,) = arrays.values()
        texts, length = tokens.shape
        for count in {1, texts}:
            self._context(count)
        return {
            "tokens": tokens,
            "call": [Tokens(text[None], 0, "all") for text in tokens],
            PREFILL: Tokens(tokens, 0, "last"),
            "context": Tokens(tokens[:, :-1], 0, "last"),
            DECODE: Tokens(tokens[:, -1:], length - 1, "last"),
        }

    def reset(self, native: Mapping[str, Any], kind: str) -> None:
        """Empty the cache; before a token is decoded, have it hold the tokens before that one."""
        texts, length = native["tokens"].shape
        context = self._context(texts)
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

        context, texts = self._context(1), native["tokens"]
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

        context, tokens = self._context(len(native["tokens"])), native[kind]
        self._decode(context, tokens)
        values = (self._library.llama_get_logits_ith(context, place) for place in tokens.last)
        return [np.ctypeslib.as_array(one, (self._details["vocabulary"],)).copy() for one in values]

    def _context(self, texts: int) -> Any:
        """Return the context for so many texts, each as long as the model has positions."""
        if texts not in self._contexts:
            parameters = self._library.llama_context_default_params()
            size = texts * self._details["positions"]
            parameters.n_ctx = parameters.n_batch = size
            parameters.n_seq_max = texts
            parameters.n_threads = parameters.n_threads_batch = self._threads
            kind, _ = CACHE_TYPES[self._details["decoder"]["cache_type"]]
            parameters.type_k = parameters.type_v = kind
            is_flash = self._details["flash_attention"]
            names = ("LLAMA_FLASH_ATTN_TYPE_DISABLED", "LLAMA_FLASH_ATTN_TYPE_ENABLED")
            parameters.flash_attn_type = getattr(self._library, names[is_flash])
            context = self._library.llama_init_from_model(self._model, parameters)
            if not context:
                raise RuntimeError(f"llama.cpp cannot make a context for {texts} texts of {size} tokens")
            self._contexts[texts] = context
        return self._contexts[texts]

    def _clear(self, context: Any) -> None:
        self._read_from = None
        self._library.llama_memory_clear(self._library.llama_get_memory(context), False)

    def _decode(self, context: Any, tokens: Tokens) -> None:
        code = self._library.llama_decode(context, tokens.native)
        if code != 0:
            raise RuntimeError(f"llama.cpp failed with code {code}")
