"""Intervals of statistics of a whole set (F1, calibration error, the worst class), by resampling its items.

Such a statistic is no mean, but it moves with the items of the set nearly as a mean does. The *influence* of
an item, or of a group of items, is how much the statistic changes where it is left out (the jackknife: Tukey,
1958). The interval is Student's t over the influences, with the pseudo-items of ``qx.statistics.items``. That
also works at the levels that ``qx gate`` needs, where a bootstrap would need 100,000 draws. Where items were
also drawn with replacement (the bootstrap: Efron, 1979), and the draws spread more than the influences say,
their spread is the error, since the jackknife is unreliable for statistics that are not smooth, such as a
median.

Cells on the same items are compared in pairs: influences group by group, and draws draw by draw. Groups and
draws therefore depend on nothing but the number of items, so that they are the same in every cell and run.

Two things make intervals wider than that, since simulated ones missed the truth too often
(``benchmarks/set_intervals.py``). A value that few items have changed moves a little with every other item,
as all of them share its scale (R2, perplexity); then an unseen item is expected to differ by
``NEARLY_EQUAL_STEP`` standard deviations of the items. And where influences have a heavy tail, the set has
probably none of the items that decide the value in others, so its interval is longer on that side.

The interval is for the mean value over sets of the same size. A statistic that is biased in small sets has
another value in an infinite set: calibration error is too large in small sets, the worst of several classes
too low. Two cells on one set share most of that bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray
from scipy.special import ndtri

from qx.results.recording import Resampled
from qx.statistics import intervals, items, over_builds
from qx.statistics.over_builds import BuildsMean
from qx.statistics.student_t import Floats

#: Seed of groups and draws; with another seed, runs could not be compared with earlier ones.
SEED = 20_170
#: Smallest number of draws whose spread is used.
MIN_DRAWS = 30
#: Two cells are nearly equal where half of the items differ by no more than this share of the root mean
#: square of all differences; then an unseen item may differ by so many standard deviations of the items.
NEARLY_EQUAL, NEARLY_EQUAL_STEP = 0.1, 3.5
#: Share of the items from which the index of their tail is estimated, and the smallest number of them.
TAIL_SHARE, MIN_TAIL = 0.05, 10
#: Index of a tail from which it is heavy, and at which an interval is lengthened in full: below 2 there is no
#: variance.
HEAVY_TAIL, HEAVIEST_TAIL = 2.5, 2.0
#: By how many times what the farthest item moves the value an interval is lengthened in full.
TAIL_STEPS = 7.0
#: Smallest share of the sum of squares that the farthest item of a heavy tail has.
TAIL_DOMINANCE = 0.05


@lru_cache(maxsize=8)
def _order(count: int) -> NDArray[np.int64]:
    return _generator(count).permutation(count)


def group_of_items(count: int, groups: int) -> NDArray[np.int64]:
    """Return a random group for each of ``count`` items, ``[count]``.

    With half as many groups, each is the union of two.
    """
    return np.asarray(_order(count) % groups)


def drawn_items(count: int, draw: int) -> NDArray[np.int64]:
    """Draw ``count`` of ``count`` items with replacement, ``[count]``; the same for a count and a draw."""
    return _generator(count, draw).randint(0, count, count, dtype=np.int64)


def _generator(*numbers: int) -> np.random.RandomState:
    # The only generator of numpy that promises the same numbers in every version: runs that are compared may
    # come from different versions.
    return np.random.RandomState([SEED, *numbers])


def estimate(sample: Resampled, level: float = 0.95) -> intervals.Estimate:
    """Estimate the statistic of one cell."""
    reason = _why_no_interval(sample)
    if not reason and np.isnan(sample.step) and items.has_too_few_differing(sample.influence):
        reason = items.TOO_FEW
    if reason:
        return intervals.Estimate(sample.value, None, sample.items, reason)
    over_items = _with_draws(items.moments(sample.influence), sample.draws)
    step = np.fmax(sample.step, over_items.largest)
    low, high = items.ends(evolve(over_items, mean=np.asarray(sample.value)), step, level)
    longer = tail_weight(sample) * TAIL_STEPS * over_items.largest
    # In step with the rest of the interval at other levels.
    longer *= ndtri(0.5 + level / 2) / ndtri(0.5 + items.JOINT_LEVEL / 2)
    if over_items.skew < 0:
        low -= longer
    else:
        high += longer
    return intervals.Estimate(sample.value, (float(low), float(high)), sample.items)


def tail_weight(sample: Resampled) -> float:
    """Return how heavy the tail of the influences is, from 0 to 1: by how much the interval is lengthened.

    The index of the tail is that of Hill (1975), over the twentieth of the items that are farthest from the
    median. It is not asked where an item was seen to change the value at most by so much: such a value has no
    tail, and 200 items are the least that show one.
    """
    count = len(sample.influence)
    size = int(TAIL_SHARE * count)
    if not np.isnan(sample.step) or size < MIN_TAIL:
        return 0.0
    distances = np.abs(sample.influence - np.median(sample.influence))
    if np.square(distances.max()) <= TAIL_DOMINANCE * np.square(distances).sum():
        return 0.0
    tail = np.sort(np.partition(distances, count - size - 1)[count - size - 1 :])
    if tail[0] <= items.EQUALITY_TOLERANCE * tail[-1]:
        # Few items differ at all: that is no tail.
        return 0.0
    spread = float(np.log(tail[1:] / tail[0]).mean())
    index = 1 / spread if spread > 0 else np.inf
    return float(np.clip((HEAVY_TAIL - index) / (HEAVY_TAIL - HEAVIEST_TAIL), 0.0, 1.0))


def compare(
    ours: Resampled,
    theirs: Resampled,
    kind: Literal["ratio", "speedup", "difference"],
    level: float = 0.95,
) -> intervals.Difference:
    """Compare the statistics of two cells on the same items. Ratios need positive values."""
    if ours.items != theirs.items:
        raise ValueError(f"a comparison in pairs needs the same items, not {ours.items} and {theirs.items}")
    stack = _Stack.from_samples([ours, theirs], relative=kind != "difference")
    value, ci, p, method = float(stack.values[0] - stack.values[1]), None, None, ""
    reason = _why_no_interval(ours) or _why_no_interval(theirs)
    if not reason:
        over_items, step = _difference(stack.rows(0, 1), stack.rows(1, 2), level)
        (low,), (high,) = items.ends(over_items, step, level)
        ci, p = (float(low), float(high)), float(items.p_value(over_items, step)[0])
        method = _method(ours.items, over_items.count, stack.draws.shape[1])
    if kind == "difference":
        return intervals.Difference(kind, value, ci, p, method, reason)
    return evolve(intervals.as_ratio(kind, value, ci, p, method), reason=reason)


def pairwise(samples: Sequence[Resampled], *, relative: bool, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return ``(low, high)`` of all pairs of cells, ``[cells, cells]``, in logs for ratios.

    NaN where a cell has no interval.
    """
    low, high = np.full((2, len(samples), len(samples)), np.nan)
    cells = [cell for cell, sample in enumerate(samples) if not _why_no_interval(sample)]
    if cells:
        stack = _Stack.from_samples([samples[cell] for cell in cells], relative=relative)
        for row, cell in enumerate(cells):
            others = cells[row:]
            ends = items.ends(
                *_difference(stack.rows(row, row + 1), stack.rows(row, len(cells)), level), level
            )
            low[cell, others], high[cell, others] = ends
            low[others, cell], high[others, cell] = -ends[1], -ends[0]
    return low, high


