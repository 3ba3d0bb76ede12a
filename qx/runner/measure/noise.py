"""The noise floor of a machine: how much two identical processes appear to differ."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence

import numpy as np
from attrs import frozen

from qx.environment import cpu_numbers
from qx.processes.job_answers import SpinAnswer, Started
from qx.processes.jobs import SpinJob
from qx.processes.workers import Worker, processes_of_a_run
from qx.runner.measure.holding import cpus_for, keep_host_off
from qx.statistics import intervals, over_waves
from qx.statistics.undisturbed import log_undisturbed

#: Number of pairs of processes that are timed one after another; each pair is one wave.
PAIRS = 6
#: Number of calls in a block.
CALLS = 20


@frozen
class Noise:
    """The noise floor of a machine, and how much single calls vary."""

    #: The apparent speedup of one process over another that does the same work.
    ratio: intervals.Difference
    #: Half the distance between the quartiles of single calls, as a share of the median.
    spread: float
    #: The 99 % quantile of single calls, as a multiple of the median.
    slow: float
    #: Number of rounds of all pairs.
    rounds: int


def noise_floor(seconds: float, seed: int = 0) -> Noise:
    """Time identical work in pairs of fresh processes that take turns as in a run, for some seconds."""
    order = random.Random(seed)
    ratios, calls, rounds = [], [], 0
    host_cpus = cpu_numbers()
    deadline = time.monotonic() + seconds
    with processes_of_a_run() as processes:
        for pair in range(PAIRS):
            workers = [processes.start(SpinJob(), f"spin-{index}") for index in range(2)]
            for worker in workers:
                worker.answer(Started, timeout=60)
                _block(worker)
            end = time.monotonic() + (deadline - time.monotonic()) / (PAIRS - pair)
            cpus = cpus_for(1, (), order)
            for worker in workers:
                os.sched_setaffinity(worker.pid, cpus or host_cpus)
            blocks: list[tuple[int, int, Sequence[float]]] = []
            with keep_host_off(cpus):
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
        ratio=over_waves.ratio_interval(ratios, kind="speedup"),
        spread=float((high - low) / 2 / middle),
        slow=float(slow / middle),
        rounds=rounds,
    )


def _log_ratio(blocks: Sequence[tuple[int, int, Sequence[float]]]) -> float:
    """Return the log ratio of two processes, as a run compares two cells in a wave.

    ``blocks`` are ``(process, round, milliseconds)``.
    """
    sizes = [len(values) for _, _, values in blocks]
    processes = np.repeat([process for process, _, _ in blocks], sizes)
    rounds = np.repeat([number for _, number, _ in blocks], sizes)
    values = [value for _, _, values in blocks for value in values]
    first, second = log_undisturbed(values, processes, np.zeros(len(processes)), rounds)[0]
    return float(first - second)


def _block(worker: Worker) -> Sequence[float]:
    return worker.ask("spin", SpinAnswer, timeout=60, calls=CALLS).values
