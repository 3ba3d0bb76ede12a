"""Metrics of a whole set that combine statistics of its items: influences and draws in a few calls.

``combine`` is a function of the mean of the items' statistics, so its value without an item, or with items
drawn anew, needs no second look at the outputs. ``qx.analysis.whole_set`` computes intervals from these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from attrs import frozen
from numpy.typing import ArrayLike, NDArray

from qx.analysis.whole_set import drawn_items, group_of_items
from qx.contract.records import LARGEST
from qx.errors import QxError
from qx.foreign import one_line
from qx.processes.answers import Resampling
from qx.statistics.student_t import Floats
from qx.values import Array
from qx.worker.plugins import BoundPlugin

#: Largest number of groups of items that are left out in turn, and number of draws.
MOST_GROUPS, DRAWS = 1 << 16, 512
#: Numbers that are computed at a time, so that memory stays at some tens of MiB.
AT_ONCE = 1 << 22
#: Largest number of statistics of all items.
MOST_STATISTICS = 1 << 30
#: Largest relative difference of two ways to compute one value.
ROUNDING = 1e-6


@frozen(eq=False)
class Combination:
    """A metric with the hook ``combine``, and the statistics of the items of one cell, ``[items, k]``."""

    plugin: BoundPlugin
    rows: Array

    @classmethod
    def of(cls, plugin: BoundPlugin, values: ArrayLike) -> Combination:
        """Check the statistics that ``measure`` gave. Raises ``QxError``."""
        rows = np.asarray(values)
        name = plugin.name
        if rows.dtype.kind not in "biuf" or rows.ndim != 2 or not rows.size:
            raise QxError(
                f"{name}: measure gave an array of {rows.dtype} of shape {list(rows.shape)}; expected "
                f"statistics of items, numbers [n, k]"
            )
        if rows.size > MOST_STATISTICS:
            raise QxError(f"{name}: measure gave {rows.size:,} statistics; the limit is {MOST_STATISTICS:,}")
        for start, part in _parts(rows):
            is_usable = (np.abs(part.astype(float)) < LARGEST).all(axis=1)
            if not is_usable.all():
                item = start + int(np.flatnonzero(~is_usable)[0])
                raise QxError(f"{name}: measure gave statistics of item {item} that are not finite")
        return cls(plugin, rows)

    @property
    def count(self) -> int:
        """Number of items."""
        return len(self.rows)

    def of_means(self, means: Floats) -> Floats:
        """Return the values of sets with these means of statistics: ``[..., k]`` gives ``[...]``."""
        name = self.plugin.name
        # The arrays are the plugin's to change.
        result = self.plugin.call("combine", statistics=means.copy())
        try:
            values = np.asarray(result, dtype=float)
        except (TypeError, ValueError) as error:
            raise QxError(f"{name}: combine gave {result!r:.80}: {one_line(error)}") from error
        if values.shape != means.shape[:-1]:
            raise QxError(
                f"{name}: combine gave shape {list(values.shape)} for statistics {list(means.shape)}; "
                f"expected {list(means.shape[:-1])}: it works over the last axis"
            )
        if (np.isinf(values) | (np.abs(values) >= LARGEST)).any():
            raise QxError(f"{name}: combine gave values that are not finite")
        return values

    def over(self, members: NDArray[np.intp] | slice) -> float:
        """Return the value of these items; NaN where they have none."""
        rows = self.rows[members]
        return float(self.of_means(_sums(rows)[None] / len(rows))[0])

    def check(self) -> None:
        """Raise ``QxError`` where a set's value depends on the sets that are combined beside it."""
        half = self.rows[: max(1, self.count // 2)]
        means = np.stack([_sums(rows) / len(rows) for rows in (self.rows, half)])
        together, alone = self.of_means(means), [float(self.of_means(mean)) for mean in means]
        if not np.allclose(together, alone, rtol=ROUNDING, atol=ROUNDING**2, equal_nan=True):
            raise QxError(
                f"{self.plugin.name}: combine gave {together.tolist()} for two sets together, and {alone} "
                f"for each by itself: it must work over the last axis alone"
            )

    def without_groups(self, members: NDArray[np.intp]) -> Floats:
        """Return the value without each group of the items, ``[groups]``; up to a limit each is one item."""
        rows = self.rows[members]
        size = len(rows)
        groups = min(size, MOST_GROUPS)
        indices = group_of_items(size, groups)
        total = _sums(rows)
        order = np.argsort(indices, kind="stable")
        starts = np.searchsorted(indices[order], np.arange(groups))
        counts = np.diff([*starts, size]).astype(float)
        without = np.empty(groups)
        step = max(1, AT_ONCE // rows.shape[1])
        for start in range(0, groups, step):
            part = slice(start, start + step)
            last = starts[start + step] if start + step < groups else size
            sums = np.add.reduceat(
                rows[order[starts[start] : last]].astype(float), starts[part] - starts[start], axis=0
            )
            without[part] = self.of_means((total - sums) / (size - counts[part])[:, None])
        return without

    def drawn(self, members: NDArray[np.intp], draws: int) -> Floats:
        """Return the values of as many items drawn from these with replacement, ``[draws]``."""
        rows, size = self.rows[members], len(members)
        means = np.zeros((draws, rows.shape[1]))
        step = max(1, AT_ONCE // size)
        for start in range(0, draws, step):
            chosen = range(start, min(start + step, draws))
            counts = [np.bincount(drawn_items(size, draw), minlength=size) for draw in chosen]
            weights = np.asarray(counts, dtype=float)
            for first, part in _parts(rows):
                means[start : chosen.stop] += weights[:, first : first + len(part)] @ part.astype(float)
        return self.of_means(means / size)

    def largest_step(self, members: NDArray[np.intp], value: float, changed: Array | None) -> float | None:
        """Return how far one item that changes its answer moves the value; None where that is not known.

        ``changed`` are the statistics of all items after each has changed its answer, ``[items, k]``.
        """
        if changed is None:
            return None
        size = len(members)
        total, largest = _sums(self.rows[members]), math.nan
        step = max(1, AT_ONCE // self.rows.shape[1])
        for start in range(0, size, step):
            part = members[start : start + step]
            moved = total + changed[part].astype(float) - self.rows[part].astype(float)
            largest = np.fmax(largest, np.fmax.reduce(np.abs(self.of_means(moved / size) - value)))
        return None if math.isnan(largest) else float(largest)


def _sums(rows: Array) -> Floats:
    """Return the sums over items, ``[k]``: exact for whole numbers, so a class without items stays at 0."""
    return np.asarray(rows.sum(axis=0, dtype=float))


def _parts(rows: Array) -> Iterator[tuple[int, Array]]:
    """Yield a large array in parts, each with the position of its first row."""
    step = max(1, AT_ONCE // rows.shape[1])
    return ((start, rows[start : start + step]) for start in range(0, len(rows), step))


def resampled_sets(
    combination: Combination, changed: Array | None, groups: Sequence[int] | Array | None, count: int
) -> list[Resampling]:
    """Return the resamples of all items, then of each of ``count`` groups; empty if there is no value.

    ``changed`` is as for ``Combination.largest_step``, and ``groups`` the index of each item's group,
    ``[items]``, or None. A group is not drawn with replacement.
    """
    combination.check()
    everything = np.arange(combination.count)
    value = combination.over(everything)
    if math.isnan(value):
        return []
    resampled = [_resampled(combination, everything, value, changed, DRAWS)]
    for group in range(count if groups is not None else 0):
        members = np.flatnonzero(np.asarray(groups) == group)
        own = combination.over(members) if len(members) else math.nan
        resampled.append(_resampled(combination, members, own, changed, 0))
    return resampled


def _resampled(
    combination: Combination, members: NDArray[np.intp], value: float, changed: Array | None, draws: int
) -> Resampling:
    """Resample the value of these items."""
    size = len(members)
    if math.isnan(value):
        return Resampling(value=0.0, items=size, reason="it has no value for these items")
    if size < 2:
        return Resampling(value=value, items=size)
    without = combination.without_groups(members)
    if lacking := int(np.isnan(without).sum()):
        reason = f"it has no value without some of its items ({lacking} of {len(without)} groups)"
        return Resampling(value=value, items=size, reason=reason)
    drawn = combination.drawn(members, draws) if draws else np.empty(0)
    return Resampling(
        value=value,
        items=size,
        influence=((len(without) - 1) * (value - without)).tolist(),
        draws=[None if math.isnan(draw) else draw for draw in drawn.tolist()],
        step=combination.largest_step(members, value, changed),
    )
