"""Blocks: estimates of calls, ratios within shared rounds, and what the machine disturbs."""

from __future__ import annotations

import numpy as np
import pytest

from qx import stats
from qx.blocks import TRIM, LogBlocks, log_block_means


def blocks_of(values):
    """Arguments of ``log_block_means`` for times ``[waves, rounds, cells, calls]``; NaN: never called."""
    waves, rounds, cells, _ = np.indices(values.shape)
    called = ~np.isnan(values)
    return {
        "values": values[called],
        "cells": cells[called],
        "waves": waves[called],
        "rounds": rounds[called],
    }


@pytest.mark.parametrize("block", ["median", "lower_quartile", "trimmed_mean"])
def test_block_estimators(block):
    """A block stands as numpy's median or quartile or scipy's trimmed mean, in whatever order calls come."""
    from scipy.stats import trim_mean

    rng = np.random.default_rng(5)
    values = rng.gamma(3.0, size=(2, 3, 4, 20))
    values[1, 2, 3, 7:] = np.nan
    calls = blocks_of(values)
    shuffle = rng.permutation(len(calls["values"]))
    logs = log_block_means(**{name: of[shuffle] for name, of in calls.items()}, block=block).blocks
    estimate = {
        "median": np.median,
        "lower_quartile": lambda x: np.quantile(x, 0.25),
        "trimmed_mean": lambda x: trim_mean(x, TRIM),
    }[block]
    for index in np.ndindex(2, 3, 4):
        row = values[index]
        assert logs[index] == pytest.approx(np.log(estimate(row[~np.isnan(row)])))


def test_shared_rounds():
    """A ratio within a wave uses only the rounds that both cells have, so drift between rounds cancels."""
    drift = np.array([1.0, 10.0, 100.0])[None, :, None, None]
    values = np.ones((2, 3, 3, 4)) * drift * np.array([1.0, 2.0, 4.0])[None, None, :, None]
    values[0, 1:, 1] = np.nan
    values[1, :, 2] = np.nan
    blocks = log_block_means(**blocks_of(values))
    pairs = blocks.all_log_ratios()
    assert blocks.log_ratios(0, 1) == pytest.approx(np.log([0.5, 0.5]))
    assert pairs[0] == pytest.approx(np.log(np.array([[1, 0.5, 0.25], [2, 1, 0.5], [4, 2, 1]])))
    assert np.isnan(pairs[1, 2]).all()
    for ours, theirs in np.ndindex(3, 3):
        expected = blocks.log_ratios(ours, theirs)
        assert pairs[:, ours, theirs] == pytest.approx(expected, nan_ok=True)


def test_log_block_means_refuses():
    """Times that are not positive, and estimators that do not exist, are refused."""
    one = {"values": [0.0], "cells": [0], "waves": [0], "rounds": [0]}
    with pytest.raises(ValueError, match="positive"):
        log_block_means(**one)
    with pytest.raises(ValueError, match="no block estimator 'minimum'"):
        log_block_means(**(one | {"values": [1.0]}), block="minimum")


def test_undisturbed_keeps_the_fastest_blocks_and_a_round_for_any_two():
    """Of each cell's blocks in a wave the slowest are left out, missing ones are not counted among them."""
    logs = np.log(np.arange(1.0, 6.0))[None, :, None].repeat(2, axis=2)
    logs[0, :, 1] = logs[0, ::-1, 1]
    logs[0, 4, 0] = np.nan
    kept = ~np.isnan(LogBlocks(logs).undisturbed().blocks)[0]
    assert kept[:, 0].tolist() == [True, True, True, False, False]
    assert kept[:, 1].tolist() == [False, False, True, True, True]
    rng = np.random.default_rng(4)
    for rounds in range(1, 12):
        ratios = LogBlocks(rng.normal(size=(20, rounds, 6))).undisturbed().all_log_ratios()
        assert not np.isnan(ratios).any()


def test_undisturbed_withstands_what_a_machine_does():
    """Bursts that slow one block in six by up to half leave twice the spread to plain means over rounds."""
    rng = np.random.default_rng(9)
    burst = rng.exponential(0.2, (400, 16, 2)) * (rng.random((400, 16, 2)) < 1 / 6)
    blocks = LogBlocks(rng.normal(0, 0.3, (400, 16, 1)) * 0.03 + rng.normal(0, 0.01, (400, 16, 2)) + burst)
    plain, kept = blocks.log_ratios(0, 1), blocks.undisturbed().log_ratios(0, 1)
    assert np.std(kept) < np.std(plain) / 2
    assert abs(np.mean(kept)) < 3 * np.std(kept) / np.sqrt(400)


def test_ratio_interval_coverage():
    """From calls to interval, a speedup covers 93 to 98 % though launches are biased and rounds drift."""
    rng, intervals = np.random.default_rng(6), []
    for _ in range(1_500):
        drift = rng.normal(0, 0.3, (6, 4, 1, 1))
        launch = 0.01 * rng.exponential(size=(6, 1, 2, 1))
        noise = 0.02 * rng.exponential(size=(6, 4, 2, 5))
        times = np.exp(drift + launch + noise) * np.array([1.0, 3.0])[:, None]
        blocks = log_block_means(**blocks_of(times))
        intervals.append(stats.ratio_interval(blocks.undisturbed().log_ratios(0, 1), kind="speedup").ci)
    low, high = np.array(intervals).T
    assert 0.93 <= np.mean((low <= 3.0) & (high >= 3.0)) <= 0.98