def mean_over_builds(
    builds: Sequence[Resampled], baseline: Resampled | None, *, relative: bool, level: float = 0.95
) -> BuildsMean:
    """Estimate the mean over builds of one cell, or of their differences from the baseline.

    With ``relative`` it is the mean of logs.
    """
    samples = [*builds, *([] if baseline is None else [baseline])]
    stack = _Stack.from_samples(samples, relative=relative)
    ours, count = slice(len(builds)), len(builds)
    influence, draws = stack.influence[ours], stack.draws[ours]
    joined = influence.mean(axis=0), draws.mean(axis=0)
    if baseline is not None:
        joined = joined[0] - stack.influence[count], joined[1] - stack.draws[count]
    over_items = _with_draws(items.moments(joined[0]), joined[1])
    probed = stack.steps.max() if np.isfinite(stack.steps).all() else np.nan
    step = np.fmax(probed, over_items.largest)
    if baseline is not None and np.isnan(probed):
        extent, spread = stack.scale.extent, stack.scale.deviation
        largest = items.Scale(extent[ours].max(), spread[ours].max())
        theirs = items.Scale(extent[count], spread[count])
        step = _step_between(largest, theirs, over_items, joined[0])
    values = stack.values[ours] - (0.0 if baseline is None else stack.values[count])
    return over_builds.mean_over_builds(values, over_items, float(step), level)


