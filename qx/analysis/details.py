"""The details of a figure of a cell: what the metric reported, and what qx adds to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qx.analysis import on_items
from qx.analysis.in_rounds import log_ratios_in_rounds
from qx.analysis.quantity import Quantity, ignore_overflow
from qx.analysis.whole_set import tail_weight
from qx.results.recording import Series
from qx.results.results_file import without_nan
from qx.statistics import intervals, over_waves
from qx.values import JsonMapping, JsonObject


def details(quantity: Quantity, cell: str) -> JsonObject:
    """Return the details of a metric: the medians over launches of what it reported, and quantiles."""
    entries = _median_of(quantity.series(cell).details)
    if quantity.metric.samples == "per_block":
        values = quantity.values(cell)
        # The quantiles on the worse side.
        ranks = (5, 1) if quantity.metric.better == "higher" else (95, 99)
        entries |= {f"p{rank}": float(np.quantile(values, rank / 100)) for rank in ranks}
        entries |= {
            "lowest": float(values.min()),
            "calls": len(values),
        }
        entries |= {"in_rounds": _in_rounds(quantity, cell)} if quantity.metric.phase == "block" else {}
    if quantity.metric.samples == "per_round":
        entries |= {"blocks": len(quantity.values(cell))}
    if quantity.differs_by_sitting(cell):
        entries["by_sitting"] = [
            {"value": part.value, "ci": part.ci, "launches": part.n} for part in quantity.by_sitting(cell)
        ]
    series = quantity.series(cell)
    if series.resampled:
        whole_set = series.resampled[0]
        entries["resampled"] = {
            "items": whole_set.items,
            "groups": len(whole_set.influence),
            "draws": len(whole_set.draws),
            "step": whole_set.step,
            "heavy_tail": tail_weight(whole_set),
        }
    if series.groups is not None or len(series.resampled) > 1:
        has_baseline = cell != quantity.baseline and quantity.are_comparable(quantity.baseline)
        entries["groups"] = on_items.groups(
            quantity.metric, series, quantity.series(quantity.baseline) if has_baseline else None
        )
    plain: JsonObject = without_nan(entries)
    return plain


def reported(series: Series) -> JsonObject:
    """Return what the metric itself reported of a cell: the medians over launches."""
    plain: JsonObject = without_nan(_median_of(series.details))
    return plain


@ignore_overflow()
def _in_rounds(quantity: Quantity, cell: str) -> JsonObject | None:
    """Compare a cell with the baseline by ratios in every round, of all calls, disturbed or not.

    ``differs`` is ``worse`` or ``better`` where the undisturbed calls of the same waves give another
    result, at 99.9 % and by more than the margin.
    """
    kind, pair = quantity.metric.compare, (cell, quantity.baseline)
    if cell == quantity.baseline or kind == "difference" or quantity.metric.better == "neither":
        return None
    if not quantity.are_comparable(*pair):
        return None
    ours, theirs = (quantity.series(name) for name in pair)
    undisturbed = quantity.by_wave.advantage(*pair)
    # A wave that is incomplete for one of them counts for neither.
    ratios = np.where(
        np.isnan(undisturbed), np.nan, log_ratios_in_rounds(ours, theirs, quantity.by_wave.count)
    )
    deviations = ratios - undisturbed
    if np.isnan(deviations).all():
        return None
    compared = over_waves.ratio_interval(ratios, kind=kind)
    if not compared.is_finite:
        return None
    deviation = float(np.nanmean(deviations))
    differs = abs(deviation) > np.log1p(quantity.metric.margin) and intervals.control_alarm(
        over_waves.difference_interval(deviations)
    )
    is_worse = (deviation > 0) == (quantity.metric.better == "lower")
    return {
        "kind": kind,
        "value": compared.value,
        "ci": compared.ci,
        "differs": ("worse" if is_worse else "better") if differs else None,
    }


def _median_of(details: Sequence[JsonMapping]) -> JsonObject:
    """Merge nested mappings: take the median of each number, and the first of anything else.

    An integer stays an integer where its median is whole.
    """
    if not details:
        return {}
    first = details[0]
    merged: JsonObject = {}
    for name, value in first.items():
        values = [mapping[name] for mapping in details if name in mapping]
        if all(isinstance(item, Mapping) for item in values):
            merged[name] = _median_of(values)
        elif all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in values):
            median = float(np.median(values))
            merged[name] = int(median) if isinstance(value, int) and median.is_integer() else median
        else:
            merged[name] = value
    return merged
