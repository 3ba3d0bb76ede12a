"""Intervals of statistics of a whole set (F1, calibration error, the worst class), by resampling its items.

Such a statistic is no mean, but it moves with the items of the set nearly as a mean does: by the *influence*
of each, which is how the statistic differs where that item, or a group of items, is left out (the jackknife:
Tukey, 1958). So its interval is Student's t over the influences, with the pseudo-items of
``qx.statistics.items``. That also serves the levels that ``qx gate`` asks for, for which a bootstrap would
need 100,000 draws. Where items were drawn with replacement too (the bootstrap: Efron, 1979), and the draws
spread more than the influences say, their spread is the error: of what is not smooth, such as a median, the
jackknife knows too little.

Cells on the same items are compared in pairs: influences by group of items, and draws by draw. Groups and
draws therefore go by nothing but the number of items, so that they are the same in every cell and every run.

What an interval holds is the value that sets of as many items give on average. Of a statistic that is biased
in small sets that is not what an endless set would give: calibration error is too large in small sets, the
worst of several classes too low. Two cells on one set share most of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from qx.results.recording import Resampled
from qx.statistics import intervals, items
from qx.statistics.student_t import Floats

#: Any number; another one makes runs from before incomparable.
SEED = 20_170
#: With fewer draws than these the bootstrap is not asked.
FEWEST_DRAWS = 30


@lru_cache(maxsize=8)
def _order(count: int) -> NDArray[np.int64]:
    return _generator(count).permutation(count)


def group_of_items(count: int, groups: int) -> NDArray[np.int64]:
    """The group of each of ``count`` items, ``[count]``, at random; each is two groups of twice as many."""
    return np.asarray(_order(count) % groups)


def drawn_items(count: int, draw: int) -> NDArray[np.int64]:
    """As many items as there are, drawn with replacement, ``[count]``; the same for a count and a draw."""
    return _generator(count, draw).randint(0, count, count, dtype=np.int64)


def _generator(*numbers: int) -> np.random.RandomState:
    # Of all generators of numpy this alone promises the same numbers in every version, as runs that are
    # compared may be of two.
    return np.random.RandomState([SEED, *numbers])


def estimate(sample: Resampled, level: float = 0.95) -> intervals.Estimate:
    """The statistic of one cell."""
    reason = _without_interval(sample)
    if not reason and np.isnan(sample.step) and items.too_few(sample.influence):
        reason = items.TOO_FEW
    if reason:
        return intervals.Estimate(sample.value, None, sample.items, reason)
    over_items = _with_draws(items.moments(sample.influence), sample.draws)
    step = np.fmax(sample.step, over_items.largest)
    low, high = items.ends(evolve(over_items, mean=np.asarray(sample.value)), step, level)
    return intervals.Estimate(sample.value, (float(low), float(high)), sample.items)


def compare(
    ours: Resampled,
    theirs: Resampled,
    kind: Literal["ratio", "speedup", "difference"],
    level: float = 0.95,
) -> intervals.Difference:
    """Compare the statistic of two cells on the same items. Ratios need positive values."""
    if ours.items != theirs.items:
        raise ValueError(f"a comparison in pairs needs the same items, not {ours.items} and {theirs.items}")
    stack = _Stack.of([ours, theirs], relative=kind != "difference")
    value, ci, p, method = float(stack.values[0] - stack.values[1]), None, None, ""
    reason = _without_interval(ours) or _without_interval(theirs)
    if not reason:
        over_items, step = _apart(stack.row(0), stack.row(1))
        (low,), (high,) = items.ends(over_items, step, level)
        ci, p = (float(low), float(high)), float(items.p_value(over_items, step)[0])
        method = _method(ours.items, over_items.count, stack.draws.shape[1])
    if kind == "difference":
        return intervals.Difference(kind, value, ci, p, method, reason)
    return evolve(intervals.as_ratio(kind, value, ci, p, method), reason=reason)


def pairwise(samples: Sequence[Resampled], *, relative: bool, level: float = 0.95) -> tuple[Floats, Floats]:
    """Intervals ``(low, high)`` of all pairs, ``[cells, cells]``, of ratios logs; NaN where there is none."""
    low, high = np.full((2, len(samples), len(samples)), np.nan)
    known = [cell for cell, sample in enumerate(samples) if not _without_interval(sample)]
    if known:
        stack = _Stack.of([samples[cell] for cell in known], relative=relative)
        for row, cell in enumerate(known):
            low[cell, known], high[cell, known] = items.ends(*_apart(stack.row(row), stack), level)
    return low, high


def _without_interval(sample: Resampled) -> str:
    """Why a statistic has no interval; empty where it has one."""
    return sample.reason or ("" if len(sample.influence) > 1 else "it is of a single item")


def identical(ours: Resampled, theirs: Resampled) -> bool:
    """Whether two cells have the same value whatever items are drawn or left out."""
    return (
        (ours.value, ours.items) == (theirs.value, theirs.items)
        and np.array_equal(ours.influence, theirs.influence)
        and np.array_equal(ours.draws, theirs.draws, equal_nan=True)
    )


def drawn_values(samples: Sequence[Resampled], count: int, generator: np.random.Generator) -> Floats:
    """Values of cells in ``count`` resampled sets, ``[count, cells]``: the same sets for all cells."""
    draws = min(len(sample.draws) for sample in samples)
    values = np.array([sample.value for sample in samples])
    if not draws:
        return np.tile(values, (count, 1))
    every = np.array([sample.draws[:draws] for sample in samples])
    # Where a draw has no number, the value stands in: nothing else is known.
    every = np.where(np.isnan(every), values[:, None], every)
    chosen = np.arange(count) if count <= draws else generator.integers(0, draws, count)
    return np.asarray(every[:, chosen].T)


@frozen(eq=False)
class _Stack:
    """Cells on the same items, on the scale on which they are compared."""

    #: ``[cells]``, ``[cells, groups]``, ``[cells, draws]``, ``[cells]``.
    values: Floats
    influence: Floats
    draws: Floats
    steps: Floats
    scale: items.Scale

    @classmethod
    def of(cls, samples: Sequence[Resampled], *, relative: bool) -> _Stack:
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
        scale = _scale_of_items(influence, samples[0].items)
        return cls(values, influence, drawn, steps, scale)

    def row(self, cell: int) -> _Stack:
        """One cell by itself."""
        only = slice(cell, cell + 1)
        scale = items.Scale(self.scale.extent[only], self.scale.deviation[only])
        return _Stack(self.values[only], self.influence[only], self.draws[only], self.steps[only], scale)


def _coarser(sample: Resampled, groups: int) -> Floats:
    """Influences of fewer groups: the mean over the items of each."""
    if len(sample.influence) == groups:
        return np.asarray(sample.influence)
    own = sample.influence[group_of_items(sample.items, len(sample.influence))]
    places = group_of_items(sample.items, groups)
    return np.bincount(places, weights=own, minlength=groups) / np.bincount(places, minlength=groups)


def _scale_of_items(influence: Floats, count: int) -> items.Scale:
    """How far single items move a statistic, of which groups of items are known, ``[cells, groups]``."""
    groups = influence.shape[1]
    if not groups:
        nothing = np.full(len(influence), np.nan)
        return items.Scale(nothing, nothing)
    # A group moves it as a sum does, by the square root of as many items as it has.
    scale, together = items.Scale.of(influence), np.sqrt(count / groups)
    return items.Scale(scale.extent / together, scale.deviation / together)


def _apart(ours: _Stack, theirs: _Stack) -> tuple[items.Moments, Floats]:
    """Moments and step of the difference of one cell to each of others, ``[cells]``."""
    values = ours.values - theirs.values
    influence = ours.influence - theirs.influence
    over_items = _with_draws(items.moments(influence), ours.draws - theirs.draws)
    probed = np.maximum(ours.steps, theirs.steps)
    unprobed = items.step_between(ours.scale, theirs.scale, over_items, _alike(influence))
    step = np.where(np.isnan(probed), unprobed, np.fmax(probed, over_items.largest))
    return evolve(over_items, mean=values), step


def _alike(influence: Floats) -> Floats:
    """The share of items in which two cells do not differ, but for a shift of all."""
    apart = np.abs(influence - np.median(influence, axis=-1, keepdims=True))
    return np.asarray((apart <= items.ALIKE * apart.max(axis=-1, keepdims=True)).mean(axis=-1))


def _with_draws(over_items: items.Moments, draws: Floats) -> items.Moments:
    """With the spread of the draws in place of the error where it is larger."""
    finite = np.isfinite(draws)
    counts = finite.sum(axis=-1)
    if not np.any(counts >= FEWEST_DRAWS):
        return over_items
    safe = np.maximum(counts, 2)
    means = np.where(finite, draws, 0.0).sum(axis=-1) / safe
    squares = (np.where(finite, draws - means[..., None], 0.0) ** 2).sum(axis=-1)
    spread = np.where(counts >= FEWEST_DRAWS, np.sqrt(squares / (safe - 1)), 0.0)
    return evolve(over_items, error=np.maximum(over_items.error, spread))


def _method(count: int, groups: int, draws: int) -> str:
    of = f"{count:,} items" if groups == count else f"{groups:,} groups of {count:,} items"
    return f"t over the influence of {of}, with pseudo-items; {draws:,} bootstrap draws"
