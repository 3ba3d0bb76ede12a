"""How many fresh launches memory and start-up need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from qx.analysis.quantity import Quantity
from qx.contract.figures import Figure
from qx.results.recording import Recording
from qx.runner.measure.plan import Measured, Plan
from qx.runner.request import metric
from qx.statistics.student_t import mean_and_error, student

#: The least number of waves with fresh launches: two values alone have an interval of 13 times their error.
LEAST_FRESH = 3
#: Share of the budget that fresh launches may take beyond the least number of them.
MOST_FRESH = 0.2


def fewest_values(plan: Plan, measured: Measured, cells: Sequence[str]) -> int:
    """Return the smallest number of values that any of these cells has of a metric of phase ``fresh``.

    Metrics that failed in a cell, or do not apply to it, are not counted.
    """
    counts = [
        len(measured.parts.get((cell, Figure(entry.name)), ()))
        for cell in cells
        for entry in plan.fresh
        if (cell, entry.name) not in measured.dropped
    ]
    return min(counts, default=LEAST_FRESH)


def has_enough_fresh(plan: Plan, measured: Measured, recording: Recording, cells: Sequence[str]) -> bool:
    """Return whether the intervals of the metrics of phase ``fresh`` are as narrow as their margins.

    The margin of a metric is the smallest difference that matters, so a narrower interval decides nothing
    more. A metric without a margin needs no more than the least number of launches.
    """
    return all(
        _is_precise(quantity, others)
        for quantity, others in _quantities(plan, measured, recording, cells)
        if quantity.metric.margin
    )


def _quantities(
    plan: Plan, measured: Measured, recording: Recording, cells: Sequence[str]
) -> Iterable[tuple[Quantity, list[str]]]:
    """Yield each metric of phase ``fresh`` with the cells that are still measured and can be compared."""
    for entry in plan.fresh:
        quantity = Quantity(metric(entry), None, recording, plan.baseline)
        if plan.baseline not in quantity.measured or not quantity.are_comparable(plan.baseline):
            continue
        yield (
            quantity,
            [
                cell
                for cell in quantity.measured
                if cell in cells and cell != plan.baseline
                if quantity.are_comparable(cell) and (cell, entry.name) not in measured.dropped
            ],
        )


def _is_precise(quantity: Quantity, cells: Sequence[str]) -> bool:
    """Return whether the intervals of these cells against the baseline are within the metric's margin."""
    if not cells:
        return True
    advantages = np.column_stack([quantity.by_wave.advantage(cell, quantity.baseline) for cell in cells])
    mean, error, count = mean_and_error(advantages)
    _, half, _ = student(mean, error, count, level=0.95)
    width = np.expm1(half) if quantity.is_relative else half
    return bool(np.all((count >= LEAST_FRESH) & (width <= quantity.metric.margin)))
