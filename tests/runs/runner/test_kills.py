"""Runs whose host is killed at any moment: earlier results stay, nothing goes on, and the next run tidies up.

The fast tier kills at a few moments, ``QX_SLOW=1`` at a hundred; the test prints its figures.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from attrs import Factory, define

from qx.leftovers import SUFFIX
from qx.report import markdown
from qx.results import results_file as results
from qx.results.recording import Recording

MOMENTS = 100 if os.environ.get("QX_SLOW") else 2
#: One run in so many builds everything anew.
REBUILD = 5
#: Seconds within which all that a killed host has started must have ended, more where the machine is busy.
ALLOWED = 5.0 if MOMENTS == 100 else 60.0
#: Phases whose lines show how far a run came before it was killed.
PHASES = ("prepare", "build", "evaluate", "measure", "analyse")


@define
class Runs:
    """Runs of the toy with one cache, one place for temporary files and one for results."""

    start: Callable[..., subprocess.Popen[str]]
    arguments: list[str]
    home: Path
    #: Phases that runs were killed in, and seconds until the last process had ended.
    phases: Counter[str] = Factory(Counter)
    seconds: list[float] = Factory(list)

    @property
    def out(self) -> Path:
        return self.home / "out"

    def begin(self, *options: str) -> subprocess.Popen[str]:
        return self.start(*self.arguments, *options, "--out", self.out)

    def complete(self) -> float:
        """Let a run end by itself, and return the seconds that it took."""
        start = time.monotonic()
        run = self.begin()
        _, output = run.communicate()
        assert run.returncode == 0, output
        return time.monotonic() - start

    def kill(self, after: float, *options: str) -> float | None:
        """Kill a run after some seconds, wait until no process of it is left, and return None.

        Return the seconds that the run took where it ended before that.
        """
        start = time.monotonic()
        run = self.begin(*options)
        try:
            _, output = run.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            run.kill()
        else:
            assert run.returncode == 0, output
            return time.monotonic() - start
        killed = time.monotonic()
        while alive := self.running():
            assert time.monotonic() - killed < ALLOWED, alive
            time.sleep(0.02)
        self.seconds.append(time.monotonic() - killed)
        _, output = run.communicate()
        reached = [phase for phase in PHASES if f"] {phase}: " in output]
        self.phases[reached[-1] if reached else "start"] += 1
        return None

    def running(self) -> list[int]:
        """Return the other processes that have this cache in their environment."""
        mark = f"QX_CACHE={self.home / 'cache'}".encode()
        processes = []
        for pid in psutil.pids():
            try:
                environment = Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:
                continue
            if pid != os.getpid() and mark in environment.split(b"\0"):
                processes.append(pid)
        return processes

    def leftovers(self) -> list[str]:
        """Return unfinished and temporary files and folders."""
        temporary = [str(path) for path in self.home.glob("temporary/*")]
        return temporary + [str(path) for path in self.home.rglob(f"*{SUFFIX}")]


@pytest.fixture
def runs(
    start: Callable[..., subprocess.Popen[str]],
    toy: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Runs:
    """Runs with two builds and three waves each."""
    monkeypatch.setenv("QX_CACHE", str(tmp_path / "cache"))
    arguments = ["run", *toy.arguments(toy.config("other")), "--quick", "--budget", "0.01"]
    arguments += ["--batch-size", "1", "-m", "accuracy", "-m", "file_size", "-m", "latency"]
    return Runs(start, arguments, tmp_path)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found by /proc")
def test_a_host_may_be_killed_at_any_moment(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    """The results stay those of one complete run, no process is left, and the next run finds the builds."""
    seconds = runs.complete()
    order = random.Random(17)
    while len(runs.seconds) < MOMENTS:
        options = ["--rebuild"] if len(runs.seconds) % REBUILD == REBUILD - 1 else []
        # Where the run ended before the kill, the machine has become faster.
        seconds = runs.kill(order.uniform(0, seconds), *options) or seconds
        check_results(runs.out)
    with capsys.disabled():
        print(f"\n{MOMENTS} kills, in the phases {dict(runs.phases)}; all was gone after at most")
        print(f"{max(runs.seconds):.2f} s (median {sorted(runs.seconds)[MOMENTS // 2]:.2f} s)")
    runs.complete()
    check_results(runs.out)
    assert runs.leftovers() == []
    assert runs.running() == []
    written = json.loads((runs.out / results.RESULTS).read_text())
    assert {cell["build_cached"] for cell in written["cells"].values() if not cell["control"]} == {True}
    assert len(list(runs.out.iterdir())) == 5


def check_results(folder: Path) -> None:
    """Check that the results, their samples and their table come from one run."""
    written = results.read(folder)
    samples = Recording.read(folder / written.run.samples)
    assert set(samples.series) == {"toy/toy_fp32", "toy/other", "toy/control"}
    # Where a run was killed while it put its files in place, the next run completes that.
    results.settle(folder)
    written = results.read(folder)
    assert Recording.read(folder / written.run.samples).series.keys() == samples.series.keys()
    assert (folder / results.TABLE).read_text() == markdown.render(written)
