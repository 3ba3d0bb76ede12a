"""Named arrays, as plugins of several kinds use them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from qx import Arrays


def first_output(outputs: Arrays) -> np.ndarray:
    """Return the first output of a model, ``[n, ...]``: the only one, or that of its main task."""
    return next(iter(outputs.values()))
