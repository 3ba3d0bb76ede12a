"""The noise floor of a machine: how much two identical processes appear to differ."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

import numpy as np
from attrs import frozen

from qx import stats
from qx.jobs import SpinJob
from qx.runner.processes import Processes, Worker

#: Pairs of processes that are tried one after another; each is one wave.
PAIRS = 6
CALLS = 20


@frozen
class Noise:
    """What was found."""

    #: The apparent speedup of one process over the other, which does the same.
    ratio: stats.Difference
    #: Half the distance between the quartiles of single calls, as a share of the median.
    spread: float
    #: The slowest call of a hundred, as a multiple of the median.
    slow: float
    rounds: int


def noise_floor(seconds: float, seed: int = 0) -> Noise:
    """Time identical work in pairs of fresh processes, in blocks of random order, for so many seconds."""
    order = random.Random(seed)
    ratios, calls, rounds = [], [], 0
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="qx-logs-") as logs, Processes(Path(logs)) as processes:
        for pair in range(PAIRS):
            workers = [processes.start(SpinJob(), f"spin-{index}") for index in range(2)]
            for worker in workers:
                worker.answer(timeout=60)
                _block(worker)
            end = time.monotonic() + (deadline - time.monotonic()) / (PAIRS - pair)
            logs_of_rounds: list[float] = []
            while time.monotonic() < end or not logs_of_rounds:
                first = order.randrange(2)
                blocks = {index: _block(workers[index]) for index in (first, 1 - first)}
                logs_of_rounds.append(float(np.log(np.median(blocks[0]) / np.median(blocks[1]))))
                calls += blocks[0] + blocks[1]
            ratios.append(float(np.mean(logs_of_rounds)))
            rounds += len(logs_of_rounds)
            for worker in workers:
                worker.close()
    low, middle, high, slow = np.quantile(calls, (0.25, 0.5, 0.75, 0.99))
    return Noise(
        ratio=stats.ratio_interval(ratios, kind="speedup"),
        spread=float((high - low) / 2 / middle),
        slow=float(slow / middle),
        rounds=rounds,
    )


def _block(worker: Worker) -> list[float]:
    values: list[float] = worker.ask("spin", timeout=60, calls=CALLS)["values"]
    return values
