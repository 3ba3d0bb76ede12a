"""Outputs that are distributions over classes: as probabilities, or as scores of which softmax makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

#: How far a sum of probabilities may be from 1: those of 8 bits, or of half precision, do not add up exactly.
SUM_TOLERANCE = 0.02


def are_probabilities(values: np.ndarray) -> bool:
    """Return whether all rows ``[..., k]`` are probabilities: not negative, with the sum of 1."""
    return bool((values >= 0).all() and (abs(values.sum(axis=-1, dtype=float) - 1) <= SUM_TOLERANCE).all())


def probabilities(values: np.ndarray) -> np.ndarray:
    """Return probabilities of classes ``[..., k]``: these values themselves, or the softmax of scores."""
    import numpy as np
    from scipy.special import softmax

    result = values.astype(float)
    return np.asarray(result if are_probabilities(values) else softmax(result, axis=-1))


def log_probabilities(values: np.ndarray, are_probabilities: bool, dtype: np.dtype) -> np.ndarray:
    """Return the natural logs of probabilities ``[..., k]``, or of the softmax of scores.

    That of a probability of 0 is the log of the smallest number of ``dtype``, so that all are finite.
    """
    import numpy as np
    from scipy.special import log_softmax

    result = values.astype(float)
    if not are_probabilities:
        return np.asarray(log_softmax(result, axis=-1))
    return np.asarray(np.log(np.maximum(result, smallest(dtype))))


def smallest(dtype: np.dtype) -> float:
    """Return the smallest normal number of a type; of whole numbers that of single precision."""
    import numpy as np

    return float(np.finfo(dtype if dtype.kind == "f" else np.float32).tiny)
