"""Estimators of waves that qx does not use: a value for each block, ratios within rounds, their mean.

``benchmarks.scheduling`` compares them with the one that it uses, ``qx.statistics.undisturbed``.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

#: The estimator of the calls of one block.
BlockEstimator: TypeAlias = Literal["median", "lower_quartile", "trimmed_mean"]
#: Share of the calls that ``trimmed_mean`` leaves out at each end of a block.
TRIM = 0.2


def log_blocks(times: np.ndarray, estimator: BlockEstimator) -> np.ndarray:
    """Return logs of block values ``[waves, rounds, cells]`` of calls ``[waves, rounds, cells, calls]``."""
    match estimator:
        case "median":
            values = np.median(times, axis=3)
        case "lower_quartile":
            values = np.quantile(times, 0.25, axis=3)
        case "trimmed_mean":
            cut = int(TRIM * times.shape[3])
            values = np.sort(times, axis=3)[..., cut : times.shape[3] - cut].mean(axis=3)
    logs: np.ndarray = np.log(values)
    return logs


def undisturbed(blocks: np.ndarray, share: float) -> np.ndarray:
    """Return ``blocks`` with NaN in place of all but the fastest ``share`` of a cell's blocks in each wave.

    With a share above one half any two cells of a wave keep a round in common.
    """
    rank = np.argsort(np.argsort(blocks, axis=1, kind="stable"), axis=1, kind="stable")
    kept: np.ndarray = np.where(rank < np.ceil(share * blocks.shape[1]), blocks, np.nan)
    return kept


def log_ratios(blocks: np.ndarray) -> np.ndarray:
    """Return log ratios of all pairs of cells, ``[waves, cells, cells]``, as means over common rounds."""
    ratios: np.ndarray = np.nanmean(blocks[:, :, :, None] - blocks[:, :, None, :], axis=1)
    return ratios
