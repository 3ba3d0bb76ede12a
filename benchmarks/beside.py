"""Runs of qx in which hand-written scripts are timed in turns with its launches, on the same CPU."""

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
    """``bare.py`` with one of its runtimes, and environment variables for it."""

    #: Name of the runtime in ``bare.py``.
    runtime: str
    #: Environment variables, besides those that allow one thread.
    settings: Mapping[str, str]


class Loop:
    """A process of a script, which times calls on request."""

    def __init__(self, script: Script, file: Path, images: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "bare.py"), script.runtime, str(file), str(images), "1", "asked"],
            env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1"), **script.settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def time_calls(self, warm_up: int, calls: int) -> list[float]:
        """Return the milliseconds of each call, after calls to warm up."""
        print(warm_up, calls, file=self.process.stdin, flush=True)
        assert self.process.stdout is not None
        return [float(word) for word in self.process.stdout.readline().split()]

    def pin(self, cpus: Sequence[int]) -> None:
        """Pin all threads of the process to these CPUs."""
        for thread in os.listdir(f"/proc/{self.process.pid}/task"):
            os.sched_setaffinity(int(thread), cpus)

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def run_beside(
    host: Host, request: Request, scripts: Mapping[str, Sequence[Script]]
) -> tuple[Results, dict[str, np.ndarray]]:
    """Run with one image a call, and time scripts beside the configs that they belong to.

    In each wave every script is a fresh process, which is timed right after each block of its config, with as
    many calls. A wave is summarized as qx compares two cells.

    Returns
    -------
    Results
        Of the run of qx.
    dict
        By config, ``[waves, scripts]``: the log of the ratio of qx's latency to the script's.

    """
    blocks: dict[str, list[list[list[list[float]]]]] = defaultdict(list)

    class Group(waves._Group):
        """Waves in which the scripts are timed too."""

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
                blocks[names[cell]].append([])
                for loop in loops:
                    loop.time_calls(50, 50)
            try:
                super()._wave()
            finally:
                for loop in (loop for loops in self.loops.values() for loop in loops):
                    loop.close()

        def _hold(self, launches: Any) -> tuple[int, ...]:
            cpus = super()._hold(launches)
            for loop in (loop for loops in self.loops.values() for loop in loops if cpus):
                loop.pin(cpus)
            return cpus

        def _block(self, worker: Any, cell: str, task: Any, number: int, position: int) -> None:
            super()._block(worker, cell, task, number, position)
            if cell in self.loops:
                point, loops = task.point, self.loops[cell]
                counts = (
                    self.measured.warm_calls[cell][point],
                    self.measured.calls_per_block[cell][point],
                )
                times = [list(self.measured.pending[cell][-1][1].values)] * (1 + len(loops))
                for index in self.order.sample(range(len(loops)), len(loops)):
                    times[1 + index] = loops[index].time_calls(*counts)
                blocks[self.plan.cells[cell].config][-1].append(times)

    with tempfile.TemporaryDirectory(prefix="qx-") as folder:
        images = Path(folder) / "images.npy"
        with patch.object(waves, "_Group", Group):
            results, _ = run(host, request, Lines())
    return results, {
        name: np.array([_log_ratios(wave) for wave in waves_of_config])
        for name, waves_of_config in blocks.items()
    }


def _image(plan: Plan) -> np.ndarray:
    """Return the image that qx's launches are called with, since pooling takes longer over noise."""
    job = plan.job(plan.cells[plan.baseline], plan.artifacts[plan.baseline], 0)
    (image,) = Split.read(Path(job.inputs)).rows(0, 1).values()
    return np.array(image)


def _file(artifact: StoredArtifact) -> Path:
    """Return the file of an artifact that a runtime loads."""
    return Path(artifact.folder) / artifact.files[0]


def _log_ratios(rounds: Sequence[Sequence[Sequence[float]]]) -> list[float]:
    """Return the log of the ratio of qx to each script in one wave, from calls ``[rounds][qx, *scripts]``."""
    times, round_numbers, places = np.array(
        [
            (time, number, place)
            for number, blocks in enumerate(rounds)
            for place, calls in enumerate(blocks)
            for time in calls
        ]
    ).T
    logs = log_undisturbed(times, places, np.zeros(len(times)), round_numbers)[0]
    return [float(logs[0] - log) for log in logs[1:]]


def summarize(logs: np.ndarray) -> dict[str, Any]:
    """Return the geometric mean of the ratios whose logs are given, and the standard error of its log."""
    return {
        "ratio": math.exp(logs.mean()),
        "standard_error": float(logs.std(ddof=1) / math.sqrt(len(logs))),
        "ratios": np.exp(logs).tolist(),
    }
