"""Sentences of made-up languages: Markov chains over syllables, drawn with whole numbers only.

numpy guarantees that the numbers of ``RandomState`` never change, and all arithmetic is on integers: the
sentences are the same on every machine.
"""

from __future__ import annotations

import numpy as np


def draw_transitions(
    random: np.random.RandomState, *, languages: int, syllables: int, favoured: int, favoured_after: int
) -> np.ndarray:
    """Return counts of pairs of syllables, int64 ``[languages, syllables, syllables]``: first, then next.

    ``favoured`` and ``favoured_after`` are the largest factors between two languages: of the frequency of a
    syllable, and of its frequency after a certain other syllable.
    """
    common = 1000 // np.arange(4, syllables + 4)
    overall = random.randint(1, favoured + 1, (languages, 1, syllables))
    return common * overall * random.randint(1, favoured_after + 1, (languages, syllables, syllables))


def draw_sentences(
    random: np.random.RandomState, transitions: np.ndarray, languages: np.ndarray, length: int
) -> np.ndarray:
    """Return a sentence int64 ``[n, length]``, syllables from 0 on, of each of ``languages``, int ``[n]``.

    The first syllable is any with the same probability, each other one follows from the one before it by the
    counts ``transitions``.
    """
    bounds = transitions.cumsum(axis=-1)
    count, syllables = len(languages), transitions.shape[-1]
    sentences = np.empty((count, length), dtype=np.int64)
    sentences[:, 0] = random.randint(syllables, size=count)
    for position in range(1, length):
        rows = bounds[languages, sentences[:, position - 1]]
        drawn = random.randint(2**31 - 1, size=count) % rows[:, -1]
        sentences[:, position] = (rows <= drawn[:, np.newaxis]).sum(axis=1)
    return sentences


def log_likelihoods(transitions: np.ndarray, sentences: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the logarithm of the probability of each sentence in each language, ``[languages, n]``.

    ``lengths`` ``[n]`` says how many syllables of ``sentences`` ``[n, length]`` count. The first syllable is
    left out, which is equally probable in all languages.
    """
    logarithms = np.log(transitions / transitions.sum(axis=-1, keepdims=True))
    steps = logarithms[:, sentences[:, :-1], sentences[:, 1:]]
    counts = np.arange(1, sentences.shape[1]) < lengths[:, np.newaxis]
    totals: np.ndarray = (steps * counts).sum(axis=-1)
    return totals
