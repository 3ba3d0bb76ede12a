"""Rounds: their number, by which tasks share the time equally, and their order."""

from __future__ import annotations

import itertools
import os
import random

import pytest

from qx.contract.figures import Figure, Point
from qx.environment import cpu_numbers
from qx.runner.measure import holding, rounds
from qx.runner.measure.rounds import (
    RoundCost,
    Task,
    block_calls,
    count_rounds,
    count_settled_rounds,
    round_seconds,
    schedule_rounds,
    settled_rounds,
    warm_calls,
)

ONE, MANY = Point(1), Point(32)
SMALL, LARGE = (Task(metric="latency", point=point, figure=Figure("latency", point)) for point in (ONE, MANY))
TIMES = {"toy/a": {ONE: 0.001, MANY: 0.03}, "toy/b": {ONE: 0.002, MANY: 0.06}}


def test_a_block_is_as_many_calls_as_fit_its_time() -> None:
    """A block has 1 to 50 calls, and calls before it warm the caches, unless that is 1 % of a call."""
    assert [block_calls(seconds) for seconds in (1e-6, 0.001, 0.004, 0.03, 0.1, 30)] == [50, 12, 3, 2, 1, 1]
    assert [warm_calls(seconds) for seconds in (1e-6, 0.001, 0.004, 0.03, 0.1, 30)] == [50, 5, 1, 1, 1, 0]


def test_tasks_share_the_time_and_give_on_what_they_do_not_need() -> None:
    """Short and long calls get equal seconds, up to the largest useful number of rounds."""
    seconds = {task: round_seconds(TIMES, TIMES, task.point) for task in (SMALL, LARGE)}
    assert seconds[SMALL] == pytest.approx((12 + 5) * 0.001 + (6 + 2) * 0.002)
    assert seconds[LARGE] == pytest.approx(3 * 0.03 + 2 * 0.06)
    halved = {cell: {size: seconds / 2 for size, seconds in times.items()} for cell, times in TIMES.items()}
    assert round_seconds(TIMES, halved, ONE) == pytest.approx((24 + 10) * 0.001 + (12 + 5) * 0.002)
    costs = {task: RoundCost(seconds=cost) for task, cost in seconds.items()}
    counts = count_rounds([LARGE, SMALL], costs, 2.4)
    assert counts[SMALL] * seconds[SMALL] == pytest.approx(1.2, abs=seconds[SMALL])
    assert counts[LARGE] * seconds[LARGE] == pytest.approx(1.2, abs=seconds[LARGE])
    plenty = count_rounds([LARGE, SMALL], costs, 4.5)
    assert plenty[SMALL] == rounds.MOST_ROUNDS
    assert plenty[LARGE] == int((4.5 - 40 * seconds[SMALL]) / seconds[LARGE])
    assert set(count_rounds([LARGE, SMALL], costs, -5.0).values()) == {rounds.LEAST_ROUNDS}


def test_a_settled_cell_has_a_third_of_the_rounds_and_never_too_few() -> None:
    """It has five at least, with ten calls at least; where that is more than half, it has all rounds."""
    assert [count_settled_rounds(count, 3) for count in (5, 9, 10, 15, 16, 40)] == [5, 9, 5, 5, 6, 14]
    assert [count_settled_rounds(count, 1) for count in (10, 19, 20, 40)] == [10, 19, 10, 14]
    numbers = settled_rounds({SMALL: 16, LARGE: 9}, {SMALL: 3, LARGE: 2})
    assert numbers == {SMALL: {0, 2, 5, 8, 10, 13}}


def test_the_time_that_settled_cells_leave_goes_to_more_rounds() -> None:
    """Of ten cells half are settled: the others have the rounds for which the seconds are then enough."""
    cost = RoundCost(seconds=0.5, settled_seconds=0.5, calls=3)
    assert cost.of(9) == pytest.approx(9.0)
    assert cost.of(18) == pytest.approx(0.5 * (18 + 6))
    assert count_rounds([SMALL], {SMALL: RoundCost(seconds=1.0, calls=3)}, 12.0) == {SMALL: 12}
    assert count_rounds([SMALL], {SMALL: cost}, 12.0) == {SMALL: 18}


def test_rounds_of_different_tasks_are_mixed() -> None:
    """Each task's rounds are spread over the whole wave, in another order each time."""
    counts = {SMALL: 30, LARGE: 10}
    passes = schedule_rounds(counts, random.Random(1))
    assert [number for task, number in passes if task is SMALL] == list(range(30))
    places = [place for place, (task, _) in enumerate(passes) if task is LARGE]
    assert len(places) == 10
    assert all(1 <= following - place <= 8 for place, following in itertools.pairwise(places))
    assert passes != schedule_rounds(counts, random.Random(2))


@pytest.mark.skipif(len(cpu_numbers()) < 2, reason="needs two CPUs")
def test_the_host_keeps_off_the_cpus_that_launches_are_held_to() -> None:
    """Launches get as many CPUs as threads, from the allowed ones, and never all CPUs of the host."""
    here, order = cpu_numbers(), random.Random(0)
    assert holding.cpus_for(1, here[:1], order) == here[:1]
    assert {holding.cpus_for(1, (), order) for _ in range(50 * len(here))} == {(cpu,) for cpu in here}
    assert holding.cpus_for(len(here), (), order) == ()
    assert holding.cpus_for(2, here[:1], order) == ()
    with holding.keep_host_off(here[:1]):
        assert set(os.sched_getaffinity(0)) == set(here[1:])
    with holding.keep_host_off(()):
        assert set(os.sched_getaffinity(0)) == set(here)


def test_cells_that_are_about_as_fast_have_blocks_of_the_same_calls() -> None:
    """A cell that was slowed while it warmed up has blocks like its equals; a faster one has its own."""
    times = {
        "toy/fp32": {1: 0.0016, 32: 0.030},
        "toy/copy": {1: 0.0022, 32: 0.041},
        "toy/slower": {1: 0.0017, 32: 0.032},
        "toy/int8": {1: 0.0006, 32: 0.008},
    }
    rounded = rounds.quantise_times(times, "toy/fp32")
    assert rounded["toy/fp32"] == rounded["toy/copy"] == rounded["toy/slower"] == times["toy/fp32"]
    assert rounded["toy/int8"] == pytest.approx({1: 0.0008, 32: 0.0075})
    assert rounds.quantise_times({"toy/int8": times["toy/int8"]}, "toy/fp32") == {
        "toy/int8": times["toy/int8"]
    }
