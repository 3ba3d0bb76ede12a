"""Rounds: the number of rounds of each metric and point, the length of blocks, and their order."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from attrs import frozen

from qx.contract.figures import Figure, Point

#: Length of a block in seconds, and the limits of its number of calls. Many short blocks give smaller errors
#: than few long ones, as long as the warm-up before each is the shorter part: `benchmarks/scheduling.py`.
BLOCK_SECONDS = 0.012
BLOCK_CALLS = (1, 50)
#: Length of the warm-up before a block in seconds. Its calls are not recorded: they bring back the data that
#: other launches have driven out of the caches, which takes half a millisecond for one image, and up to 8 ms
#: for the activations of 128. (The first call of a block of a small network takes 1.4 to 2.3 times as long as
#: those after the first 5 ms.)
WARM_SECONDS = 0.005
#: Blocks of calls up to this long, in seconds, have two calls at least, or half of the time would go to the
#: warm-up, which is one call at least.
SHORT_SECONDS = 0.05
#: Calls longer than this, in seconds, have no warm-up: it would be about 1 % of a call. (Of a network whose
#: calls take 55 ms for 64 images, the first of a block takes 12 % longer than those after it, and of one with
#: 114 ms 6 %: without a warm-up shorter calls, which have one, would seem faster by that.)
LONG_SECONDS = 0.7
#: Limits of the number of rounds of a wave.
LEAST_ROUNDS, MOST_ROUNDS = 5, 40


#: Seconds that a call takes with its reset, by cell and point.
Times: TypeAlias = Mapping[str, Mapping[Point, float]]


@frozen(kw_only=True)
class Task:
    """A metric of phase ``block``, at one point."""

    metric: str
    point: Point
    #: Figure that its samples are recorded under.
    figure: Figure


def block_calls(seconds: float) -> int:
    """Return the number of calls of a block, if a call takes this many seconds."""
    minimum, maximum = BLOCK_CALLS
    return max(minimum + (seconds <= SHORT_SECONDS), min(maximum, round(BLOCK_SECONDS / seconds)))


def warm_calls(seconds: float) -> int:
    """Return the number of warm-up calls before a block, if a call takes this many seconds."""
    return 0 if seconds > LONG_SECONDS else max(1, min(BLOCK_CALLS[1], round(WARM_SECONDS / seconds)))


def quantise_times(times: Times, baseline: str) -> dict[str, dict[Point, float]]:
    """Round each time to the baseline's times 2^k, so that cells of similar speed get blocks of equal length.

    The time of a call depends by up to 2 % on how many calls come before it in its block. A cell that was
    disturbed while it warmed up would otherwise have shorter blocks than equally fast cells all through a
    run, and differ from them in every wave.
    """
    reference_times = times.get(baseline, {})
    return {
        cell: {
            point: (reference := reference_times.get(point, seconds))
            * 2.0 ** round(math.log2(seconds / reference))
            for point, seconds in cell_times.items()
        }
        for cell, cell_times in times.items()
    }


def round_seconds(times: Times, block_times: Times, point: Point) -> float:
    """Return how long one round takes at a point, in seconds, of the cells that are called there.

    ``times`` are the times that calls take. ``block_times`` are those that decide the number of calls of a
    block.
    """
    return sum(
        (block_calls(block_times[cell][point]) + warm_calls(block_times[cell][point])) * cell_times[point]
        for cell, cell_times in times.items()
        if point in cell_times
    )


def count_rounds(tasks: Sequence[Task], costs: Mapping[Task, float], seconds: float) -> dict[Task, int]:
    """Return how many rounds of each task fit into ``seconds``, which the tasks share equally.

    ``costs`` are the seconds of one round of a task. Time that a task does not need goes to the others. Each
    task has at least ``LEAST_ROUNDS``, even where they do not fit, and at most ``MOST_ROUNDS``.
    """
    counts: dict[Task, int] = {}
    for done, task in enumerate(sorted(tasks, key=costs.__getitem__)):
        share = max(0.0, seconds) / (len(tasks) - done)
        fitting = math.floor(share / costs[task]) if costs[task] > 0 else MOST_ROUNDS
        counts[task] = max(LEAST_ROUNDS, min(MOST_ROUNDS, fitting))
        seconds -= counts[task] * costs[task]
    return counts


def schedule_rounds(counts: Mapping[Task, int], order: random.Random) -> list[tuple[Task, int]]:
    """Return all rounds as ``(task, number)``, in a random order with each task spread over the wave."""
    placed = [
        ((number + order.random()) / count, task, number)
        for task, count in counts.items()
        for number in range(count)
    ]
    return [(task, number) for _, task, number in sorted(placed, key=lambda entry: entry[0])]
