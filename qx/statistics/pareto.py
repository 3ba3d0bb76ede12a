"""The front, decided under uncertainty; how sure membership is; and the pick of one cell.

It sees axes, not metrics: for every pair of cells an interval of how much better the one is than the other.
The control takes no part; the caller leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from attrs import field, frozen
from numpy.typing import ArrayLike, NDArray

Booleans: TypeAlias = NDArray[np.bool_]
#: In single or double precision.
Matrix: TypeAlias = NDArray[np.floating]

#: How many pairs of cells ``membership`` holds at a time, so that memory stays at some tens of MiB.
PAIRS = 8_000_000
#: How often ``membership`` looks for cells that are in no cycle before it looks for the cycles themselves.
PEELS = 6


def _matrix(values: ArrayLike) -> Matrix:
    array = np.asarray(values)
    return array if array.dtype.kind == "f" else array.astype(np.float32)


@frozen(eq=False)
class Axis:
    """One axis of the front.

    ``low[i, j]`` and ``high[i, j]`` bound how much better cell i is than cell j (``[cells, cells]``,
    positive: i is better): a log ratio for metrics compared by ratio, else a difference in the metric's unit.
    NaN: nothing is known of the pair, so it is neither excluded nor shown to be anything. ``margin`` is the
    smallest difference that matters, on the same scale: ``log1p(margin)`` for ratios.
    """

    low: Matrix = field(converter=_matrix)
    high: Matrix = field(converter=_matrix)
    margin: float = field(default=0.0, converter=float)

    def __attrs_post_init__(self) -> None:
        cells = len(self.low)
        if self.low.shape != (cells, cells) or self.high.shape != (cells, cells):
            raise ValueError(f"an axis needs [cells, cells], not {self.low.shape} and {self.high.shape}")
        if not self.margin >= 0:
            raise ValueError(f"a margin is 0 or more, not {self.margin}")

    def shown_better(self) -> Booleans:
        """``[i, j]``: i is better than j by more than the margin."""
        return np.asarray(self.low > self.margin)

    def shown_no_worse(self) -> Booleans:
        """``[i, j]``: that i is worse than j by more than the margin is excluded."""
        return np.asarray(self.low >= -self.margin)

    def told_apart(self) -> Booleans:
        """``[i, j]``: one of the two, whichever, is shown to be better by more than the margin."""
        apart = self.shown_better() | (self.high < -self.margin)
        return np.asarray(apart | apart.T)


@frozen(eq=False)
class Front:
    """Which cells are on the front, and what is known between each two; all by the cells' positions.

    ``dominates`` ``[cells, cells]``: row dominates column. ``tied`` ``[cells, cells]``: both are on the
    front, and either no axis tells them apart, or they belong to the same cycle of domination.
    """

    on_front: Booleans
    dominates: Booleans
    tied: Booleans

    def dominated_by(self, cell: int) -> tuple[int, ...]:
        """The cells that dominate this one; empty on the front."""
        return tuple(int(other) for other in np.flatnonzero(self.dominates[:, cell]))

    def tied_with(self, cell: int) -> tuple[int, ...]:
        """The other cells of the front that are not told apart from this one; empty off the front."""
        return tuple(int(other) for other in np.flatnonzero(self.tied[cell]))


def front(axes: Sequence[Axis]) -> Front:
    """Decide the front of the cells that all axes speak of.

    A cell dominates another when on every axis its being worse by more than the margin is excluded, and on
    one axis at least it is shown to be better by more than the margin. Margins make this relation cyclic now
    and then (each a little worse, within the margin, where the next gains): the members of a cycle, found as
    a strongly connected component (Tarjan, 1972), do not dominate each other. A member that some cell outside
    of the cycle dominates stays dominated, the others do not for its sake. What is left has no cycle, so some
    cell is undominated: the front is never empty. One ``[cells, cells]`` boolean per question is held, and
    one axis is worked on at a time.
    """
    if not axes or not len(axes[0].low):
        raise ValueError("a front needs an axis and a cell")
    if len(sizes := {len(axis.low) for axis in axes}) > 1:
        raise ValueError(f"all axes must speak of the same cells, not of {sorted(sizes)}")
    (cells,) = sizes
    no_worse = np.ones((cells, cells), dtype=bool)
    better, apart = np.zeros_like(no_worse), np.zeros_like(no_worse)
    for axis in axes:
        no_worse &= axis.shown_no_worse()
        better |= axis.shown_better()
        apart |= axis.told_apart()
    dominates = no_worse & better
    same_cycle = _same_cycle(dominates)
    dominates &= ~same_cycle
    on_front = np.logical_not(dominates.any(axis=0))
    tied = (same_cycle | ~apart) & on_front[:, None] & on_front[None, :] & ~np.eye(cells, dtype=bool)
    return Front(on_front=on_front, dominates=dominates, tied=tied)


def _same_cycle(dominates: Booleans) -> Booleans:
    """``[i, j]``: i and j belong to the same cycle, or are the same cell."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    _, cycle = connected_components(csr_array(dominates), directed=True, connection="strong")
    return np.asarray(cycle[:, None] == cycle[None, :])


