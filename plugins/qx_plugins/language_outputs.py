"""What language models give, and what it is compared with: names, positions, and scores of texts.

It imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from qx import Arrays

#: Outputs: scores of all tokens at some positions, ``[items, positions, vocabulary]``, and the natural
#: logarithm of the probability of the token after each, ``[items, length]``.
LOGITS, LOG_LIKELIHOODS = "logits", "log_likelihoods"
#: The first position at which scores are kept, and the distance to the next.
KEPT_FROM, KEPT_EVERY = 7, 16
#: Inputs of a graph with a cache, before those of the cache: tokens, and the positions at which scores are
#: wanted.
TOKENS, KEPT = "tokens", "kept"
#: Targets: whether the token after each counts, ``[items, length]``, and how many bytes those that count
#: have together, ``[items]``.
COUNTED, BYTES = "counted", "bytes"
#: The kinds of call of a decoder with a cache.
PREFILL, DECODE = "prefill", "decode"
#: The task of a language model.
TASK = "language_modelling"


def outputs_of_scores(tokens: np.ndarray, scores: np.ndarray) -> Arrays:
    """Return what a ``Scorer`` gives, from tokens ``[batch, length]`` and all scores after each of them.

    ``scores`` are ``[batch, length, vocabulary]``.
    """
    import numpy as np

    following = np.roll(tokens, -1, axis=1)
    likelihoods = np.empty(tokens.shape, dtype=np.float32)
    # Item by item, so that no copy of all scores is made.
    for item, own in enumerate(scores):
        largest = own.max(axis=-1)
        sums = np.exp(own - largest[:, None]).sum(axis=-1)
        chosen = own[np.arange(len(own)), following[item]]
        likelihoods[item] = chosen - largest - np.log(sums)
    kept = np.ascontiguousarray(scores[:, KEPT_FROM::KEPT_EVERY], dtype=np.float32)
    return {LOGITS: kept, LOG_LIKELIHOODS: likelihoods}
