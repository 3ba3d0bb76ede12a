"""Rounds: the number of rounds of each metric and point, the length of blocks, and their order."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from attrs import frozen

from qx.contract.figures import Figure, Point
from qx.statistics.undisturbed import MIN_SAMPLES, spread_rounds

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
#: Of how many rounds a settled cell has one: `benchmarks/fewer_rounds.py`.
SETTLED_SHARE = 3


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


@frozen(kw_only=True)
class RoundCost:
    """How long rounds of a task take."""

    #: Seconds of one round of the cells that have all rounds.
    seconds: float
    #: Seconds that the settled cells add to a round in which they are.
    settled_seconds: float = 0.0
    #: The smallest number of calls of a block of any cell.
    calls: int = 1

    def of(self, count: int) -> float:
        """Return the seconds of so many rounds."""
        return count * self.seconds + count_settled_rounds(count, self.calls) * self.settled_seconds


def count_settled_rounds(count: int, calls: int) -> int:
    """Return how many of ``count`` rounds a settled cell has, if blocks have ``calls`` calls at least.

    It has all of them where a part would be too few: fewer than ``LEAST_ROUNDS``, or with fewer calls than
    show the fastest 15 %.
    """
    fewer = max(LEAST_ROUNDS, math.ceil(MIN_SAMPLES / calls), math.ceil(count / SETTLED_SHARE))
    return fewer if 2 * fewer <= count else count


def count_rounds(tasks: Sequence[Task], costs: Mapping[Task, RoundCost], seconds: float) -> dict[Task, int]:
    """Return how many rounds of each task fit into ``seconds``, which the tasks share equally.

    Time that a task does not need goes to the others. Each task has at least ``LEAST_ROUNDS``, even where
    they do not fit, and at most ``MOST_ROUNDS``.
    """
    counts: dict[Task, int] = {}
    for done, task in enumerate(sorted(tasks, key=lambda task: costs[task].of(1))):
        share = max(0.0, seconds) / (len(tasks) - done)
        possible = range(MOST_ROUNDS, LEAST_ROUNDS, -1)
        counts[task] = next((count for count in possible if costs[task].of(count) <= share), LEAST_ROUNDS)
        seconds -= costs[task].of(counts[task])
    return counts


def schedule_rounds(counts: Mapping[Task, int], order: random.Random) -> list[tuple[Task, int]]:
    """Return all rounds as ``(task, number)``, in a random order with each task spread over the wave."""
    placed = [
        ((number + order.random()) / count, task, number)
        for task, count in counts.items()
        for number in range(count)
    ]
    return [(task, number) for _, task, number in sorted(placed, key=lambda entry: entry[0])]


def settled_rounds(counts: Mapping[Task, int], calls: Mapping[Task, int]) -> dict[Task, set[int]]:
    """Return the numbers of the rounds that settled cells have, of each task in which they have fewer.

    ``calls`` is the smallest number of calls of a block of any cell. The rounds are the same for all settled
    cells, so that these are compared with each other in all of them.
    """
    fewer = {task: count_settled_rounds(count, calls[task]) for task, count in counts.items()}
    return {
        task: {*spread_rounds(count, fewer[task])} for task, count in counts.items() if fewer[task] < count
    }
