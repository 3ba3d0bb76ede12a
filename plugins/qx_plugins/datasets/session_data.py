"""Data of a Python session, which ``qx.run`` was called with: arrays, or a torch Dataset."""

from __future__ import annotations

from typing import Any

import numpy as np

from qx import Context, Data, session_object
from qx_plugins.datasets.splits import Content, load_split


def load_session_data(reference: str, split: str, context: Context) -> Data:
    """Return a split, ``"train"`` or ``"test"``, of the data of a session. Raises ``DataError``.

    Where the session gave all items together, some of them are set aside for calibration.
    """
    return load_split(split, context, reference, lambda: _content(session_object(reference), split))


def _content(parts: Any, split: str) -> Content:
    """Return what a session gave for a split; ``parts`` has ``all`` where it gave no splits."""
    is_split = split in parts
    part = parts[split if is_split else "all"]
    where = f"data[{split!r}]" if is_split else "data"
    return Content(part, where, f"{type(part).__name__} of a Python session", is_split)


def example_arrays(reference: str, batch_size: int) -> tuple[np.ndarray, ...]:
    """Return example inputs ``[batch_size, ...]``: the first items of the session's data, repeated."""
    examples: Any = session_object(reference)
    return tuple(array[np.arange(batch_size) % len(array)] for array in examples.values())