def _why_no_interval(sample: Resampled) -> str:
    """Return why a statistic has no interval; empty where it has one."""
    return sample.reason or ("" if len(sample.influence) > 1 else "it has a single item")


def are_identical(ours: Resampled, theirs: Resampled) -> bool:
    """Return whether two cells have the same value whatever items are drawn or left out."""
    return (
        (ours.value, ours.items) == (theirs.value, theirs.items)
        and np.array_equal(ours.influence, theirs.influence)
        and np.array_equal(ours.draws, theirs.draws, equal_nan=True)
    )


def drawn_values(samples: Sequence[Resampled], count: int, generator: np.random.Generator) -> Floats:
    """Return values of cells in ``count`` resampled sets, ``[count, cells]``, the same sets for all cells."""
    draws = min(len(sample.draws) for sample in samples)
    values = np.array([sample.value for sample in samples])
    if not draws:
        return np.tile(values, (count, 1))
    drawn = np.array([sample.draws[:draws] for sample in samples])
    # A draw without a number is replaced by the value, for lack of anything better.
    drawn = np.where(np.isnan(drawn), values[:, None], drawn)
    chosen = np.arange(count) if count <= draws else generator.integers(0, draws, count)
    return np.asarray(drawn[:, chosen].T)


@frozen(eq=False, slots=False)
class _Stack:
    """Cells on the same items, on the scale on which they are compared: logs for ratios."""

    #: Number of items.
    count: int
    #: Value of each cell, ``[cells]``.
    values: Floats
    #: Influence of each group of items, ``[cells, groups]``.
    influence: Floats
    #: Values in resampled sets, ``[cells, draws]``.
    draws: Floats
    #: How far one changed item was seen to move the value, ``[cells]``; NaN where that was not tried.
    steps: Floats

    @classmethod
    def from_samples(cls, samples: Sequence[Resampled], *, relative: bool) -> _Stack:
        """Stack the statistics of cells, with as many groups and draws as all of them have."""
        groups = min(len(sample.influence) for sample in samples)
        draws = min(len(sample.draws) for sample in samples)
        values = np.array([sample.value for sample in samples])
        influence = np.array([_coarser(sample, groups) for sample in samples])
        drawn = np.array([sample.draws[:draws] for sample in samples], dtype=float)
        steps = np.array([sample.step for sample in samples])
        if relative:
            influence, steps = influence / values[:, None], steps / values
            drawn = np.log(np.where(drawn > 0, drawn, np.nan))
            values = np.log(values)
        return cls(samples[0].items, values, influence, drawn, steps)

    @cached_property
    def scale(self) -> items.Scale:
        """How far single items move the value, ``[cells]``."""
        return _scale_of_items(self.influence, self.count)

    def rows(self, start: int, stop: int) -> _Stack:
        """Return some of the cells, in their order."""
        rows = slice(start, stop)
        return _Stack(self.count, self.values[rows], self.influence[rows], self.draws[rows], self.steps[rows])


