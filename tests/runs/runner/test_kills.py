"""Runs whose host is killed at any moment: earlier results stay, nothing goes on, and the next run tidies up.

A few moments by default; with ``QX_SLOW=1`` a hundred. It prints its figures.
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
#: Of so many runs one builds all anew.
REBUILD = 5
#: Seconds within which all that a killed host has started is to be gone; more where the machine may be busy.
ALLOWED = 5.0 if MOMENTS == 100 else 60.0
#: What may show how far a run came when it was killed.
PHASES = ("prepare", "build", "evaluate", "measure", "analyse")


@define
class Runs:
    """Runs of the toy with one cache, one place for temporary files and one for results."""

    start: Callable[..., subprocess.Popen[str]]
    arguments: list[str]
    home: Path
    #: The phases that runs were killed in, and the seconds until the last process was gone.
    phases: Counter[str] = Factory(Counter)
    seconds: list[float] = Factory(list)

    @property
    def out(self) -> Path:
        return self.home / "out"

    def begin(self, *more: str) -> subprocess.Popen[str]:
        return self.start(*self.arguments, *more, "--out", self.out)

    def whole(self) -> float:
        """Let a run end, and give the seconds that it took."""
        began = time.monotonic()
        run = self.begin()
        _, said = run.communicate()
        assert run.returncode == 0, said
        return time.monotonic() - began

    def kill(self, after: float, *more: str) -> float | None:
        """Kill a run, and wait until nothing is left that it has started; None.

        Gives the seconds that the run took where it ended before.
        """
        began = time.monotonic()
        run = self.begin(*more)
        try:
            _, said = run.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            run.kill()
        else:
            assert run.returncode == 0, said
            return time.monotonic() - began
        killed = time.monotonic()
        while left := self.running():
            assert time.monotonic() - killed < ALLOWED, left
            time.sleep(0.02)
        self.seconds.append(time.monotonic() - killed)
        _, said = run.communicate()
        reached = [phase for phase in PHASES if f"] {phase}: " in said]
        self.phases[reached[-1] if reached else "start"] += 1
        return None

    def running(self) -> list[int]:
        """Processes that have this cache in their environment, but for this one."""
        mark = f"QX_CACHE={self.home / 'cache'}".encode()
        found = []
        for process in psutil.pids():
            try:
                environment = Path(f"/proc/{process}/environ").read_bytes()
            except OSError:
                continue
            if process != os.getpid() and mark in environment.split(b"\0"):
                found.append(process)
        return found

    def left(self) -> list[str]:
        """Unfinished and temporary things."""
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
    """Results stay those of one whole run, no process is left, and the next run finds the builds."""
    seconds = runs.whole()
    order = random.Random(17)
    while len(runs.seconds) < MOMENTS:
        more = ["--rebuild"] if len(runs.seconds) % REBUILD == REBUILD - 1 else []
        # The machine may have become faster than it was.
        seconds = runs.kill(order.uniform(0, seconds), *more) or seconds
        check_results(runs.out)
    with capsys.disabled():
        print(f"\n{MOMENTS} kills, in the phases {dict(runs.phases)}; all was gone after at most")
        print(f"{max(runs.seconds):.2f} s (median {sorted(runs.seconds)[MOMENTS // 2]:.2f} s)")
    runs.whole()
    check_results(runs.out)
    assert runs.left() == []
    assert runs.running() == []
    found = json.loads((runs.out / results.RESULTS).read_text())
    assert {cell["build_cached"] for cell in found["cells"].values() if not cell["control"]} == {True}
    assert len(list(runs.out.iterdir())) == 3


def check_results(folder: Path) -> None:
    """Hold the results, their samples and their table to be those of one run."""
    found = results.read(folder)
    samples = Recording.read(folder / found.run["samples"])
    assert set(samples.series) == {"toy/toy_fp32", "toy/other", "toy/control"}
    # A run that was killed while it put them in place has it done by the next.
    results.settle(folder)
    found = results.read(folder)
    assert Recording.read(folder / found.run["samples"]).series.keys() == samples.series.keys()
    assert (folder / results.TABLE).read_text() == markdown.render(found)
