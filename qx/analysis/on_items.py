"""Estimate and compare metrics of the items that were evaluated, for cells on the same items.

The samples of such a metric are one value per item, a statistic of the whole set, or a single value that does
not say how it depends on the items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from attrs import evolve

from qx.analysis import whole_set
from qx.contract.records import Metric
from qx.results.recording import Floats, Series
from qx.statistics import intervals, over_items
from qx.statistics.sequential import level_at_a_look, p_at_a_look
from qx.values import JsonObject

#: Numbers that are drawn at a time, so that memory stays at some tens of MiB.
DRAWN = 5_000_000
#: Reason for the lack of an interval of a single value, by the phase of the metric.
UNKNOWN_ERROR = {
    "build": "one build does not say how much builds differ",
    "predictions": "one value for all items (samples='exact') has no known uncertainty; the metric must "
    "give a value per item, or implement 'statistic' (samples='per_set')",
    "derived": "one value derived from samples (samples='exact') has no known uncertainty; the metric "
    "must give a value per item, launch or call, or implement 'statistic' (samples='per_set')",
}


def is_exact(metric: Metric, series: Series) -> bool:
    """Return whether a value has no sampling error: it describes files, or derives from such values."""
    return metric.samples == "exact" and (metric.phase == "artifact" or series.exact)


def level_of(level: float, *rows: Series) -> float:
    """Return at which level intervals are computed so that they hold with this one.

    It is higher where the widths of intervals decided how many items were evaluated.
    """
    return level_at_a_look(level) if any(row.looked for row in rows) else level


def estimate(metric: Metric, series: Series, level: float = 0.95) -> intervals.Estimate:
    """Estimate the value of a cell."""
    level = level_of(level, series)
    if metric.samples == "exact":
        value = float(series.values[0])
        if is_exact(metric, series):
            return intervals.Estimate(value, (value, value), 1)
        return intervals.Estimate(value, None, 1, UNKNOWN_ERROR[metric.phase])
    if metric.samples == "per_set":
        result = whole_set.estimate(series.resampled[0], level)
    else:
        result = over_items.item_mean(series.values, level)
    if result.ci is None or metric.unit != "fraction" or not 0 <= result.value <= 1:
        return result
    return evolve(result, ci=(max(0.0, result.ci[0]), min(1.0, result.ci[1])))


def compare(metric: Metric, ours: Series, theirs: Series, level: float = 0.95) -> intervals.Difference | None:
    """Compare one cell with another; None for a ratio of values that are not positive.

    Raises ``ValueError`` where they were evaluated on different items.
    """
    kind, own_level = metric.compare, level_of(level, ours, theirs)
    if metric.samples == "per_set":
        found = whole_set.compare(ours.resampled[0], theirs.resampled[0], kind, own_level)
        return found if own_level == level else _with_p_at_a_look(found)
    if metric.samples == "per_item":
        if kind == "difference":
            found = over_items.paired_difference(ours.values, theirs.values, own_level)
        else:
            found = over_items.ratio_of_means(ours.values, theirs.values, kind, own_level)
        return found if own_level == level else _with_p_at_a_look(found)
    compared = intervals.exact_or_none(float(ours.values[0]), float(theirs.values[0]), kind)
    if compared is None or (is_exact(metric, ours) and is_exact(metric, theirs)):
        return compared
    return evolve(compared, ci=None, method="", reason=UNKNOWN_ERROR[metric.phase])


def _with_p_at_a_look(compared: intervals.Difference) -> intervals.Difference:
    return evolve(compared, p=None if compared.p is None else p_at_a_look(compared.p))


def are_identical(
    metric: Metric, ours: Series, theirs: Series, have_equal_outputs: Callable[[], bool]
) -> bool:
    """Return whether two cells are the same on every item, so that no choice of items shows a difference.

    ``have_equal_outputs`` says whether both are known to have the same outputs, which decides for a metric
    with a single value.
    """
    match metric.samples:
        case "per_item":
            return np.array_equal(ours.values, theirs.values)
        case "per_set":
            return whole_set.are_identical(ours.resampled[0], theirs.resampled[0])
        case "exact" if metric.phase == "predictions":
            return np.array_equal(ours.values, theirs.values) and have_equal_outputs()
    return False


def pairwise(metric: Metric, rows: Sequence[Series], level: float = 0.95) -> tuple[Floats, Floats]:
    """Return ``(low, high)`` of all pairs of cells, ``[cells, cells]``, in logs for ratios.

    NaN where a pair has no interval.
    """
    is_relative, level = metric.compare != "difference", level_of(level, *rows)
    if metric.samples == "per_set":
        return whole_set.pairwise([row.resampled[0] for row in rows], relative=is_relative, level=level)
    if metric.samples == "per_item":
        items = [row.values for row in rows]
        all_pairs = over_items.pairwise_ratios if is_relative else over_items.pairwise_differences
        return all_pairs(items, level)
    values = np.array([row.values[0] for row in rows])
    values = logs(values) if is_relative else values
    exact = np.array([is_exact(metric, row) for row in rows])
    has_difference = (exact[:, None] & exact[None, :]) | np.eye(len(rows), dtype=bool)
    differences = np.where(has_difference, values[:, None] - values[None, :], np.nan)
    return differences, differences


def drawn_values(
    metric: Metric, rows: Sequence[Series], count: int, generator: np.random.Generator
) -> Floats:
    """Return values of cells on items that are drawn anew, ``[count, cells]``, in logs for ratios."""
    if metric.samples == "per_set":
        values = whole_set.drawn_values([row.resampled[0] for row in rows], count, generator)
    elif metric.samples == "per_item":
        values = _drawn_means(np.array([row.values for row in rows]), count, generator)
    else:
        values = np.array([row.values[0] for row in rows])
    return logs(values) if metric.compare != "difference" else values


def groups(metric: Metric, own: Series, base: Series | None) -> JsonObject:
    """Return value and paired difference of each group of items, corrected for the number of groups.

    ``base`` has the baseline's samples, or is None where there is nothing to compare with.
    """
    result: JsonObject = {}
    # Bonferroni: all intervals of differences together hold with 95 %.
    level = 1 - 0.05 / max(1, len(own.group_names))
    for index, name in enumerate(own.group_names):
        members = _group(metric, own, index)
        if members is None:
            continue
        estimated = estimate(metric, members)
        result[name] = {"value": estimated.value, "ci": estimated.ci, "n": estimated.n}
        other = None if base is None else _group(metric, base, index)
        if other is not None and metric.compare == "difference":
            compared = compare(metric, members, other, level)
            assert compared is not None  # there are no ratios here
            result[name]["vs_baseline"] = {
                "kind": compared.kind,
                "value": compared.value,
                "ci": compared.ci,
                "level": level,
                "p": compared.p,
            }
    comparisons = [
        group["vs_baseline"]
        for group in result.values()
        if group.get("vs_baseline") and group["vs_baseline"]["p"] is not None
    ]
    adjusted = intervals.holm([comparison["p"] for comparison in comparisons])
    for comparison, p in zip(comparisons, adjusted, strict=True):
        comparison["p_adjusted"] = p
    return result


def _group(metric: Metric, series: Series, index: int) -> Series | None:
    """Return the samples of one group of items; None where it has none."""
    if metric.samples == "per_set":
        sample = series.resampled[1 + index]
        if not sample.items:
            return None
        return evolve(series, values=np.array([sample.value]), resampled=(sample,))
    assert series.groups is not None
    is_member = series.groups == index
    return evolve(series, values=series.values[is_member]) if is_member.any() else None


def logs(values: Floats) -> Floats:
    """Return the logs of values; that of 0 is finite, and far below those of all others."""
    result: Floats = np.log(np.maximum(values, np.finfo(float).tiny))
    return result


def _drawn_means(items: Floats, count: int, generator: np.random.Generator) -> Floats:
    """Return means of items ``[cells, n]`` drawn with replacement, ``[count, cells]``.

    All cells have the same items in a draw. Items with equal values in all cells are drawn together, since
    values of 0 and 1 have few combinations.
    """
    kinds, counts = np.unique(items, axis=1, return_counts=True)
    total, at_once = counts.sum(), max(1, DRAWN // len(counts))
    sums = [
        generator.multinomial(total, counts / total, size=min(at_once, count - start)) @ kinds.T
        for start in range(0, count, at_once)
    ]
    means: Floats = np.concatenate(sums) / total
    return means
