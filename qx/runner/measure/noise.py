"""The noise floor of a machine: how much two identical processes appear to differ."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence

import numpy as np
from attrs import frozen

from qx.environment import cpu_numbers
from qx.processes.jobs import SpinJob
from qx.processes.workers import Worker, processes_of_a_run
from qx.runner.measure.holding import cpus_for, off
from qx.statistics import intervals
from qx.statistics.undisturbed import log_undisturbed

#: Pairs of processes that are tried one after another; each is one wave.
PAIRS = 6
CALLS = 20


@frozen
class Noise:
    """What was found."""

    #: The apparent speedup of one process over the other, which does the same.
    ratio: intervals.Difference
    #: Half the distance between the quartiles of single calls, as a share of the median.
    spread: float
    #: The slowest call of a hundred, as a multiple of the median.
    slow: float
    rounds: int


def noise_floor(seconds: float, seed: int = 0) -> Noise:
    """Time identical work in pairs of fresh processes, in turns as a run does, for so many seconds."""
    order = random.Random(seed)
    ratios, calls, rounds = [], [], 0
    here = cpu_numbers()
    deadline = time.monotonic() + seconds
    with processes_of_a_run() as processes:
        for pair in range(PAIRS):
            workers = [processes.start(SpinJob(), f"spin-{index}") for index in range(2)]
            for worker in workers:
                worker.answer(timeout=60)
                _block(worker)
            end = time.monotonic() + (deadline - time.monotonic()) / (PAIRS - pair)
            cpus = cpus_for(1, (), order)
            for worker in workers:
                os.sched_setaffinity(worker.pid, cpus or here)
            blocks: list[tuple[int, int, list[float]]] = []
            with off(cpus):
                while time.monotonic() < end or not blocks:
                    for index in order.sample(range(2), 2):
                        blocks.append((index, len(blocks) // 2, _block(workers[index])))
            ratios.append(_log_ratio(blocks))
            calls += [value for _, _, values in blocks for value in values]
            rounds += len(blocks) // 2
            for worker in workers:
                worker.close()
    low, middle, high, slow = np.quantile(calls, (0.25, 0.5, 0.75, 0.99))
    return Noise(
        ratio=intervals.ratio_interval(ratios, kind="speedup"),
        spread=float((high - low) / 2 / middle),
        slow=float(slow / middle),
        rounds=rounds,
    )


def _log_ratio(blocks: Sequence[tuple[int, int, list[float]]]) -> float:
    """As a run compares two cells in a wave; blocks of ``(process, round, milliseconds)``."""
    sizes = [len(values) for _, _, values in blocks]
    which, rounds = (np.repeat([block[place] for block in blocks], sizes) for place in (0, 1))
    values = [value for _, _, values in blocks for value in values]
    first, second = log_undisturbed(values, which, np.zeros(len(which)), rounds)[0]
    return float(first - second)


def _block(worker: Worker) -> list[float]:
    values: list[float] = worker.ask("spin", timeout=60, calls=CALLS)["values"]
    return values
