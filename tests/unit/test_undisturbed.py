"""Times of calls when nothing disturbs the machine: the best tenth of each wave, and ratios of it."""

from __future__ import annotations

import numpy as np
import pytest

from qx.statistics import over_waves
from qx.statistics.undisturbed import (
    comparison_rank,
    complete_launches,
    in_shared_rounds,
    log_undisturbed,
    spread_rounds,
)


def calls_of(values):
    """Return arguments of ``log_undisturbed`` for times ``[waves, rounds, cells, calls]``; NaN is no call."""
    waves, rounds, cells, _ = np.indices(values.shape)
    called = ~np.isnan(values)
    return {
        "values": values[called],
        "cells": cells[called],
        "waves": waves[called],
        "rounds": rounds[called],
    }


@pytest.mark.parametrize("better", ["lower", "higher", "neither"])
def test_it_is_the_mean_of_the_best(better):
    """The value of a cell in a wave is the mean log of its best calls, or of all where none is better."""
    rng = np.random.default_rng(5)
    values = rng.gamma(3.0, size=(2, 3, 4, 20))
    values[1, 2, 3, 7:] = np.nan
    calls = calls_of(values)
    shuffle = rng.permutation(len(calls["values"]))
    logs = log_undisturbed(**{name: column[shuffle] for name, column in calls.items()}, better=better)
    assert logs.shape == (2, 4)
    for wave, cell in np.ndindex(2, 4):
        row = np.sort(values[wave, :, cell][~np.isnan(values[wave, :, cell])])
        row = row[::-1] if better == "higher" else row
        kept = {60: 8, 47: 6}[len(row)]
        assert logs[wave, cell] == pytest.approx(np.log(row[: None if better == "neither" else kept]).mean())


def test_rates_say_what_times_do():
    """Items a second of the same calls give the same logs with the other sign, however times vary."""
    times = np.random.default_rng(5).gamma(0.5, size=(2, 3, 4, 20))
    log_times, log_rates = (
        log_undisturbed(**calls_of(times)),
        log_undisturbed(**calls_of(1 / times), better="higher"),
    )
    assert log_rates == pytest.approx(-log_times, rel=1e-12)


def test_many_samples_tell_what_few_do():
    """A cell with twenty times as many calls in a wave as its equal has no advantage: ranks count."""
    noise = np.random.default_rng(3).exponential(0.05, (4000, 1, 1, 400))
    means = [float(log_undisturbed(**calls_of(1 + noise[..., :count])).mean()) for count in (12, 20, 60, 400)]
    assert np.ptp(means) < 0.001


def test_a_launch_that_did_not_see_the_wave_to_its_end_has_no_value_in_it():
    """A launch that died in a wave has no value in that wave, and keeps all others."""
    values = np.ones((2, 3, 3, 4)) * np.array([1.0, 2.0, 4.0])[:, None]
    values[0, 1:, 1] = np.nan
    values[1, :, 2] = np.nan
    logs = log_undisturbed(**calls_of(values))
    assert np.exp(logs) == pytest.approx(np.array([[1, np.nan, 4], [1, 2, np.nan]]), nan_ok=True)


def test_a_launch_with_fewer_rounds_that_are_spread_saw_the_wave_to_its_end():
    """Rounds spread over the wave were planned so; the first ones, or some others, are of one that died."""
    assert spread_rounds(16, 6) == [0, 2, 5, 8, 10, 13]
    rounds = {
        0: range(16),
        1: spread_rounds(16, 6),
        2: range(6),
        3: [0, 2, 5, 8, 10],
        4: spread_rounds(16, 8),
    }
    values = np.full((1, 16, 6, 2), np.nan)
    for cell, numbers in rounds.items():
        values[0, [*numbers], cell] = 1.0 + cell
    calls = calls_of(values)
    complete, fewer = complete_launches(calls["cells"], calls["waves"], calls["rounds"], (1, 6))
    assert complete.tolist() == [[True, True, False, False, True, False]]
    assert fewer.tolist() == [[False, True, False, False, True, False]]
    logs = log_undisturbed(**calls, shape=(1, 6))
    assert np.exp(logs)[0] == pytest.approx([1, 2, np.nan, np.nan, 5, np.nan], nan_ok=True)
    is_shared = in_shared_rounds(calls["cells"], calls["waves"], calls["rounds"], complete)
    kept = sorted(set(zip(calls["cells"][is_shared], calls["rounds"][is_shared], strict=True)))
    assert kept == [(cell, number) for cell in (0, 1, 4) for number in (0, 2, 8, 10)]


