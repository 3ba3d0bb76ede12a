"""Decide the Pareto front under uncertainty, the probability of being on it, and the pick of one cell.

This module sees axes, not metrics: for every pair of cells an interval of how much better the first is than
the second. The caller leaves the control out.
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

#: Number of pairs of cells in memory at a time in ``membership``, so that it needs some tens of MiB.
PAIRS = 8_000_000
#: Number of passes in which ``membership`` looks for cells in no cycle, before it looks for cycles.
PEELS = 6


def _matrix(values: ArrayLike) -> Matrix:
    array = np.asarray(values)
    return array if array.dtype.kind == "f" else array.astype(np.float32)


@frozen(eq=False)
class Axis:
    """One axis of the front.

    ``low[i, j]`` and ``high[i, j]`` bound how much better cell i is than cell j (``[cells, cells]``,
    positive: i is better). Both are log ratios for metrics compared by ratio, else differences in the
    metric's unit. NaN means that the pair cannot be compared, so nothing is shown and nothing excluded.
    ``margin`` is the smallest difference that matters, on the same scale: ``log1p(margin)`` for ratios.
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
        """Return ``[i, j]``: whether i is shown to be better than j by more than the margin."""
        return np.asarray(self.low > self.margin)

    def shown_no_worse(self) -> Booleans:
        """Return ``[i, j]``: whether i is shown to be worse than j by no more than the margin."""
        return np.asarray(self.low >= -self.margin)

    def shown_different(self) -> Booleans:
        """Return ``[i, j]``: whether either of the two is shown to be better by more than the margin."""
        different = self.shown_better() | (self.high < -self.margin)
        return np.asarray(different | different.T)


@frozen(eq=False)
class Front:
    """Which cells are on the front, and how each two of them relate; cells are named by their positions.

    ``dominates`` ``[cells, cells]``: row dominates column. ``tied`` ``[cells, cells]``: both are on the
    front, and either no axis shows a difference, or they belong to the same cycle of domination.
    """

    on_front: Booleans
    dominates: Booleans
    tied: Booleans

    def dominated_by(self, cell: int) -> tuple[int, ...]:
        """Return the cells that dominate this one; empty on the front."""
        return tuple(int(other) for other in np.flatnonzero(self.dominates[:, cell]))

    def tied_with(self, cell: int) -> tuple[int, ...]:
        """Return the other cells of the front that are tied with this one; empty off the front."""
        return tuple(int(other) for other in np.flatnonzero(self.tied[cell]))


def front(axes: Sequence[Axis]) -> Front:
    """Decide which cells are on the front.

    A cell dominates another when every axis shows that it is worse by no more than the margin, and at least
    one axis shows that it is better by more than the margin. Margins sometimes make this relation cyclic
    (each cell a little worse, within the margin, where the next one gains). The members of a cycle, which is
    a strongly connected component (Tarjan, 1972), do not dominate each other. A member that a cell outside of
    the cycle dominates stays dominated; the other members do not become dominated because of it. The relation
    that is left has no cycle, so some cell is undominated: the front is never empty. Memory is that of a few
    boolean arrays ``[cells, cells]``, since axes are processed one at a time.

    Parameters
    ----------
    axes : sequence of Axis
        Axes over the same cells.

    Returns
    -------
    Front

    Raises
    ------
    ValueError
        There is no axis or no cell, or the axes have different numbers of cells.
    """
    if not axes or not len(axes[0].low):
        raise ValueError("a front needs an axis and a cell")
    if len(sizes := {len(axis.low) for axis in axes}) > 1:
        raise ValueError(f"all axes must have the same number of cells, not {sorted(sizes)}")
    (cells,) = sizes
    no_worse = np.ones((cells, cells), dtype=bool)
    better, different = np.zeros_like(no_worse), np.zeros_like(no_worse)
    for axis in axes:
        no_worse &= axis.shown_no_worse()
        better |= axis.shown_better()
        different |= axis.shown_different()
    dominates = no_worse & better
    same_cycle = _same_cycle(dominates)
    dominates &= ~same_cycle
    on_front = np.logical_not(dominates.any(axis=0))
    tied = (same_cycle | ~different) & on_front[:, None] & on_front[None, :] & ~np.eye(cells, dtype=bool)
    return Front(on_front=on_front, dominates=dominates, tied=tied)


