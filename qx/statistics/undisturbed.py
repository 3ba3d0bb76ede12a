"""What each cell's calls take in each wave when nothing else slows the machine: one log value each.

Waves that are missing are NaN.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qx.statistics.student_t import Floats, finite

#: The mean rank, from 0 to 1, of the samples that count among those of a cell in a wave: the best.
RANK = 0.075
#: With fewer samples in a wave the best of all has a higher one.
FEW = 10

Better: TypeAlias = Literal["lower", "higher", "neither"]


def log_undisturbed(
    values: ArrayLike,
    cells: ArrayLike,
    waves: ArrayLike,
    rounds: ArrayLike,
    better: Better = "lower",
    shape: tuple[int, int] | None = None,
    rank: float = RANK,
) -> Floats:
    """Reduce samples to the log of one value for each wave and cell, ``[waves, cells]``.

    ``values`` are positive, such as times of calls in ms, ``[samples]``; ``cells``, ``waves`` and ``rounds``
    say of each where it belongs, integers from 0. ``shape`` is ``(waves, cells)``, by default the largest
    that occur. The value is the mean log of the best samples, as many as have a mean rank of ``rank`` (15 %
    of many): of logs, so that rates say exactly what the times of the same calls do. Whatever else goes on in
    a machine only ever makes a call take longer: for a tenth of a millisecond or for seconds, and at times
    for half of all calls. All cells of a wave take turns in the same rounds, in an order drawn anew for each
    (randomised interleaving: Abedi & Brecht, 2017), so each of them meets the quiet moments of the same
    seconds. ``benchmarks/scheduling.py`` compares this with ratios taken in every round, of medians,
    quartiles and trimmed means, with and without the rounds that were disturbed.

    A cell whose launch did not see a wave to its end has no value in it: it met another machine.
    """
    samples = finite(values)
    if np.any(samples <= 0):
        raise ValueError("a sample must be positive to have a log")
    belongs = tuple(np.asarray(index, dtype=np.int64) for index in (waves, cells))
    sizes = shape or tuple(int(index.max()) + 1 for index in belongs)
    keys = np.ravel_multi_index(belongs, sizes)
    means = np.full(int(np.prod(sizes)), np.nan)
    distinct, of_best = _best_means(np.log(samples), keys, better, rank)
    means[distinct] = of_best
    logs = means.reshape(sizes)
    seen = _rounds_seen(keys, np.asarray(rounds, dtype=np.int64), sizes)
    whole: Floats = np.where(seen == seen.max(axis=1, keepdims=True), logs, np.nan)
    return whole


def rank_of(fewest: int) -> float:
    """The mean rank by which two cells are compared, of which one has so few samples in a wave.

    Of fewer than ten the best of all has a higher mean rank than ``RANK``: the other's best must not be held
    against it.
    """
    return RANK if fewest >= FEW else 1 / (fewest + 1)


def _best_means(
    values: Floats, keys: NDArray[np.int64], better: Better, rank: float
) -> tuple[NDArray[np.int64], Floats]:
    """Distinct keys in ascending order, and for each the mean of its best values; of all for neither."""
    order = np.lexsort((-values if better == "higher" else values, keys))
    distinct, starts, counts = np.unique(keys[order], return_index=True, return_counts=True)
    # Of n the first k have a mean rank of (k + 1) / 2 of n + 1: the same for many as for few, from ten on.
    kept = counts if better == "neither" else np.maximum(1, np.rint(2 * rank * (counts + 1) - 1))
    of = np.repeat(np.arange(len(distinct)), counts)
    among = np.arange(len(values)) - starts[of] < kept[of]
    return distinct, np.bincount(of, values[order] * among) / kept


def _rounds_seen(
    keys: NDArray[np.int64], rounds: NDArray[np.int64], sizes: tuple[int, ...]
) -> NDArray[np.int64]:
    """How many rounds each cell had in each wave, ``[waves, cells]``."""
    count = int(rounds.max(initial=0)) + 1
    pairs = np.unique(keys * count + rounds)
    return np.bincount(pairs // count, minlength=int(np.prod(sizes))).reshape(sizes)
