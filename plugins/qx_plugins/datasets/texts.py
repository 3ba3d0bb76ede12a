"""Documents as windows of tokens, each with what counts of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from qx import LABELS, UNITS, DataError
from qx_plugins.language_outputs import BYTES, COUNTED, KEPT_EVERY, KEPT_FROM


def windows(count: int, size: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Yield the windows of a document of ``count`` tokens: where they begin and end, and what counts.

    Windows have up to ``size`` tokens, and each begins ``stride`` after the one before. The third number is
    the first token that counts in the window: those before it have counted in an earlier one. So each token
    counts once, with at least ``size - stride`` tokens before it from the second window on. This is the
    evaluation in strides of the documentation of transformers ('Perplexity of fixed-length models').
    """
    counted = 1
    for start in range(0, max(1, count - size + stride), stride):
        end = min(start + size, count)
        yield start, end, counted
        counted = end
        if end == count:
            return


def window_arrays(
    documents: Sequence[Sequence[int]],
    *,
    size: int,
    stride: int,
    token_bytes: np.ndarray | None = None,
    padding: int = 0,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the windows of documents, int64 ``[windows, size]``, and their targets by name.

    A document's first token is the one that begins a document, and does not count itself. ``token_bytes``
    ``[vocabulary]`` has the number of bytes of each token. Raises ``DataError`` without any window that has a
    token to predict.
    """
    if not 1 <= stride <= size:
        raise DataError(f"a stride of {stride} tokens with windows of {size}; expected 1 to {size}")
    places = [
        (number, *window)
        for number, document in enumerate(documents)
        for window in windows(len(document), size, stride)
        if window[1] > window[2]
    ]
    if not places:
        longest = max(map(len, documents), default=0)
        raise DataError(f"the text is too short for a window: {longest} tokens; expected 2 or more")
    tokens = np.full((len(places), size), padding, dtype=np.int64)
    counted = np.zeros((len(places), size), dtype=bool)
    for row, (number, start, end, first) in enumerate(places):
        tokens[row, : end - start] = documents[number][start:end]
        # The token after position i is the one at i + 1.
        counted[row, first - start - 1 : end - start - 1] = True
    following = np.roll(tokens, -1, axis=1)
    kept = slice(KEPT_FROM, None, KEPT_EVERY)
    targets = {
        LABELS: np.where(counted, following, -1)[:, kept],
        COUNTED: counted.astype(np.uint8),
        UNITS: np.array([number for number, *_ in places], dtype=np.int64),
    }
    if token_bytes is not None:
        targets[BYTES] = np.where(counted, token_bytes[following], 0).sum(axis=1)
    return tokens, targets
