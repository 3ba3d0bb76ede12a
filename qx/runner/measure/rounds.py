"""Rounds: how many each thing that is timed gets, how long its blocks are, and in which order they come."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from attrs import frozen

from qx.results.recording import Key

#: A block is as many calls as fit this time, within the limits. Many short blocks tell more than few long
#: ones, so long as what goes before each is the smaller part: `benchmarks/scheduling.py`.
BLOCK_SECONDS = 0.012
BLOCK_CALLS = (1, 50)
#: Calls at the head of a block are not recorded, for so long: they bring back what other launches drove out
#: of the caches, half a millisecond in all. (Of small networks the first call of a block takes 1.4 to 2.3
#: times as long as those after the first 5 ms.) Where that is below 1 % of a call, none is spent; and up to
#: there a block has two calls at least, or half of the time would go to what is not recorded.
WARM_SECONDS = 0.005
LONG_SECONDS = 0.05
#: Rounds of a wave.
LEAST_ROUNDS, MOST_ROUNDS = 5, 40


#: Seconds that a call takes, by cell and batch size.
Times: TypeAlias = Mapping[str, Mapping[int, float]]


@frozen(kw_only=True)
class Task:
    """A metric of phase ``block``, at one batch size."""

    metric: str
    batch_size: int
    key: Key


def block_calls(seconds: float) -> int:
    """How many calls make a block, of calls that take so long."""
    least, most = BLOCK_CALLS
    return max(least + (warm_calls(seconds) > 0), min(most, round(BLOCK_SECONDS / seconds)))


def warm_calls(seconds: float) -> int:
    """How many calls come before those of a block, of calls that take so long."""
    return 0 if seconds > LONG_SECONDS else max(1, min(BLOCK_CALLS[1], round(WARM_SECONDS / seconds)))


def alike(times: Times, baseline: str) -> dict[str, dict[int, float]]:
    """The same times, each brought to that of the baseline by a power of two.

    What a call takes depends on how many come before it in its block, by up to 2 %. So cells that are about
    as fast as each other must have blocks of the same calls: else one that met other work while it warmed up
    would have others than its equals all through a run, and differ from them in every wave.
    """
    reference = times.get(baseline, {})
    return {
        cell: {
            size: (one := reference.get(size, seconds)) * 2.0 ** round(math.log2(seconds / one))
            for size, seconds in of.items()
        }
        for cell, of in times.items()
    }


def round_seconds(times: Times, counted: Times, size: int) -> float:
    """What one round costs at a batch size, of ``times`` and blocks of as many calls as ``counted`` tells."""
    blocks = {cell: counted[cell][size] for cell in times}
    return sum(
        (block_calls(blocks[cell]) + warm_calls(blocks[cell])) * of[size] for cell, of in times.items()
    )


def counted_out(tasks: Sequence[Task], costs: Mapping[Task, float], seconds: float) -> dict[Task, int]:
    """How many rounds of each task fit these seconds, which the tasks share alike.

    ``costs`` are the seconds of one round. What one leaves because it has its fill goes to the others.
    """
    counts: dict[Task, int] = {}
    for done, task in enumerate(sorted(tasks, key=costs.__getitem__)):
        share = max(0.0, seconds) / (len(tasks) - done)
        fitting = math.floor(share / costs[task]) if costs[task] > 0 else MOST_ROUNDS
        counts[task] = max(LEAST_ROUNDS, min(MOST_ROUNDS, fitting))
        seconds -= counts[task] * costs[task]
    return counts


def in_order(counts: Mapping[Task, int], order: random.Random) -> list[tuple[Task, int]]:
    """Every round of every task, those of each task spread evenly over the wave, else at random."""
    placed = [
        ((number + order.random()) / count, task, number)
        for task, count in counts.items()
        for number in range(count)
    ]
    return [(task, number) for _, task, number in sorted(placed, key=lambda one: one[0])]
