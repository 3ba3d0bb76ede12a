"""The splits of a user's data: those that they name, else a share of the items is set aside to calibrate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from attrs import evolve, frozen

from qx import LABELS, Context, Data, draw_items
from qx_plugins.datasets.user_data import is_dataset, labels_of, read_dataset, read_first, to_data, whole_data

#: Least number of items that are set aside for calibration, where there are twice as many: what configs take.
CALIBRATION_ITEMS = 256
#: Share of the items that is set aside for calibration, where that is more.
CALIBRATION_SHARE = 0.2
#: Most items that are read one by one where the user asks for no number: it ends what never ends.
MOST_ITEMS = 10_000
#: Items to draw calibration items from: at least so many, and at least so many times those that are drawn.
LEAST_POOL, POOL_RATIO = 1024, 4


@frozen
class Content:
    """What a file or a function has, before it is read: one split, or all items together."""

    #: Any value that ``to_data`` takes.
    value: Any
    #: Where it comes from, in messages and in results.
    where: str
    source: str
    #: Whether it is the split that was asked for, and nothing else.
    is_split: bool


def load_split(split: str, context: Context, key: str, open_content: Callable[[], Content]) -> Data:
    """Return a split of what ``open_content`` gives, which is called no more often than is needed.

    Where all items come together, some are set aside for calibration, unless ``--calibration-data`` names
    others. ``key`` names the content within the process. Raises ``DataError``.
    """
    if key in _divided and context.calibration_data is None:
        return _divided[key][split]
    content = open_content()
    if content.is_split or context.calibration_data is not None:
        return read_content(content, split, context)
    _divided[key] = divide(content.value, content.where, content.source, context)
    return _divided[key][split]


#: Splits of items that come together, by the key of their content.
_divided: dict[str, dict[str, Data]] = {}


def read_content(content: Content, split: str, context: Context) -> Data:
    """Return all items of a content as one split, at most as many as the run can use."""
    return to_data(
        content.value,
        where=content.where,
        source=content.source,
        limit=limit_of(split, context),
        progress=context.progress,
    )


def limit_of(split: str, context: Context) -> int:
    """Return the largest number of items that are read one by one; 0 for all."""
    if context.eval_n == 0:
        return 0
    if split == "test":
        return context.eval_n or MOST_ITEMS
    if context.eval_n is None or context.calibration_n is None:
        return MOST_ITEMS
    return max(LEAST_POOL, POOL_RATIO * context.calibration_n)


def divide(value: Any, where: str, source: str, context: Context) -> dict[str, Data]:
    """Divide items into those that calibrate (``train``) and those to evaluate (``test``): none is both.

    The share for calibration is set aside before evaluation items are drawn. Of a Dataset only the items that
    are used are read.
    """
    if (data := whole_data(value, where, source)) is not None:
        return set_aside(data)
    if is_dataset(value):
        labels, total = labels_of(value), len(value)
        if labels is None and not context.eval_n and total <= MOST_ITEMS:
            # All items are read anyway, and then their labels are known.
            return set_aside(read_content(Content(value, where, source, False), "test", context))
        calibration, rest = indices_aside(labels, total)
        parts = {}
        for split, indices in (("train", calibration), ("test", rest)):
            limit = limit_of(split, context) or len(indices)
            chosen = draw_items(None if labels is None else labels[indices], len(indices), limit)
            parts[split] = read_dataset(
                value,
                indices[chosen],
                where=where,
                source=_noted(source, len(calibration), total),
                progress=context.progress,
                total=len(indices),
            )
        return parts
    limit = limit_of("test", context)
    share = 0
    if context.eval_n:
        share = max(CALIBRATION_ITEMS, context.calibration_n or 0, round(CALIBRATION_SHARE * limit))
    data = read_first(value, limit + share, where=where, source=source, progress=context.progress)
    is_cut_off = share > 0 and _length(data) == limit + share
    return set_aside(data, share if is_cut_off else None)


def aside_count(total: int) -> int:
    """Return how many of all items are set aside: a fifth, 256 where that is more, at most half."""
    return min(total // 2, max(round(CALIBRATION_SHARE * total), CALIBRATION_ITEMS))


def indices_aside(
    labels: np.ndarray | None, total: int, count: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the items that are set aside, and of all others, each in order.

    Each class keeps its share of the items in both, where there are classes.
    """
    count = aside_count(total) if count is None else min(count, total // 2)
    calibration = draw_items(labels, total, count)
    return calibration, np.delete(np.arange(total), calibration)


def set_aside(data: Data, count: int | None = None) -> dict[str, Data]:
    """Divide data into the items that calibrate (``train``) and those to evaluate (``test``)."""
    total = _length(data)
    labels = data.targets.get(LABELS)
    calibration, rest = indices_aside(None if labels is None else np.asarray(labels), total, count)
    source = _noted(data.source, len(calibration), total)
    return {
        split: evolve(
            data,
            inputs={name: array[indices] for name, array in data.inputs.items()},
            targets={name: array[indices] for name, array in data.targets.items()},
            source=source,
            total=None,
        )
        for split, indices in (("train", calibration), ("test", rest))
    }


def _length(data: Data) -> int:
    return len(next(iter(data.inputs.values())))


def _noted(source: str, count: int, total: int) -> str:
    return f"{source}, {count:,} of {total:,} items set aside for calibration"
