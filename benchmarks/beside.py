"""Runs of qx in which hand-written scripts take turns with its launches, round by round, on the same CPU."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from attrs import frozen

from benchmarks.common import HERE, Lines
from qx.host.host import Host
from qx.processes.jobs import StoredArtifact
from qx.processes.workers import THREAD_VARIABLES
from qx.results.records import Results
from qx.runner import Request, run
from qx.runner.measure import waves
from qx.runner.measure.plan import Plan
from qx.statistics.undisturbed import log_undisturbed
from qx.worker.arrays import Split


@frozen
class Script:
    """``bare.py`` in a runtime of its own names, with settings of the environment besides one thread."""

    runtime: str
    settings: Mapping[str, str]


class Loop:
    """A process of such a script, that times when it is asked."""

    def __init__(self, script: Script, file: Path, images: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "bare.py"), script.runtime, str(file), str(images), "1", "asked"],
            env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1"), **script.settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def asked(self, warm: int, calls: int) -> list[float]:
        """Milliseconds of so many calls, after others."""
        print(warm, calls, file=self.process.stdin, flush=True)
        assert self.process.stdout is not None
        return [float(word) for word in self.process.stdout.readline().split()]

    def hold(self, cpus: Sequence[int]) -> None:
        """Keep to these CPUs."""
        for thread in os.listdir(f"/proc/{self.process.pid}/task"):
            os.sched_setaffinity(int(thread), cpus)

    def close(self) -> None:
        """End it."""
        self.process.communicate()


def run_beside(
    host: Host, request: Request, scripts: Mapping[str, Sequence[Script]]
) -> tuple[Results, dict[str, np.ndarray]]:
    """Run with one image a call, and give for each config the logs of qx over its scripts, by wave.

    In each wave every script is a fresh process. It has its turn right after the block of its config, with as
    many calls; and a wave is summed up as qx compares two of its cells.
    """
    found: dict[str, list[list[list[list[float]]]]] = defaultdict(list)

    class Group(waves._Group):
        """Waves with the scripts beside them."""

        def _wave(self) -> None:
            names = {cell: self.plan.cells[cell].config for cell in self.alive}
            if not images.exists():
                np.save(images, _image(self.plan))
            self.loops = {
                cell: [Loop(script, _file(self.plan.artifacts[cell]), images) for script in scripts[name]]
                for cell, name in names.items()
                if name in scripts and not self.plan.cells[cell].control
            }
            for cell, loops in self.loops.items():
                found[names[cell]].append([])
                for loop in loops:
                    loop.asked(50, 50)
            try:
                super()._wave()
            finally:
                for loop in (one for loops in self.loops.values() for one in loops):
                    loop.close()

        def _hold(self, launches: Any) -> tuple[int, ...]:
            cpus = super()._hold(launches)
            for loop in (one for loops in self.loops.values() for one in loops if cpus):
                loop.hold(cpus)
            return cpus

        def _block(self, worker: Any, cell: str, task: Any, number: int, position: int) -> None:
            super()._block(worker, cell, task, number, position)
            if cell in self.loops:
                size, loops = task.batch_size, self.loops[cell]
                counts = self.measured.warm_calls[cell][size], self.measured.calls[cell][size]
                times = [list(self.measured.pending[cell][-1][1].values)] * (1 + len(loops))
                for index in self.order.sample(range(len(loops)), len(loops)):
                    times[1 + index] = loops[index].asked(*counts)
                found[self.plan.cells[cell].config][-1].append(times)

    with tempfile.TemporaryDirectory(prefix="qx-") as folder:
        images = Path(folder) / "images.npy"
        with patch.object(waves, "_Group", Group):
            results, _ = run(host, request, Lines())
    return results, {name: np.array([_log_ratios(one) for one in each]) for name, each in found.items()}


def _image(plan: Plan) -> np.ndarray:
    """The one that qx's launches are called with: pooling takes longer over noise than over an image."""
    job = plan.job(plan.cells[plan.baseline], plan.artifacts[plan.baseline], 0)
    (image,) = Split.read(Path(job.inputs)).rows(0, 1).values()
    return np.array(image)


def _file(artifact: StoredArtifact) -> Path:
    """The file of an artifact that is loaded."""
    return Path(artifact.folder) / artifact.files[0]


def _log_ratios(rounds: Sequence[Sequence[Sequence[float]]]) -> list[float]:
    """Of one wave, calls by round and by qx and its scripts: qx over each script."""
    times, at, which = np.array(
        [
            (time, number, place)
            for number, blocks in enumerate(rounds)
            for place, calls in enumerate(blocks)
            for time in calls
        ]
    ).T
    logs = log_undisturbed(times, which, np.zeros(len(times)), at)[0]
    return [float(logs[0] - one) for one in logs[1:]]


def summed_up(logs: np.ndarray) -> dict[str, Any]:
    """The geometric mean of ratios, with the standard error of its log."""
    return {
        "ratio": math.exp(logs.mean()),
        "standard_error": float(logs.std(ddof=1) / math.sqrt(len(logs))),
        "ratios": np.exp(logs).tolist(),
    }
