"""What a metric of the items that were evaluated says of a cell, and of two cells on the same items.

Its samples are a value per item, a statistic of the whole set, or one value of which nobody knows how it goes
by the items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import evolve

from qx.analysis import whole_set
from qx.contract.records import Metric
from qx.results.recording import Floats, Series
from qx.statistics import intervals
from qx.values import Array, JsonObject

#: Numbers that are drawn at a time, so that memory stays at some tens of MiB.
DRAWN = 5_000_000
#: Why a single value of phase ``predictions``, and one of phase ``derived``, has no interval.
UNKNOWN_ERROR = {
    "predictions": "one value of all items (samples='exact') does not say how sure it is; the metric must "
    "give a value per item, or implement 'statistic' (samples='per_set')",
    "derived": "one value derived from samples (samples='exact') does not say how sure it is; the metric "
    "must give a value per item, launch or call, or implement 'statistic' (samples='per_set')",
}


def is_exact(metric: Metric, series: Series) -> bool:
    """Whether there is no sampling error: it is of the artifact's files, or derived from such values."""
    return metric.samples == "exact" and (metric.phase == "artifact" or series.exact)


def estimate(metric: Metric, series: Series, level: float = 0.95) -> intervals.Estimate:
    """The value of a cell."""
    if metric.samples == "exact":
        value = float(series.values[0])
        if is_exact(metric, series):
            return intervals.Estimate(value, (value, value), 1)
        return intervals.Estimate(value, None, 1, UNKNOWN_ERROR[metric.phase])
    if metric.samples == "per_set":
        found = whole_set.estimate(series.resampled[0], level)
    else:
        found = intervals.item_mean(series.values, level)
    if found.ci is None or metric.unit != "fraction" or not 0 <= found.value <= 1:
        return found
    return evolve(found, ci=(max(0.0, found.ci[0]), min(1.0, found.ci[1])))


def compare(metric: Metric, ours: Series, theirs: Series, level: float = 0.95) -> intervals.Difference | None:
    """How one cell compares with another; None where values that are not positive have no ratio.

    Raises ``ValueError`` where they were evaluated on different items.
    """
    kind = metric.compare
    if metric.samples == "per_set":
        return whole_set.compare(ours.resampled[0], theirs.resampled[0], kind, level)
    if metric.samples == "per_item":
        if kind == "difference":
            return intervals.paired_difference(ours.values, theirs.values, level)
        return intervals.ratio_of_means(ours.values, theirs.values, kind, level)
    compared = intervals.exact_or_none(float(ours.values[0]), float(theirs.values[0]), kind)
    if compared is None or (is_exact(metric, ours) and is_exact(metric, theirs)):
        return compared
    return evolve(compared, ci=None, method="", reason=UNKNOWN_ERROR[metric.phase])


def identical(
    metric: Metric, ours: Series, theirs: Series, outputs: tuple[Array | None, Array | None]
) -> bool:
    """Whether two cells are the same on every item: then nothing can tell them apart, on any items.

    ``outputs`` are what they gave for the items, or None. They decide where a single value does not show it.
    """
    match metric.samples:
        case "per_item":
            return np.array_equal(ours.values, theirs.values)
        case "per_set":
            return whole_set.identical(ours.resampled[0], theirs.resampled[0])
        case "exact" if metric.phase == "predictions":
            first, second = outputs
            if first is None or second is None:
                return False
            same = np.array_equal(ours.values, theirs.values)
            return same and np.array_equal(first, second, equal_nan=True)
    return False


def pairwise(metric: Metric, rows: Sequence[Series]) -> tuple[Floats, Floats]:
    """Intervals of all pairs of cells, ``[cells, cells]``, of ratios logs; NaN where nothing is known."""
    relative = metric.compare != "difference"
    if metric.samples == "per_set":
        return whole_set.pairwise([row.resampled[0] for row in rows], relative=relative)
    if metric.samples == "per_item":
        every = [row.values for row in rows]
        return intervals.pairwise_ratios(every) if relative else intervals.pairwise_differences(every)
    values = np.array([row.values[0] for row in rows])
    values = logs(values) if relative else values
    exact = np.array([is_exact(metric, row) for row in rows])
    known = (exact[:, None] & exact[None, :]) | np.eye(len(rows), dtype=bool)
    apart = np.where(known, values[:, None] - values[None, :], np.nan)
    return apart, apart


def drawn_values(
    metric: Metric, rows: Sequence[Series], count: int, generator: np.random.Generator
) -> Floats:
    """Values of cells on items that are drawn anew, ``[count, cells]``; of ratios logs."""
    if metric.samples == "per_set":
        values = whole_set.drawn_values([row.resampled[0] for row in rows], count, generator)
    elif metric.samples == "per_item":
        values = _drawn_means(np.array([row.values for row in rows]), count, generator)
    else:
        values = np.array([row.values[0] for row in rows])
    return logs(values) if metric.compare != "difference" else values


def groups(metric: Metric, own: Series, base: Series | None) -> JsonObject:
    """Value and paired difference of each group of items, corrected for looking at all of them.

    ``base`` is the baseline's, or None where there is none to compare with.
    """
    told: JsonObject = {}
    # Bonferroni: all intervals of differences together hold with 95 %.
    level = 1 - 0.05 / max(1, len(own.group_names))
    for index, name in enumerate(own.group_names):
        members = _group(metric, own, index)
        if members is None:
            continue
        found = estimate(metric, members)
        told[name] = {"value": found.value, "ci": found.ci, "n": found.n}
        other = None if base is None else _group(metric, base, index)
        if other is not None and metric.compare == "difference":
            compared = compare(metric, members, other, level)
            assert compared is not None  # there are no ratios here
            told[name]["vs_baseline"] = {
                "kind": compared.kind,
                "value": compared.value,
                "ci": compared.ci,
                "level": level,
                "p": compared.p,
            }
    tested = [
        one["vs_baseline"]
        for one in told.values()
        if one.get("vs_baseline") and one["vs_baseline"]["p"] is not None
    ]
    for one, p in zip(tested, intervals.holm([one["p"] for one in tested]), strict=True):
        one["p_adjusted"] = p
    return told


def _group(metric: Metric, series: Series, index: int) -> Series | None:
    """The samples of one group of items; None where it has none."""
    if metric.samples == "per_set":
        of_group = series.resampled[1 + index]
        if not of_group.items:
            return None
        return evolve(series, values=np.array([of_group.value]), resampled=(of_group,))
    assert series.groups is not None
    members = series.groups == index
    return evolve(series, values=series.values[members]) if members.any() else None


def logs(values: Floats) -> Floats:
    """Logs of values that may be 0: far below those of all others."""
    result: Floats = np.log(np.maximum(values, np.finfo(float).tiny))
    return result


def _drawn_means(items: Floats, count: int, generator: np.random.Generator) -> Floats:
    """Means of items ``[cells, n]`` drawn with replacement, the same items for all cells: ``[count, cells]``.

    Items that are alike in all cells are drawn together: where values are 0 and 1 they are of few kinds.
    """
    kinds, counts = np.unique(items, axis=1, return_counts=True)
    total, at_once = counts.sum(), max(1, DRAWN // len(counts))
    sums = [
        generator.multinomial(total, counts / total, size=min(at_once, count - start)) @ kinds.T
        for start in range(0, count, at_once)
    ]
    means: Floats = np.concatenate(sums) / total
    return means