def membership(draws: Sequence[ArrayLike], margins: Sequence[float]) -> NDArray[np.float64]:
    """Give each cell's share of bootstrap draws in which it is on the front, ``[cells]``.

    ``draws`` has for each axis values ``[draws, cells]``, more is better, on the scale of its margin; an axis
    without sampling error may be ``[cells]``. Draw waves and items for all cells together, or what they share
    is lost. Each draw has the front of ``front``, margins and cycles too, of values that are certain: so as a
    rule a dominated cell has a share near none, and a cell that is on the front for want of proof one below
    one. Costs ``draws * cells ** 2`` comparisons an axis.
    """
    axes = [np.atleast_2d(np.asarray(axis, dtype=float)) for axis in draws]
    if not axes or not all(np.isfinite(axis).all() for axis in axes):
        raise ValueError("membership needs an axis, and finite values")
    count, cells = np.broadcast_shapes(*(axis.shape for axis in axes))
    axes = [np.broadcast_to(axis, (count, cells)) for axis in axes]
    step = max(1, PAIRS // max(1, cells * cells))
    members = np.zeros(cells)
    for start in range(0, count, step):
        parts = [axis[start : start + step] for axis in axes]
        no_worse = np.ones((len(parts[0]), cells, cells), dtype=bool)
        better = np.zeros_like(no_worse)
        for part, margin in zip(parts, margins, strict=True):
            no_worse &= part[:, :, None] >= (part - margin)[:, None, :]
            better |= part[:, :, None] > (part + margin)[:, None, :]
        members += _undominated(no_worse & better).sum(axis=0)
    return np.asarray(members / count, dtype=np.float64)


def _undominated(dominates: Booleans) -> Booleans:
    """Which cells are on the front of each draw, ``[draws, cells]``; given is ``[draws, cells, cells]``."""
    free = np.logical_not(dominates.any(axis=1))
    # In no cycle: who is dominated by none, or by such cells alone. Whom one of them dominates is off.
    acyclic = free
    for _ in range(PEELS):
        doubtful = ~(free | (dominates & acyclic[:, :, None]).any(axis=1))
        if not doubtful.any():
            break
        acyclic = np.logical_not((dominates & ~acyclic[:, :, None]).any(axis=1))
    for draw in np.flatnonzero(doubtful.any(axis=1)):
        free[draw] = ~(dominates[draw] & ~_same_cycle(dominates[draw])).any(axis=0)
    return np.asarray(free)


@frozen
class Pick:
    """The cell chosen for one axis.

    Of the chosen cell and those that it is ``tied_with`` it is excluded that any cell is better by more than
    the margin. ``decided_by`` is the last of the further axes that left some of them out (its position among
    the axes); None where there was nothing to decide, no axis could, or all but one of them are dominated.
    Those ``not_told_apart`` may be as good: that is neither shown nor excluded.
    """

    chosen: int
    tied_with: tuple[int, ...]
    decided_by: int | None
    not_told_apart: tuple[int, ...] = ()


def pick(
    axes: Sequence[Axis],
    order: Sequence[int],
    among: Iterable[int] | None = None,
    undominated: Iterable[int] | None = None,
) -> Pick | None:
    """Choose the best cell on axis ``order[0]``; let the next axes in the order decide between equals.

    A cell can be chosen if it is excluded that any other is better by more than the margin. Where there is
    none such the intervals are too wide for a pick, and None is returned. Where there are several, each
    further axis leaves those of them that it does not tell apart from its own best one. Where several are
    left at the end, the mean advantage on the first axis decides (by the middles of the intervals, over the
    other candidates), then position. ``among`` are the cells to choose from, by default all. Of equals one
    that is ``undominated`` is chosen, where one is.
    """
    first = axes[order[0]]
    candidates = _candidates(first, among)
    equals = _equal_to_best(first, candidates)
    safe = equals[_shown_no_worse(first, equals, candidates)]
    if not len(safe):
        return None
    left, decided_by = _narrowed(axes, order[1:], safe)
    best = np.unique(list(candidates if undominated is None else undominated))
    among_best = np.intersect1d(safe, best)
    # Where the axes would leave one that is dominated they are asked about the others alone.
    if len(among_best) and not np.isin(left, best).all():
        left, decided_by = _narrowed(axes, order[1:], among_best)
    chosen = int(left[np.argmax(_advantage(first, equals)[np.isin(equals, left)])])
    tied_with = tuple(int(cell) for cell in safe if cell != chosen)
    return Pick(chosen, tied_with, decided_by, tuple(int(cell) for cell in equals if cell not in safe))


def contenders(axis: Axis, among: Iterable[int] | None = None) -> tuple[int, ...]:
    """Cells that an axis does not tell apart from the one that seems best on it, which comes first."""
    candidates = _candidates(axis, among)
    best = _best(axis, candidates)
    return best, *(int(cell) for cell in _equal_to_best(axis, candidates) if cell != best)


def _candidates(axis: Axis, among: Iterable[int] | None) -> NDArray[np.int64]:
    candidates = np.arange(len(axis.low)) if among is None else np.unique(list(among))
    if not len(candidates):
        raise ValueError("there is no cell to pick from")
    return np.asarray(candidates, dtype=np.int64)


def _narrowed(
    axes: Sequence[Axis], order: Sequence[int], cells: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int | None]:
    """Those of these cells that axes, one after another, leave; and the last axis that left any out."""
    decided_by: int | None = None
    for position in order:
        if len(cells) == 1:
            break
        kept = _equal_to_best(axes[position], cells)
        if len(kept) < len(cells):
            cells, decided_by = kept, position
    return cells, decided_by


def _advantage(axis: Axis, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean advantage of each candidate over those others that it was compared with."""
    pairs = np.ix_(candidates, candidates)
    middle = (axis.low[pairs].astype(float) + axis.high[pairs]) / 2
    np.fill_diagonal(middle, np.nan)
    known = ~np.isnan(middle)
    total, count = np.where(known, middle, 0.0).sum(axis=1), known.sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), -np.inf), dtype=np.float64)


def _best(axis: Axis, candidates: NDArray[np.int64]) -> int:
    """The candidate with the largest mean advantage."""
    return int(candidates[np.argmax(_advantage(axis, candidates))])


def _equal_to_best(axis: Axis, candidates: NDArray[np.int64]) -> NDArray[np.int64]:
    best = _best(axis, candidates)
    apart = axis.low[best, candidates] > axis.margin
    return np.asarray(candidates[~apart | (candidates == best)], dtype=np.int64)


def _shown_no_worse(axis: Axis, cells: NDArray[np.int64], others: NDArray[np.int64]) -> Booleans:
    """Of which ``cells`` it is excluded that any of the ``others`` is better by more than the margin."""
    no_worse = axis.low[np.ix_(cells, others)] >= -axis.margin
    return np.asarray((no_worse | (cells[:, None] == others)).all(axis=1))
