"""What qx costs: latency against a bare loop, in turns; and where the seconds of the default matrix go."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from benchmarks.common import Lines, keep, options
from benchmarks.usual_way import BARE
from qx.blocks import LogBlocks
from qx.host import Host
from qx.runner import Request, run, waves
from qx.runner.processes import THREAD_VARIABLES

CONFIGS = ("dynamic_int8", "static_int8_per_tensor", "static_int8_per_channel")


class Beside(waves._Group):
    """Waves in which a loop without qx takes a turn after every block of the baseline, on the same CPU."""

    #: Log of the block of qx over that of the loop, by wave; a fresh process of both for each.
    found: ClassVar[list[list[tuple[float, float]]]] = []

    def _wave(self) -> None:
        self.loop = subprocess.Popen(
            [sys.executable, BARE, "asked"],
            env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.found.append([])
        with self.loop:
            self._asked(50, 50)
            super()._wave()
            self.loop.stdin.close()

    def _asked(self, warm: int, calls: int) -> float:
        print(warm, calls, file=self.loop.stdin, flush=True)
        return float(self.loop.stdout.readline())

    def _hold(self, launches: Any) -> tuple[int, ...]:
        cpus = super()._hold(launches)
        for thread in os.listdir(f"/proc/{self.loop.pid}/task") if cpus else ():
            os.sched_setaffinity(int(thread), cpus)
        return cpus

    def _block(self, worker: Any, cell: str, task: Any, number: int, position: int) -> None:
        super()._block(worker, cell, task, number, position)
        if cell == self.plan.baseline:
            size = task.batch_size
            theirs = self._asked(self.measured.warm_calls[cell][size], self.measured.calls[cell][size])
            ours = float(np.median(self.measured.parts[cell, task.key][-1].values))
            self.found[-1].append((math.log(ours), math.log(theirs)))


def log_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Of one wave, as qx compares two cells."""
    return float(LogBlocks(np.array([pairs])).undisturbed().log_ratios(0, 1)[0])


def main() -> None:
    """Print and keep the ratios and the seconds."""
    arguments = options(__doc__, runs=3).parse_args()
    host = Host.discover()
    plain, waves._Group = waves._Group, Beside
    for seed in range(arguments.runs):
        request = Request(
            workload="digits_cnn",
            configs=("dynamic_int8",),
            metrics=("latency",),
            batch_sizes=(1,),
            seed=seed,
        )
        run(host, request, Lines())
        logs = np.array([log_ratio(pairs) for pairs in Beside.found])
        print(f"run {seed}: {len(logs)} pairs of processes, {math.exp(logs.mean()):.4f}", flush=True)
    waves._Group = plain
    request = Request(
        workload=arguments.workload,
        data=arguments.data,
        configs=CONFIGS,
        metrics=("accuracy", "file_size", "latency", "rss"),
    )
    results, _ = run(host, request, Lines())
    keep(
        "cost",
        {
            "pairs": len(logs),
            "qx_over_bare_loop": math.exp(logs.mean()),
            "standard_error": float(logs.std(ddof=1) / math.sqrt(len(logs))),
            "matrix": arguments.workload,
            "matrix_seconds": results.run["seconds"],
            "matrix_ended_by": results.run["measuring"]["ended_by"],
            "samples": {"ratios": np.exp(logs).tolist()},
        },
    )


if __name__ == "__main__":
    main()
