"""Estimate how long calls take when nothing else slows the machine: one log value per wave and cell.

Waves that are missing are NaN.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qx.statistics.student_t import Floats, finite

#: Mean rank, from 0 (best) to 1, of the samples of a cell in a wave that are averaged.
RANK = 0.075
#: Number of samples in a wave that ``RANK`` needs: the best of fewer has a higher mean rank.
MIN_SAMPLES = 10

Booleans: TypeAlias = NDArray[np.bool_]
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
    """Reduce samples to the log of one value for each wave and cell.

    The value is the mean log of the best samples, as many as have a mean rank of ``rank`` (15 % where there
    are many). Logs are averaged so that rates say exactly what the times of the same calls do.

    Other work on a machine only ever makes a call take longer: for a tenth of a millisecond or for seconds,
    and at times for half of all calls. All cells of a wave take turns in the same rounds, in an order drawn
    anew for each (randomised interleaving: Abedi & Brecht, 2017), so that all have the same quiet moments.
    ``benchmarks/scheduling.py`` compares this with ratios taken in every round, of medians, quartiles and
    trimmed means, with and without the rounds that were disturbed.

    A cell whose launch ended before the wave did is left out of that wave, since it ran under other
    conditions: one that has fewer rounds than others, unless they are spread over the whole wave
    (``spread_rounds``).

    Parameters
    ----------
    values : array-like of float, shape [samples]
        Positive samples, such as times of calls in ms.
    cells, waves, rounds : array-likes of int, shape [samples]
        Cell, wave and round of each sample, counted from 0.
    better : {"lower", "higher", "neither"}
        Which samples are the best; with ``"neither"`` all samples are averaged.
    shape : tuple of int, optional
        ``(waves, cells)``; by default large enough for the indices that occur.
    rank : float
        Mean rank, from 0 to 1, of the samples that are averaged.

    Returns
    -------
    array of float, shape [waves, cells]
        Logs; NaN where a cell has no complete launch in a wave.

    Raises
    ------
    ValueError
        A sample is not positive or not finite.
    """
    samples = finite(values)
    if np.any(samples <= 0):
        raise ValueError("a sample must be positive to have a log")
    indices = tuple(np.asarray(index, dtype=np.int64) for index in (waves, cells))
    sizes = shape or (int(indices[0].max()) + 1, int(indices[1].max()) + 1)
    keys = np.ravel_multi_index(indices, sizes)
    means = np.full(int(np.prod(sizes)), np.nan)
    distinct_keys, best_means = _best_means(np.log(samples), keys, better, rank)
    means[distinct_keys] = best_means
    logs = means.reshape(sizes)
    return np.where(complete_launches(cells, waves, rounds, sizes)[0], logs, np.nan)


def spread_rounds(count: int, fewer: int) -> list[int]:
    """Return the numbers of ``fewer`` rounds, as evenly spread over those from 0 to ``count - 1`` as may be.

    The best of a cell's samples are those of quiet moments, of which a part of a wave has fewer.
    """
    return [number * count // fewer for number in range(fewer)]


def complete_launches(
    cells: ArrayLike, waves: ArrayLike, rounds: ArrayLike, shape: tuple[int, int]
) -> tuple[Booleans, Booleans]:
    """Find the launches that saw a wave to its end, and those of them with fewer rounds than others.

    A launch that ended early has the first rounds of a wave and lacks the last. One that has at most half of
    the rounds, spread over all (``spread_rounds``), had no more than was planned for it.

    Parameters
    ----------
    cells, waves, rounds : array-likes of int, shape [samples]
        Cell, wave and round of each sample, counted from 0.
    shape : tuple of int
        ``(waves, cells)``.

    Returns
    -------
    is_complete, has_fewer : arrays of bool, each of shape [waves, cells]
        The second holds for complete launches alone.
    """
    keys = np.ravel_multi_index(tuple(np.asarray(index, dtype=np.int64) for index in (waves, cells)), shape)
    places, numbers = _distinct_rounds(keys, np.asarray(rounds, dtype=np.int64))
    counts = np.bincount(places, minlength=int(np.prod(shape))).reshape(shape)
    most = counts.max(axis=1, keepdims=True)
    is_complete, may_be_spread = counts == most, (counts >= 2) & (2 * counts <= most)
    if not may_be_spread.any():
        return is_complete, np.zeros_like(is_complete)
    # Of each round the spread one of its launch that is not before it: they are the same.
    own, whole = counts.ravel()[places], np.broadcast_to(most, shape).ravel()[places]
    is_out = -(-numbers * own // whole) * whole // own != numbers
    has_fewer = may_be_spread & (np.bincount(places, is_out, minlength=counts.size).reshape(shape) == 0)
    return is_complete | has_fewer, has_fewer


def in_shared_rounds(
    cells: ArrayLike, waves: ArrayLike, rounds: ArrayLike, is_complete: Booleans
) -> Booleans:
    """Return ``[samples]``: whether all complete launches of the wave have the round of a sample.

    The arguments are those of ``complete_launches`` and the first that it returns.
    """
    cell, wave, number = (np.asarray(index, dtype=np.int64) for index in (cells, waves, rounds))
    keys = np.ravel_multi_index((wave, cell), is_complete.shape)
    places, numbers = _distinct_rounds(keys, number)
    rows = places // is_complete.shape[1]
    size = int(number.max(initial=0)) + 1
    holders = np.bincount(
        rows * size + numbers, is_complete.ravel()[places], minlength=len(is_complete) * size
    ).reshape(-1, size)
    is_shared = holders == is_complete.sum(axis=1)[:, None]
    return np.asarray(is_shared[wave, number] & is_complete.ravel()[keys])


def comparison_rank(samples: int) -> float:
    """Choose the mean rank at which two cells are compared.

    The best of fewer than ten samples has a higher mean rank than ``RANK``, so both cells are then compared
    at that rank.

    Parameters
    ----------
    samples : int
        Smallest number of samples that either cell has in a wave.

    Returns
    -------
    float
        Mean rank, from 0 to 1, for ``log_undisturbed``.
    """
    return RANK if samples >= MIN_SAMPLES else 1 / (samples + 1)


def _best_means(
    values: Floats, keys: NDArray[np.int64], better: Better, rank: float
) -> tuple[NDArray[np.int64], Floats]:
    """Return the distinct keys in ascending order, and for each the mean of its best values.

    With ``"neither"`` it is the mean of all values.
    """
    order = np.lexsort((-values if better == "higher" else values, keys))
    distinct, starts, counts = np.unique(keys[order], return_index=True, return_counts=True)
    # The first k of n have a mean rank of (k + 1) / 2 of n + 1: from ten samples on, whatever n is.
    kept = counts if better == "neither" else np.maximum(1, np.rint(2 * rank * (counts + 1) - 1))
    positions = np.repeat(np.arange(len(distinct)), counts)
    is_kept = np.arange(len(values)) - starts[positions] < kept[positions]
    return distinct, np.bincount(positions, values[order] * is_kept) / kept


def _distinct_rounds(
    keys: NDArray[np.int64], rounds: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the key and the number of every round that any sample is of, each ``[rounds]``."""
    count = int(rounds.max(initial=0)) + 1
    pairs = np.unique(keys * count + rounds)
    return pairs // count, pairs % count
