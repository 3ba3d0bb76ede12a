"""Blocks of timed calls: one log value each, and ratios of cells within the rounds that they share.

A missing block is NaN. Log ratios are ``log(ours / theirs)``.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from attrs import frozen
from numpy.typing import ArrayLike, NDArray

from qx.student import Floats, finite, quotient

#: What stands for the calls of one block.
BlockEstimator: TypeAlias = Literal["median", "lower_quartile", "trimmed_mean"]

#: Share of the calls that ``trimmed_mean`` leaves out at each end of a block.
TRIM = 0.2
#: Share of the blocks of a cell in a wave that ``LogBlocks.undisturbed`` keeps. Above one half, any two cells
#: of a wave keep a round in common.
KEPT = 0.6


@frozen(eq=False)
class LogBlocks:
    """Logs of block values, ``[waves, rounds, cells]``; NaN where a cell did not finish the block."""

    blocks: Floats

    def undisturbed(self, share: float = KEPT) -> LogBlocks:
        """The same without the slowest blocks of each cell in each wave, of which it keeps this share.

        Whatever else goes on in a machine only ever adds time, and to a few blocks much of it: 10 % over half
        a second, where a round is to be told to 1 %. ``benchmarks/scheduling.py`` compares ways to deal with
        them; this one keeps ratios within rounds, and treats all cells alike.
        """
        rank = np.argsort(np.argsort(self.blocks, axis=1, kind="stable"), axis=1, kind="stable")
        kept = np.ceil(share * np.count_nonzero(~np.isnan(self.blocks), axis=1, keepdims=True))
        return LogBlocks(np.where(rank < kept, self.blocks, np.nan))

    def log_ratios(self, ours: int, theirs: int) -> Floats:
        """Log ratio of two cells in each wave, ``[waves]``, over the rounds that both have; NaN if none."""
        ratios = self.blocks[:, :, ours] - self.blocks[:, :, theirs]
        return quotient(np.nansum(ratios, axis=1), np.count_nonzero(~np.isnan(ratios), axis=1))

    def all_log_ratios(self) -> Floats:
        """``log_ratios(i, j)`` for all pairs at once, ``[waves, cells, cells]``."""
        present = ~np.isnan(self.blocks)
        there = present.astype(float)
        # Element [i, j] sums the logs of cell i over the rounds in which cell j has a block too.
        sums = np.where(present, self.blocks, 0.0).transpose(0, 2, 1) @ there
        return quotient(sums - sums.transpose(0, 2, 1), there.transpose(0, 2, 1) @ there)


def log_block_means(
    values: ArrayLike,
    cells: ArrayLike,
    waves: ArrayLike,
    rounds: ArrayLike,
    block: BlockEstimator = "median",
    shape: tuple[int, int, int] | None = None,
) -> LogBlocks:
    """Reduce calls to one log value per block; means and ratios over rounds are asked of the result.

    ``values`` are times of calls, ms, ``[calls]``, positive; ``cells``, ``waves`` and ``rounds`` say of each
    call where it belongs, integers from 0. ``shape`` is ``(waves, rounds, cells)``, by default the
    largest that occur. A ratio is taken within a round, where drift of the machine is shared (randomised
    interleaving: Abedi & Brecht, 2017), and averaged over rounds on the log scale. Of the estimators the
    median and the lower quartile are the steadiest from launch to launch.
    """
    times = finite(values)
    if np.any(times <= 0):
        raise ValueError("a time must be positive to have a log")
    indices = tuple(np.asarray(index, dtype=np.int64) for index in (waves, rounds, cells))
    sizes = shape or tuple(int(index.max()) + 1 for index in indices)
    keys, of_blocks = _per_block(times, np.ravel_multi_index(indices, sizes), block)
    logs = np.full(int(np.prod(sizes)), np.nan)
    logs[keys] = np.log(of_blocks)
    return LogBlocks(logs.reshape(sizes))


def _per_block(
    values: Floats, keys: NDArray[np.int64], block: BlockEstimator
) -> tuple[NDArray[np.int64], Floats]:
    """Distinct keys in ascending order, and for each the estimate of its values."""
    if values.shape != keys.shape:
        raise ValueError(f"each value needs its key, not {values.shape} values and {keys.shape} keys")
    ascending = values[order := np.lexsort((values, keys))]
    distinct, starts, sizes = np.unique(keys[order], return_index=True, return_counts=True)
    if block == "trimmed_mean":
        of = np.repeat(np.arange(len(distinct)), sizes)
        rank, cut = np.arange(len(ascending)) - starts[of], np.floor(TRIM * sizes)
        kept = (rank >= cut[of]) & (rank < (sizes - cut)[of])
        return distinct, np.bincount(of, ascending * kept) / (sizes - 2 * cut)
    if block not in ("median", "lower_quartile"):
        raise ValueError(f"no block estimator {block!r}: choose median, lower_quartile or trimmed_mean")
    position = (0.5 if block == "median" else 0.25) * (sizes - 1)
    below = np.floor(position).astype(np.int64)
    weight = position - below
    upper = ascending[starts + np.minimum(below + 1, sizes - 1)]
    return distinct, (1 - weight) * ascending[starts + below] + weight * upper