@pytest.mark.parametrize("count", range(2, 41))
def test_a_launch_that_died_is_never_taken_for_one_with_fewer_rounds(count):
    """Whatever the number of rounds is, no first rounds of a wave are spread over it."""
    for died_after in range(1, count):
        cells = [0] * count + [1] * died_after
        rounds = [*range(count), *range(died_after)]
        complete, fewer = complete_launches(cells, np.zeros(len(cells)), rounds, (1, 2))
        assert complete.tolist() == [[True, False]], died_after
        assert not fewer.any()


def test_it_refuses_times_that_are_not_positive():
    """Times that are not positive have no log."""
    with pytest.raises(ValueError, match="positive"):
        log_undisturbed(values=[0.0], cells=[0], waves=[0], rounds=[0])


def machine(rng, waves, rounds, cells, calls):
    """Return factors ``[waves, rounds, cells, calls]``: other work slows half of all blocks, and calls."""
    busy = 0.5 * (rng.random((waves, rounds, cells, 1)) < 0.5)
    glitch = rng.exponential(0.05, (waves, rounds, cells, calls))
    return 1 + busy + glitch


def test_it_withstands_what_a_machine_does():
    """Where half of all blocks are slowed by half, medians of rounds leave five times the spread."""
    rng = np.random.default_rng(9)
    times = machine(rng, 300, 20, 2, 6) * np.array([1.0, 2.0])[:, None]
    undisturbed = np.diff(log_undisturbed(**calls_of(times)))[:, 0]
    rounds = np.diff(np.log(np.median(times, axis=3)).mean(axis=1))[:, 0]
    assert np.std(undisturbed) < np.std(rounds) / 5
    assert abs(np.mean(undisturbed) - np.log(2)) < 3 * np.std(undisturbed) / np.sqrt(300)


def test_ratio_interval_coverage():
    """From calls to interval, a speedup covers 93 to 98 % though launches are biased and waves drift."""
    rng, intervals = np.random.default_rng(6), []
    for _ in range(1_500):
        wave = rng.normal(0, 0.1, (6, 1, 1, 1))
        launch = 0.01 * rng.exponential(size=(6, 1, 2, 1))
        times = np.exp(wave + launch) * machine(rng, 6, 8, 2, 5) * np.array([1.0, 3.0])[:, None]
        logs = log_undisturbed(**calls_of(times))
        intervals.append(over_waves.ratio_interval(logs[:, 0] - logs[:, 1], kind="speedup").ci)
    low, high = np.array(intervals).T
    assert 0.93 <= np.mean((low <= 3.0) & (high >= 3.0)) <= 0.98


@pytest.mark.parametrize(("slow", "quick"), [(1, 1), (1, 2), (1, 12), (2, 12), (12, 12)])
def test_few_calls_are_not_held_against_many(slow, quick):
    """The best of a slow cell's five calls is not compared with the best of a quick cell's sixty."""
    rng, intervals = np.random.default_rng(8), []
    for _ in range(1_000):
        times = np.full((6, 5, 2, max(slow, quick)), np.nan)
        for cell, (calls, truth) in enumerate(((slow, 4.0), (quick, 1.0))):
            times[:, :, cell, :calls] = truth * np.exp(rng.normal(0, 0.03, (6, 5, calls)))
        logs = log_undisturbed(**calls_of(times), rank=comparison_rank(5 * min(slow, quick)))
        intervals.append(over_waves.ratio_interval(logs[:, 1] - logs[:, 0], kind="speedup").ci)
    low, high = np.array(intervals).T
    assert 0.92 <= np.mean((low <= 4.0) & (high >= 4.0)) <= 0.98