def _same_cycle(dominates: Booleans) -> Booleans:
    """Return ``[i, j]``: whether i and j belong to the same cycle, or are the same cell."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    _, cycle = connected_components(csr_array(dominates), directed=True, connection="strong")
    return np.asarray(cycle[:, None] == cycle[None, :])


def membership(draws: Sequence[ArrayLike], margins: Sequence[float]) -> NDArray[np.float64]:
    """Compute the share of bootstrap draws in which each cell is on the front.

    The front of a draw is that of ``front``, with margins and cycles, for values without uncertainty. A
    dominated cell has a share near 0 as a rule, and a cell that is on the front only because nothing is shown
    has a share below 1. Draw waves and items for all cells together, or the noise that they share is lost.
    The cost is ``draws * cells ** 2`` comparisons for each axis.

    Parameters
    ----------
    draws : sequence of array-likes of float, shape [draws, cells]
        Resampled values for each axis, on the scale of its margin, more is better; an axis without sampling
        error may be ``[cells]``.
    margins : sequence of float
        Margin of each axis.

    Returns
    -------
    array of float, shape [cells]

    Raises
    ------
    ValueError
        There is no axis, or a value is not finite.
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
    """Return which cells are on the front of each draw, ``[draws, cells]``."""
    undominated = np.logical_not(dominates.any(axis=1))
    # Cells dominated by no cell, or only by cells in no cycle, are in no cycle. Whom they dominate is off the
    # front.
    acyclic = undominated
    for _ in range(PEELS):
        undecided = ~(undominated | (dominates & acyclic[:, :, None]).any(axis=1))
        if not undecided.any():
            break
        acyclic = np.logical_not((dominates & ~acyclic[:, :, None]).any(axis=1))
    for draw in np.flatnonzero(undecided.any(axis=1)):
        undominated[draw] = ~(dominates[draw] & ~_same_cycle(dominates[draw])).any(axis=0)
    return np.asarray(undominated)


@frozen
class Pick:
    """The cell chosen for one axis.

    No cell is better than the chosen cell, or than those in ``tied_with``, by more than the margin.
    ``decided_by`` is the position of the last axis that left some of these out. It is None where there was
    nothing to decide, where no axis could decide, and where all but one of them are dominated. The cells in
    ``not_told_apart`` may be as good: that is neither shown nor excluded.
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
    """Choose the best cell on one axis, and let further axes decide between equals.

    A cell can be chosen if no other is better by more than the margin. Where several can, each further axis
    keeps those that it does not show to be worse than the best of them. Where several are left, the mean
    advantage on the first axis decides (by the middles of the intervals, over the other candidates), then
    position. Undominated cells go before dominated ones.

    Parameters
    ----------
    axes : sequence of Axis
        Axes over the same cells.
    order : sequence of int
        Positions of axes: the one to choose by, then those that decide between equals.
    among : iterable of int, optional
        Cells to choose from; by default all.
    undominated : iterable of int, optional
        Cells that go first among equals; by default all that can be chosen from.

    Returns
    -------
    Pick or None
        None where the intervals are too wide for a pick.
    """
    first = axes[order[0]]
    candidates = _candidates(first, among)
    equals = _equal_to_best(first, candidates)
    safe = equals[_shown_no_worse(first, equals, candidates)]
    if not len(safe):
        return None
    left, decided_by = _narrowed(axes, order[1:], safe)
    first_choice = np.unique(list(candidates if undominated is None else undominated))
    safe_undominated = np.intersect1d(safe, first_choice)
    # Where the axes would leave a dominated cell, they decide between the undominated ones alone.
    if len(safe_undominated) and not np.isin(left, first_choice).all():
        left, decided_by = _narrowed(axes, order[1:], safe_undominated)
    chosen = int(left[np.argmax(_advantage(first, equals)[np.isin(equals, left)])])
    tied_with = tuple(int(cell) for cell in safe if cell != chosen)
    return Pick(chosen, tied_with, decided_by, tuple(int(cell) for cell in equals if cell not in safe))


def contenders(axis: Axis, among: Iterable[int] | None = None) -> tuple[int, ...]:
    """Return the cell that seems best on an axis, then those that the axis does not show to be worse.

    Parameters
    ----------
    axis : Axis
        The axis to go by.
    among : iterable of int, optional
        Cells to choose from; by default all.

    Returns
    -------
    tuple of int
        Positions of cells.
    """
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
    """Return the cells that the axes keep, one axis after another, and the last axis that left any out."""
    decided_by: int | None = None
    for position in order:
        if len(cells) == 1:
            break
        equals = _equal_to_best(axes[position], cells)
        if len(equals) < len(cells):
            cells, decided_by = equals, position
    return cells, decided_by


def _advantage(axis: Axis, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean advantage of each candidate over the others that it was compared with."""
    pairs = np.ix_(candidates, candidates)
    middle = (axis.low[pairs].astype(float) + axis.high[pairs]) / 2
    np.fill_diagonal(middle, np.nan)
    compared = ~np.isnan(middle)
    total, count = np.where(compared, middle, 0.0).sum(axis=1), compared.sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), -np.inf), dtype=np.float64)


def _best(axis: Axis, candidates: NDArray[np.int64]) -> int:
    """Return the candidate with the largest mean advantage."""
    return int(candidates[np.argmax(_advantage(axis, candidates))])


def _equal_to_best(axis: Axis, candidates: NDArray[np.int64]) -> NDArray[np.int64]:
    best = _best(axis, candidates)
    is_worse = axis.low[best, candidates] > axis.margin
    return np.asarray(candidates[~is_worse | (candidates == best)], dtype=np.int64)


def _shown_no_worse(axis: Axis, cells: NDArray[np.int64], others: NDArray[np.int64]) -> Booleans:
    """Return for each of ``cells`` whether none of ``others`` is better by more than the margin."""
    no_worse = axis.low[np.ix_(cells, others)] >= -axis.margin
    return np.asarray((no_worse | (cells[:, None] == others)).all(axis=1))