def _coarser(sample: Resampled, groups: int) -> Floats:
    """Return the influences of fewer groups: the mean over the items of each."""
    if len(sample.influence) == groups:
        return np.asarray(sample.influence)
    own = sample.influence[group_of_items(sample.items, len(sample.influence))]
    places = group_of_items(sample.items, groups)
    return np.bincount(places, weights=own, minlength=groups) / np.bincount(places, minlength=groups)


def _scale_of_items(influence: Floats, count: int) -> items.Scale:
    """Return how far single items move a statistic, from the influences of groups ``[cells, groups]``."""
    groups = influence.shape[1]
    if not groups:
        unknown = np.full(len(influence), np.nan)
        return items.Scale(unknown, unknown)
    # A group moves the statistic as a sum does: by the square root of its number of items.
    scale, factor = items.Scale.from_items(influence), np.sqrt(count / groups)
    return items.Scale(scale.extent / factor, scale.deviation / factor)


def _difference(ours: _Stack, theirs: _Stack, level: float) -> tuple[items.Moments, Floats]:
    """Return moments and step of the differences of one cell to others, ``[cells]``."""
    values = ours.values - theirs.values
    influence = ours.influence - theirs.influence
    moments = items.moments(influence, with_skew=level > items.JOINT_LEVEL)
    over_items = _with_draws(moments, ours.draws - theirs.draws)
    probed = np.maximum(ours.steps, theirs.steps)
    step = np.fmax(probed, over_items.largest)
    if np.isnan(probed).any():
        unprobed = _step_between(ours.scale, theirs.scale, over_items, influence)
        step = np.where(np.isnan(probed), unprobed, step)
    return evolve(over_items, mean=values), step


def _step_between(
    ours: items.Scale, theirs: items.Scale, over_items: items.Moments, influence: Floats
) -> Floats:
    """Estimate how far one more item may move the difference of two statistics, ``[...]``.

    ``influence`` is the difference of the influences of each item, ``[..., items]``, in which all items may
    be shifted alike.
    """
    deviations = np.abs(influence - np.median(influence, axis=-1, keepdims=True))
    largest = deviations.max(axis=-1, keepdims=True)
    equal_share = (deviations <= items.EQUALITY_TOLERANCE * largest).mean(axis=-1)
    step = items.step_between(ours, theirs, over_items, equal_share)
    spread = np.sqrt(np.square(deviations).mean(axis=-1))
    nearly_equal = np.median(deviations, axis=-1) <= NEARLY_EQUAL * spread
    wider = NEARLY_EQUAL_STEP * np.maximum(ours.deviation, theirs.deviation)
    return np.asarray(np.where(nearly_equal, np.fmax(step, wider), step))


def _with_draws(over_items: items.Moments, draws: Floats) -> items.Moments:
    """Return the moments with the spread of the draws as the error, where it is larger."""
    finite = np.isfinite(draws)
    counts = finite.sum(axis=-1)
    if not np.any(counts >= MIN_DRAWS):
        return over_items
    safe = np.maximum(counts, 2)
    means = np.where(finite, draws, 0.0).sum(axis=-1) / safe
    squares = (np.where(finite, draws - means[..., None], 0.0) ** 2).sum(axis=-1)
    spread = np.where(counts >= MIN_DRAWS, np.sqrt(squares / (safe - 1)), 0.0)
    return evolve(over_items, error=np.maximum(over_items.error, spread))


def _method(count: int, groups: int, draws: int) -> str:
    units = f"{count:,} items" if groups == count else f"{groups:,} groups of {count:,} items"
    return f"t over the influence of {units}, with pseudo-items; {draws:,} bootstrap draws"
