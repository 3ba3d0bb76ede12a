"""A figure as an axis of the front: how much better each cell is than each other, and in resampled runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

import numpy as np
from numpy.typing import NDArray

from qx.analysis import on_items
from qx.analysis.quantity import OF_ITEMS, Quantity, ignore_overflow
from qx.contract.records import Metric
from qx.results.recording import Floats
from qx.statistics import over_waves, pareto

#: Number of resamplings of waves and items for the probability of being on the front.
DRAWS = 1000


def deciding(quantities: Sequence[Quantity], candidates: Iterable[str]) -> dict[Quantity, set[str]]:
    """Return the figures that front and picks go by, each with the candidates that can be compared in it.

    These are the axes and the metrics that serve an aim, each at its first point.
    """
    first = {quantity.metric.name: quantity for quantity in reversed(quantities)}
    comparable = {
        quantity: {cell for cell in candidates if quantity.are_comparable(cell)}
        for quantity in quantities
        if first[quantity.metric.name] is quantity and decides(quantity.metric)
    }
    # A metric that no cell has figures of (a workload without labels) would empty the front.
    return {quantity: cells for quantity, cells in comparable.items() if cells}


def decides(metric: Metric) -> bool:
    """Return whether front or picks go by a metric."""
    return metric.better != "neither" and (metric.axis or metric.pick is not None)


def front_axes(
    candidates: Mapping[Quantity, Set[str]], others: Iterable[Metric] = ()
) -> tuple[list[Quantity], list[Metric]]:
    """Return which of these figures are axes of the front, and which of ``others``, that have no figures yet.

    Of axes that judge answers these are the ones of the highest rank.
    """
    later = list(others)
    metrics = [*(quantity.metric for quantity in candidates), *later]
    ranks = 0, max((metric.quality for metric in metrics), default=0)
    return (
        [quantity for quantity in candidates if quantity.metric.axis and quantity.metric.quality in ranks],
        [metric for metric in later if metric.axis and metric.quality in ranks],
    )


@ignore_overflow()
def make_axis(quantity: Quantity, cells: Sequence[str], level: float = 0.95) -> pareto.Axis:
    """Return the axis of the front: how much better each of these cells is than each other.

    ``level`` is that of its intervals.
    """
    margin, count = quantity.metric.margin, len(cells)
    if quantity.metric.samples in OF_ITEMS:
        low, high = on_items.pairwise(quantity.metric, [quantity.series(cell) for cell in cells], level)
    else:
        # Cells of two groups are compared through the baseline, which may not be among the cells.
        base = [quantity.baseline] if quantity.are_comparable(quantity.baseline) else []
        samples = np.array([quantity.by_wave.min_samples(cell) for cell in cells])
        low, high = np.empty((2, count, count))
        for number in np.unique(samples):
            values, weights = quantity.by_wave.rows_for_pairs([*cells, *base], int(number))
            ends = over_waves.pairwise_over_waves(values, count if base else None, level, weights)
            # The cell with fewer samples decides how a pair is compared.
            pairs = np.minimum(samples[:, None], samples) == number
            for target, end in zip((low, high), ends, strict=True):
                np.copyto(target, end[:count, :count], where=pairs)
        _widen_over_sittings(quantity, cells, low, high, level)
    if quantity.metric.better == "lower":
        low, high = low.T, high.T
    return pareto.Axis(low, high, float(np.log1p(margin)) if quantity.is_relative else margin)


def _widen_over_sittings(
    quantity: Quantity, cells: Sequence[str], low: Floats, high: Floats, level: float
) -> None:
    """Replace the intervals of pairs that differ by sitting, where a cell of the pair does so anyhow.

    ``low`` and ``high`` are ``[cells, cells]``, the ends of the intervals of row less column.
    """
    baseline = quantity.baseline
    differing = [cell for cell in cells if quantity.ratio_differs_by_sitting(cell, baseline)]
    for cell in differing:
        row = cells.index(cell)
        for column, other in enumerate(cells):
            if other == cell or not quantity.ratio_differs_by_sitting(cell, other):
                continue
            mean, half, _ = quantity.mean_over_sittings(cell, other, level)
            low[row, column], high[row, column] = mean - half, mean + half
            low[column, row], high[column, row] = -mean - half, -mean + half


def draw_values(
    quantity: Quantity, cells: Sequence[str], waves: NDArray[np.intp], generator: np.random.Generator
) -> Floats:
    """Draw values of these cells in resampled runs, ``[draws, cells]``, more is better.

    They are on the scale of ``make_axis``: logs where the metric is compared by ratio. ``waves`` are the
    waves drawn, ``[draws, waves]``, the same for every quantity of a run.
    """
    sign = 1.0 if quantity.metric.better == "higher" else -1.0
    if quantity.metric.samples in OF_ITEMS:
        rows = [quantity.series(cell) for cell in cells]
        return sign * on_items.drawn_values(quantity.metric, rows, DRAWS, generator)
    base = quantity.baseline if quantity.are_comparable(quantity.baseline) else cells[0]
    ratios = np.array([quantity.by_wave.advantage(cell, base) for cell in cells])
    has_ratio = ~np.isnan(ratios)
    # A cell that shares no wave with the baseline is drawn as its equal, for lack of anything better.
    means = np.where(has_ratio, ratios, 0.0).sum(axis=1) / np.maximum(has_ratio.sum(axis=1), 1)
    sums, counts = drawn_sums(ratios, has_ratio, waves % ratios.shape[1])
    drawn_means: Floats = sign * np.where(counts > 0, sums / np.maximum(counts, 1), means)
    return drawn_means


def drawn_sums(
    ratios: Floats, has_ratio: NDArray[np.bool_], waves: NDArray[np.intp]
) -> tuple[Floats, Floats]:
    """Return sums and numbers of the ratios ``[cells, waves]`` in the waves drawn, each ``[draws, cells]``.

    Cells of one group have the same waves. Group by group, seconds and memory grow with the number of cells:
    all cells together would have as many ratios in a draw as the run has waves, of which most are missing.
    """
    times = np.zeros((len(waves), ratios.shape[1]))
    np.add.at(times, (np.arange(len(waves))[:, None], waves), 1.0)
    sums, counts = np.empty((2, len(waves), len(ratios)))
    patterns, group = np.unique(has_ratio, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        members, own = np.flatnonzero(group.ravel() == number), times[:, pattern]
        # Not a product of matrices, which may round equal cells differently.
        sums[:, members] = np.einsum("dw,cw->dc", own, ratios[members][:, pattern])
        counts[:, members] = own.sum(axis=1)[:, None]
    return sums, counts
