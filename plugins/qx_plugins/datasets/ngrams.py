"""Perplexity of models that count which tokens follow each other: what a network has to be better than."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def perplexity(
    stream: Sequence[int], documents: Sequence[Sequence[int]], *, vocabulary: int, order: int
) -> float:
    """Return the perplexity of documents by counts of up to ``order`` tokens in a row.

    Each order is interpolated with the one below it by the number of different tokens that follow a context
    (Witten & Bell, 1991), and the lowest with equal probabilities for all. ``stream`` has the tokens to
    count; the first token of a document counts for the context alone.
    """
    counted, codes = (
        np.asarray(stream, dtype=np.int64),
        [np.asarray(part, dtype=np.int64) for part in documents],
    )
    predicted = np.concatenate([part[1:] for part in codes])
    probabilities = np.full(len(predicted), 1 / vocabulary)
    for length in range(order):
        contexts, tokens = _pairs(counted, length, vocabulary)
        own = [_pairs(_padded(part, length), length, vocabulary)[0] for part in codes]
        has_context = np.concatenate([np.arange(1, len(part)) >= length for part in codes])
        probabilities = np.where(
            has_context,
            _interpolated(contexts, tokens, np.concatenate(own), predicted, probabilities, vocabulary),
            probabilities,
        )
    return float(np.exp(-np.log(probabilities).mean()))


def _padded(document: np.ndarray, length: int) -> np.ndarray:
    """Return a document of whose pairs there is one for each token but the first, whatever the context."""
    if length == 0:
        return document[1:]
    return np.concatenate([np.zeros(length - 1, dtype=np.int64), document])


def _pairs(tokens: np.ndarray, length: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the context of ``length`` tokens before each token, and the token."""
    count = len(tokens) - length
    contexts = np.zeros(count, dtype=np.int64)
    for place in range(length):
        contexts = contexts * vocabulary + tokens[place : place + count]
    return contexts, tokens[length:]


def _interpolated(
    contexts: np.ndarray,
    tokens: np.ndarray,
    own_contexts: np.ndarray,
    own_tokens: np.ndarray,
    lower: np.ndarray,
    vocabulary: int,
) -> np.ndarray:
    pairs, counts = np.unique(contexts * vocabulary + tokens, return_counts=True)
    names, starts, kinds = np.unique(pairs // vocabulary, return_index=True, return_counts=True)
    totals = np.add.reduceat(counts, starts)
    seen = _look_up(pairs, counts, own_contexts * vocabulary + own_tokens)
    followed, different = (_look_up(names, values, own_contexts) for values in (totals, kinds))
    below = np.maximum(followed + different, 1)
    return np.where(followed > 0, (seen + different * lower) / below, lower)


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the values of keys, which are sorted; 0 for those that are not there."""
    places = np.searchsorted(keys, wanted).clip(0, len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
