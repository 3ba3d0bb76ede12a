"""Pick the best cell for each aim, and say where the noise of a run is too large for a pick."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set

import numpy as np
from attrs import evolve
from numpy.typing import NDArray

from qx.analysis.axes import make_axis
from qx.analysis.quantity import OF_ITEMS, Quantity
from qx.results.records import NoiseFloor, PickResult, UndecidedResult
from qx.results.run_record import Measuring
from qx.statistics import intervals, pareto
from qx.statistics.effort import items_needed, waves_needed


def picks_by_aim(
    candidates: Mapping[Quantity, Set[str]],
    axes: Mapping[Quantity, pareto.Axis],
    cells: Sequence[str],
    front: Set[str],
    floors: Sequence[NoiseFloor],
    measuring: Measuring | None,
) -> list[PickResult | UndecidedResult]:
    """Return the best of these cells by each metric that serves an aim; the other axes decide ties.

    ``candidates`` maps metrics to the cells that have figures of them. ``axes`` maps the metrics that are
    axes to their axes over all ``cells``. Among equals a cell of the ``front`` is picked. Where the intervals
    of a metric are too wide for a pick, its entry is an ``UndecidedResult`` with an estimate, from
    ``measuring``, of how much more measuring is enough.
    """
    picks: list[PickResult | UndecidedResult] = []
    for quantity, cells_with_figures in candidates.items():
        # A metric that is no axis need not have figures of all cells, and picks among those that have.
        among = [cell for cell in cells if cell in cells_with_figures]
        if quantity.metric.pick is None or not among:
            continue
        further = [other for other in axes if other is not quantity]
        ready_axes = axes if among == cells else {}
        floor = _alarm(quantity, floors)
        own = _with_certain_ties(ready_axes.get(quantity) or make_axis(quantity, among), quantity, among)
        if floor is not None:
            own = _with_noise_of_control(own, floor)
        pick = pareto.pick(
            [own, *(ready_axes.get(other) or make_axis(other, among) for other in further)],
            range(1 + len(further)),
            undominated=[index for index, cell in enumerate(among) if cell in front],
        )
        if pick is None:
            undecided = _undecided(quantity, own, among)
            # More seconds do not help where the control says that something else is wrong.
            picks.append(undecided if floor else _with_effort(undecided, quantity, own, measuring))
            continue
        picks.append(
            PickResult(
                aim=quantity.metric.pick,
                metric=quantity.metric.name,
                point=quantity.point,
                cell=among[pick.chosen],
                tied_with=tuple(among[other] for other in pick.tied_with),
                decided_by=None if pick.decided_by is None else further[pick.decided_by - 1].metric.name,
                not_told_apart=tuple(among[other] for other in pick.not_told_apart),
            )
        )
    return picks


def _with_certain_ties(axis: pareto.Axis, quantity: Quantity, cells: Sequence[str]) -> pareto.Axis:
    """Return the axis without any difference between cells that have the same value on every item.

    Whichever of them is picked, nothing is lost on these items, however few they are.
    """
    if quantity.metric.samples not in OF_ITEMS:
        return axis
    is_same = identical_cells(quantity, cells)
    return evolve(axis, low=np.where(is_same, 0.0, axis.low), high=np.where(is_same, 0.0, axis.high))


def identical_cells(quantity: Quantity, cells: Sequence[str]) -> NDArray[np.bool_]:
    """Return ``[cells, cells]``: whether two cells are the same on every item that was evaluated.

    The cost grows with the number of cells and not with that of pairs, unless many have the same value.
    """
    if quantity.metric.samples == "per_item":
        # Adding 0 makes a negative zero a zero, which it is equal to.
        contents = [(quantity.values(cell) + 0.0).tobytes() for cell in cells]
        numbers = {content: number for number, content in enumerate(contents)}
        same_as = np.array([numbers[content] for content in contents])
        return np.asarray(same_as[:, None] == same_as[None, :])
    is_same = np.zeros((len(cells), len(cells)), dtype=bool)
    if quantity.metric.phase in ("predictions", "derived"):
        values = np.array([quantity.values(cell)[0] for cell in cells])
        for row, column in np.argwhere(values[:, None] == values[None, :]):
            is_same[row, column] = quantity.are_identical(cells[row], cells[column])
    return is_same


def _alarm(quantity: Quantity, floors: Sequence[NoiseFloor]) -> NoiseFloor | None:
    """Return what the control shows in this metric, where that is an alarm."""
    alarms = (floor for floor in floors if floor.alarm and floor.figure == quantity.figure)
    return next(alarms, None)


def _with_noise_of_control(axis: pareto.Axis, floor: NoiseFloor) -> pareto.Axis:
    """Return the axis with each interval widened on both sides by the control's apparent difference."""
    size = intervals.size(floor.value, floor.kind)
    return evolve(axis, low=axis.low - size, high=axis.high + size)


def _undecided(quantity: Quantity, axis: pareto.Axis, cells: Sequence[str]) -> UndecidedResult:
    """Return the cells that an axis leaves to choose from, and the width of its intervals."""
    best, *others = pareto.contenders(axis)
    widest = float(np.max(_half_widths(axis, best, others)))
    # Values may lie so far apart that this overflows.
    with np.errstate(over="ignore"):
        half_width = float(np.expm1(widest)) if quantity.is_relative else widest
    return UndecidedResult(
        aim=quantity.metric.pick or "",
        metric=quantity.metric.name,
        point=quantity.point,
        contenders=tuple(cell for index, cell in enumerate(cells) if index in (best, *others)),
        half_width=half_width if math.isfinite(half_width) else None,
    )


def _half_widths(axis: pareto.Axis, best: int, others: Sequence[int]) -> NDArray[np.float64]:
    return np.asarray((axis.high[best, others].astype(float) - axis.low[best, others]) / 2, dtype=np.float64)


def _with_effort(
    undecided: UndecidedResult, quantity: Quantity, axis: pareto.Axis, measuring: Measuring | None
) -> UndecidedResult:
    """Return the result with an estimate of how much measuring is enough to pick the cell that seems best."""
    best, *others = pareto.contenders(axis)
    seems_better = (axis.low[best, others].astype(float) + axis.high[best, others]) / 2
    # With half widths below this no other cell can be better by more than the margin.
    target = np.maximum(seems_better, 0) + axis.margin
    if undecided.half_width is None or not target.all():
        return undecided
    excess = float(np.max(_half_widths(axis, best, others) / target))
    if quantity.metric.samples in OF_ITEMS:
        return evolve(undecided, items=items_needed(excess, quantity.estimate(undecided.contenders[0]).n))
    waves = min(
        int(np.count_nonzero(~np.isnan(quantity.by_wave.medians(cell)))) for cell in undecided.contenders
    )
    enough, seconds = waves_needed(excess, waves), None if measuring is None else measuring.seconds
    return evolve(undecided, seconds=seconds * enough / waves) if enough and seconds else undecided
