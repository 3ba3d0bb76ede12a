"""Aggregate samples by wave and by round, so that a reader sees whether the timings can be believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from qx.analysis.quantity import Quantity, ignore_overflow
from qx.contract.figures import Figure
from qx.report.html.compact import rounded
from qx.results.columns import View
from qx.results.recording import Floats, Recording
from qx.values import Json, JsonObject

#: Largest number of cells times rounds of which the page has every cell. Of more it has the median of all
#: cells, the baseline and the control.
MAX_BLOCKS = 40_000
#: Significant digits of a value in a plot of waves or rounds.
DIGITS = 4


def by_wave(view: View, recording: Recording) -> list[JsonObject]:
    """Return for each metric of launches how each cell compares with the baseline in every wave.

    ``control`` is the same of the baseline's second measurement, None where there is none.
    """
    plots = []
    for quantity in _launched(view, recording):
        cells = [_compared_by_wave(quantity, cell) for cell in view.rows]
        if any(values is not None for values in cells):
            control = _control(view)
            plots.append(
                {
                    "column": view.columns.index(quantity.figure),
                    "kind": quantity.metric.compare,
                    "cells": cells,
                    "control": None if control is None else _compared_by_wave(quantity, control),
                }
            )
    return plots


def by_round(view: View, recording: Recording) -> list[JsonObject]:
    """Return for each timed metric how much longer calls took in each round than undisturbed ones.

    The values are shares: 0.2 means that the calls of a block took 20 % longer on average than the same
    launch's undisturbed calls. ``rounds`` gives wave and round of each position.
    """
    plots = []
    for quantity in _launched(view, recording):
        if quantity.metric.phase == "block" and quantity.is_relative:
            blocks = {cell: _blocks(quantity, cell) for cell in quantity.measured}
            comparable = {cell: shares for cell, shares in blocks.items() if shares}
            if comparable:
                plots.append(_rounds_plot(view, quantity, comparable))
    return plots


def _launched(view: View, recording: Recording) -> Iterator[Quantity]:
    """Yield the metrics that are measured in launches, without those derived from another of the run."""
    cells = view.results.cells
    not_ok = {cell for cell, result in cells.items() if result.outcome != "ok"}
    for figure in view.columns:
        metric = view.results.metrics[figure.metric]
        if any(name in view.results.metrics for name in metric.derived_from):
            continue
        failed = not_ok | {cell for cell in cells if _failed(view, cell, figure)}
        quantity = Quantity(metric, figure.point, recording, view.baseline, failed)
        if quantity.is_from_launches and quantity.measured:
            yield quantity


def _failed(view: View, cell: str, figure: Figure) -> bool:
    measured = view.measurement(cell, figure)
    return measured is not None and measured.outcome != "ok"


def _control(view: View) -> str | None:
    return next((name for name, cell in view.results.cells.items() if cell.control), None)


@ignore_overflow()
def _compared_by_wave(quantity: Quantity, cell: str) -> list[float | None] | None:
    """Return how a cell compares with the baseline in each wave, in the words of the metric's comparison."""
    if not quantity.are_comparable(cell, quantity.baseline):
        return None
    advantage = quantity.by_wave.advantage(cell, quantity.baseline)
    if quantity.metric.compare != "difference":
        advantage = np.exp(-advantage if quantity.metric.compare == "speedup" else advantage)
    return _short(advantage)


def _short(values: Floats) -> list[float | None]:
    return [rounded(float(value), DIGITS) for value in values]


def _blocks(quantity: Quantity, cell: str) -> dict[tuple[int, int], float]:
    """Return by wave and round how much longer the calls of a block took than undisturbed ones."""
    if not quantity.are_comparable(cell):
        return {}
    series = quantity.series(cell)
    undisturbed = np.exp(quantity.by_wave.values((cell,))[:, 0])
    rounds = int(series.round.max()) + 1
    keys = series.wave.astype(np.int64) * rounds + series.round
    distinct, inverse = np.unique(keys, return_inverse=True)
    means = np.bincount(inverse, series.values) / np.bincount(inverse)
    ratios = means / undisturbed[distinct // rounds]
    if quantity.metric.better == "higher":
        ratios = 1 / ratios
    return {
        (int(key // rounds), int(key % rounds)): float(ratio) - 1.0
        for key, ratio in zip(distinct, ratios, strict=True)
        if np.isfinite(ratio)
    }


def _rounds_plot(
    view: View, quantity: Quantity, blocks: Mapping[str, Mapping[tuple[int, int], float]]
) -> JsonObject:
    places = sorted({place for shares in blocks.values() for place in shares})
    table = np.array([[shares.get(place, np.nan) for place in places] for shares in blocks.values()])
    names, control = list(blocks), _control(view)

    def row(cell: str | None) -> Json:
        return None if cell is None or cell not in blocks else _short(table[names.index(cell)])

    return {
        "column": view.columns.index(quantity.figure),
        "rounds": places,
        "median": _short(_median(table)),
        "control": row(control),
        "baseline": row(view.baseline),
        "cells": [row(cell) for cell in view.rows] if table.size <= MAX_BLOCKS else None,
    }


def _median(table: NDArray[np.float64]) -> Floats:
    """Return the median over cells of each round, of those that have it."""
    return np.array([np.median(column[~np.isnan(column)]) for column in table.T])
