"""What qx costs: latency against a bare loop, in turns; and where the seconds of the default matrix go."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from benchmarks.common import Lines, keep, options
from benchmarks.usual_way import BARE
from qx.blocks import LogBlocks
from qx.host import Host
from qx.runner import Request, run, waves
from qx.runner.processes import MALLOC, THREAD_VARIABLES

#: Environments of the loop: as qx sets them for its launches, and with the allocator as the system has it.
LOOPS = {"bare_loop": MALLOC, "loop_with_default_allocator": dict[str, str]()}
CONFIGS = ("dynamic_int8", "static_int8_per_tensor", "static_int8_per_channel")


class Loop:
    """A process that times the network by hand, when it is asked."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, BARE, "asked"],
            env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1"), **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.asked(50, 50)

    def asked(self, warm: int, calls: int) -> float:
        """Median milliseconds of so many calls, after others."""
        print(warm, calls, file=self.process.stdin, flush=True)
        assert self.process.stdout is not None
        return float(self.process.stdout.readline())

    def hold(self, cpus: Sequence[int]) -> None:
        """Keep to these CPUs."""
        for thread in os.listdir(f"/proc/{self.process.pid}/task"):
            os.sched_setaffinity(int(thread), cpus)

    def close(self) -> None:
        """End it."""
        self.process.communicate()


class Beside(waves._Group):
    """Waves in which loops without qx take turns after every block of the baseline, on the same CPU."""

    #: By wave, the log of a block of qx and those of the loops; fresh processes of all for each.
    found: ClassVar[list[list[list[float]]]] = []

    def _wave(self) -> None:
        self.loops = [Loop(settings) for settings in LOOPS.values()]
        self.found.append([])
        try:
            super()._wave()
        finally:
            for loop in self.loops:
                loop.close()

    def _hold(self, launches: Any) -> tuple[int, ...]:
        cpus = super()._hold(launches)
        for loop in self.loops if cpus else ():
            loop.hold(cpus)
        return cpus

    def _block(self, worker: Any, cell: str, task: Any, number: int, position: int) -> None:
        super()._block(worker, cell, task, number, position)
        if cell == self.plan.baseline:
            size = task.batch_size
            counts = self.measured.warm_calls[cell][size], self.measured.calls[cell][size]
            ours = float(np.median(self.measured.parts[cell, task.key][-1].values))
            times = [ours] + [0.0] * len(self.loops)
            for index in self.order.sample(range(len(self.loops)), len(self.loops)):
                times[1 + index] = self.loops[index].asked(*counts)
            self.found[-1].append([math.log(one) for one in times])


def log_ratios(blocks: Sequence[Sequence[float]]) -> list[float]:
    """Of one wave, qx over each loop, as qx compares two cells."""
    logs = np.array(blocks)
    return [
        float(LogBlocks(logs[None][:, :, [0, index]]).undisturbed().log_ratios(0, 1)[0])
        for index in range(1, logs.shape[1])
    ]


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
        logs = np.array([log_ratios(blocks) for blocks in Beside.found])
        print(f"run {seed}: {len(logs)} waves, {np.exp(logs.mean(axis=0)).round(4)}", flush=True)
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
            "waves": len(logs),
            "qx_over": {
                name: {
                    "ratio": math.exp(ratios.mean()),
                    "standard_error": float(ratios.std(ddof=1) / math.sqrt(len(ratios))),
                }
                for name, ratios in zip(LOOPS, logs.T, strict=True)
            },
            "matrix": arguments.workload,
            "matrix_seconds": results.run["seconds"],
            "matrix_ended_by": results.run["measuring"]["ended_by"],
            "samples": {name: np.exp(ratios).tolist() for name, ratios in zip(LOOPS, logs.T, strict=True)},
        },
    )


if __name__ == "__main__":
    main()
