"""Find the cells that need no more rounds: whatever these would show, what is decided stays the same."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set

import numpy as np
from attrs import Factory, define, evolve, frozen
from numpy.typing import NDArray

from qx.analysis.axes import decides, deciding, front_axes, make_axis
from qx.analysis.constraints import ratio_to_baseline
from qx.analysis.measurements import output_errors
from qx.analysis.quantity import OF_LAUNCHES, Quantity
from qx.contract.figures import Point
from qx.contract.records import Metric
from qx.errors import UsageError
from qx.results.constraints import Bound, Constraint, bound_of, metric_of
from qx.results.recording import Recording
from qx.statistics import intervals, pareto
from qx.values import Array

#: Level of the intervals by which a decision counts as settled. Results decide by 95 %.
LEVEL = 0.99
#: Size of the outputs of a cell by which it is seen whether they are like the baseline's. They may be larger
#: than memory, and are read between waves.
OUTPUT_BYTES = 4 << 20


@frozen(kw_only=True)
class Decisions:
    """What the results of a workload will decide, and about which cells."""

    #: Metrics that apply to the workload, with the axes of the run.
    metrics: tuple[Metric, ...]
    #: Points of the run.
    points: tuple[Point, ...]
    baseline: str
    control: str
    #: Cells that are measured, without the control.
    cells: tuple[str, ...]
    constraints: tuple[Constraint, ...] = ()
    #: Metrics that have failed before anything was timed: ``(cell, metric)``.
    failed: frozenset[tuple[str, str]] = frozenset()


@define
class Settling:
    """Says again and again, while samples arrive, which cells need no more rounds.

    More rounds change the intervals of metrics of phase ``block`` alone, such as latency. A cell is settled
    if no such interval of 99 % leaves open who dominates whom, which cell is picked, or whether a constraint
    is met. Where that cannot be computed, no cell is settled.
    """

    decisions: Decisions
    #: Axes of metrics that waves do not change, by metric and cells.
    _axes: dict[tuple[str, tuple[str, ...]], pareto.Axis] = Factory(dict)
    #: Cells whose answers are unlike the baseline's, which results leave out; None: not computed yet.
    _unlike_baseline: frozenset[str] | None = None

    def settled_cells(
        self,
        recording: Recording,
        failures: Collection[str] = (),
        dropped: Set[tuple[str, str]] = frozenset(),
    ) -> frozenset[str]:
        """Return the cells that need no more rounds, never the baseline or the control.

        ``recording`` has the samples of the workload so far. ``failures`` are cells that have failed since
        they were built, and ``dropped`` metrics that have failed in a cell or do not apply to it.
        """
        decisions = self.decisions
        failed = decisions.failed | dropped
        later = [metric for metric in decisions.metrics if metric.phase == "derived" and decides(metric)]
        # What is derived from launches is not known before they have all ended, nor what is picked by it.
        if any(metric.pick or metric.samples in OF_LAUNCHES for metric in later):
            return frozenset()
        unlike = self._find_unlike_baseline(recording)
        candidates = [cell for cell in decisions.cells if cell not in failures and cell not in unlike]
        quantities = [
            Quantity(
                metric,
                next(iter(metric.points(decisions.points)), None),
                recording,
                decisions.baseline,
                {*failures} | {cell for cell, name in failed if name == metric.name},
            )
            for metric in decisions.metrics
            if metric not in later
        ]
        by_quantity = deciding(quantities, candidates)
        on_axes, unknown = front_axes(by_quantity, later)
        cells = [cell for cell in candidates if all(cell in by_quantity[quantity] for quantity in on_axes)]
        if not on_axes or not cells or any(self._is_alarming(quantity) for quantity in by_quantity):
            return frozenset()
        names = {quantity.metric.name for quantity in on_axes}
        has_more = any(
            cell not in cells and not any((cell, name) in failed for name in names) for cell in candidates
        )
        axes = [self._axis(quantity, cells) for quantity in on_axes]
        is_timed = [quantity.metric.phase == "block" for quantity in on_axes]
        is_open = front_is_open(axes, is_timed, is_whole=not unknown, has_more=has_more)
        for quantity, with_figures in by_quantity.items():
            among = [index for index, cell in enumerate(cells) if cell in with_figures]
            if quantity.metric.pick is None or not among:
                continue
            if quantity in on_axes:
                own = _part(axes[on_axes.index(quantity)], among)
            else:
                own = self._axis(quantity, [cells[index] for index in among])
            further = [number for number, other in enumerate(on_axes) if other is not quantity]
            is_open[among] |= pick_is_open(
                [own, *(_part(axes[number], among) for number in further)],
                [quantity.metric.phase == "block", *(is_timed[number] for number in further)],
                has_more=has_more,
            )
        for constraint in decisions.constraints:
            is_open |= self._constraint_is_open(constraint, quantities, on_axes, cells)
        settled = {cell for cell, needs_more in zip(cells, is_open, strict=True) if not needs_more}
        return frozenset(settled - {decisions.baseline, decisions.control})

    def _find_unlike_baseline(self, recording: Recording) -> frozenset[str]:
        """Return the cells that results will leave out, by their answers to the first items."""
        if self._unlike_baseline is None:
            first = Recording(
                outputs={
                    cell: {name: _first_items(array) for name, array in outputs.items()}
                    for cell, outputs in recording.outputs.items()
                }
            )
            errors = output_errors(self.decisions.cells, self.decisions.baseline, first)
            self._unlike_baseline = frozenset(error.cell for error in errors if error.is_below_0_db)
        return self._unlike_baseline

    def _is_alarming(self, quantity: Quantity) -> bool:
        """Return whether the control shows that timings are not to be believed, or is not known."""
        if quantity.metric.phase != "block":
            return False
        difference = quantity.compare(self.decisions.control, self.decisions.baseline)
        return difference is None or intervals.control_alarm(difference)

    def _axis(self, quantity: Quantity, cells: Sequence[str]) -> pareto.Axis:
        if quantity.is_from_launches:
            return _bounded(make_axis(quantity, cells, LEVEL))
        key = quantity.metric.name, tuple(cells)
        if key not in self._axes:
            self._axes[key] = _bounded(make_axis(quantity, cells, LEVEL))
        return self._axes[key]

    def _constraint_is_open(
        self,
        constraint: Constraint,
        quantities: Sequence[Quantity],
        on_axes: Sequence[Quantity],
        cells: Sequence[str],
    ) -> NDArray[np.bool_]:
        """Return ``[cells]``: whether rounds may decide if a cell meets a constraint."""
        considered = on_axes if constraint.aim == "drop" else quantities
        metric = metric_of(constraint, [quantity.metric for quantity in considered])
        if metric is None or metric.phase != "block":
            return np.zeros(len(cells), dtype=bool)
        quantity = next(quantity for quantity in considered if quantity.metric is metric)
        try:
            bound = bound_of(constraint, metric)
        except UsageError:
            return np.zeros(len(cells), dtype=bool)
        return np.array([_is_undecided(bound, quantity, cell) for cell in cells])


def front_is_open(
    axes: Sequence[pareto.Axis], is_timed: Sequence[bool], *, is_whole: bool = True, has_more: bool = False
) -> NDArray[np.bool_]:
    """Return ``[cells]``: whether more rounds of a cell may change who is on the front.

    A pair of cells is open where one of them may dominate the other, and the interval of a timed axis leaves
    open whether it does. It is not if the other cell is dominated for sure anyhow.

    Parameters
    ----------
    axes : sequence of Axis
        Axes over the same cells, with intervals of a high level; infinite where a pair cannot be compared.
    is_timed : sequence of bool
        Which of them more rounds can change.
    is_whole : bool
        Whether no further axis is to come.
    has_more : bool
        Whether further cells are to come. Then only cells that are dominated for sure are settled.
    """
    better = np.array([axis.low > axis.margin for axis in axes])
    may_be_no_worse = np.array([axis.high >= -axis.margin for axis in axes])
    may_be_better = np.array([axis.high > axis.margin for axis in axes])
    may_dominate = may_be_no_worse.all(axis=0) & (may_be_better.any(axis=0) | (not is_whole))
    needs_rounds = np.zeros_like(may_dominate)
    for number, axis in enumerate(axes):
        if is_timed[number]:
            is_better_elsewhere = np.delete(better, number, axis=0).any(axis=0)
            needs_rounds |= may_be_no_worse[number] & (axis.low < -axis.margin)
            needs_rounds |= may_be_better[number] & ~better[number] & ~is_better_elsewhere
    np.fill_diagonal(needs_rounds, False)
    is_dominated = ~pareto.front(axes).on_front & is_whole
    open_pairs = may_dominate & needs_rounds & ~is_dominated[None, :]
    is_open = open_pairs.any(axis=0) | open_pairs.any(axis=1)
    return np.asarray(is_open | (~is_dominated & has_more))


def pick_is_open(
    axes: Sequence[pareto.Axis], is_timed: Sequence[bool], *, has_more: bool = False
) -> NDArray[np.bool_]:
    """Return ``[cells]``: whether more rounds of a cell may change which cell is picked.

    The first axis is the one to pick by, and the others decide between equals. The arguments are those of
    ``front_is_open``.
    """
    is_left = np.ones(len(axes[0].low), dtype=bool)
    is_open = np.zeros_like(is_left)
    for number, axis in enumerate(axes):
        is_better = axis.low > axis.margin
        is_left &= ~is_better[is_left].any(axis=0)
        if number == 0 and has_more:
            is_open |= is_left
        if is_timed[number]:
            may_be_better = (axis.high > axis.margin) & ~is_better & is_left[:, None] & is_left[None, :]
            np.fill_diagonal(may_be_better, False)
            is_open |= may_be_better.any(axis=0) | may_be_better.any(axis=1)
    return is_open


def _first_items(array: Array) -> Array:
    """Return as many of the first items as ``OUTPUT_BYTES`` hold, at least one."""
    return array[: max(1, OUTPUT_BYTES // max(1, array[:1].nbytes))]


def _is_undecided(bound: Bound, quantity: Quantity, cell: str) -> bool:
    if not quantity.are_comparable(cell):
        return True
    if bound.kind == "value":
        estimate = quantity.estimate(cell, LEVEL)
        return bound.verdict(estimate.value, estimate.ci) == "perhaps"
    compared = quantity.compare(cell, quantity.baseline, LEVEL)
    if bound.kind == "difference":
        figure = None if compared is None else (compared.value, compared.ci)
    else:
        figure = ratio_to_baseline(compared)
    return figure is None or bound.verdict(*figure) == "perhaps"


def _bounded(axis: pareto.Axis) -> pareto.Axis:
    """Return the axis with an infinite interval for each pair that cannot be compared."""
    unknown = np.isnan(axis.low) | np.isnan(axis.high)
    np.fill_diagonal(unknown, False)
    return evolve(axis, low=np.where(unknown, -np.inf, axis.low), high=np.where(unknown, np.inf, axis.high))


def _part(axis: pareto.Axis, cells: Sequence[int]) -> pareto.Axis:
    """Return the axis over some of its cells."""
    pairs = np.ix_(cells, cells)
    return evolve(axis, low=axis.low[pairs], high=axis.high[pairs])
