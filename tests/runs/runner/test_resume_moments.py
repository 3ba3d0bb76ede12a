"""Runs that end at any moment: killed, interrupted, without room or right to write; each is gone on with.

The fast tier kills a run at one moment, ``QX_SLOW=1`` tries many of each kind; the tests print their figures.
``QX_MOMENTS`` tries so many of each, and ``QX_MOMENTS_SEED`` others than those of seed 0.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qx.errors import UsageError
from qx.results.recording import Recording
from qx.runner.journal import BuildRecord, EvaluationRecord, Journal, WaveRecord
from qx.storage import journal_file

IS_SLOW = bool(os.environ.get("QX_SLOW"))


def moments(slow: int) -> int:
    """Return how many moments are tried."""
    return int(os.environ.get("QX_MOMENTS", slow if IS_SLOW else 1))


#: Added to the seed of each test, so that several sittings try different moments.
SEED = int(os.environ.get("QX_MOMENTS_SEED", "0"))
#: One killed run in so many builds everything anew.
REBUILD = 5
#: Numbers of cells of killed runs, without the control.
FEWEST_CELLS, MOST_CELLS = (6, 20) if IS_SLOW else (2, 2)


class Runs:
    """Runs of the toy with one cache, and with results in a folder of their own."""

    def __init__(
        self, start: Callable[..., subprocess.Popen[str]], toy: Any, metric: str, home: Path
    ) -> None:
        self.start, self.home, self.out = start, home, home / "out"
        self.toy, self.metric = toy, metric
        self.cells = 2

    def words(self, *options: str) -> list[str]:
        """Return the words of a run."""
        configs = [self.toy.config(f"other_{number}") for number in range(self.cells - 1)]
        return [
            *("run", *self.toy.arguments(*configs, self.metric), "--quick", "--budget", "0.01"),
            *("--batch-size", "1", "-m", "accuracy", "-m", "counting", "-m", "latency", *options),
            *("--out", str(self.out)),
        ]

    def asked(self) -> int:
        """Return how often the metric was asked, and begin anew to count."""
        place = self.home / "asked"
        count = len(place.read_text()) if place.exists() else 0
        place.unlink(missing_ok=True)
        return count

    def finished(self) -> list[Any]:
        """Return what the journal of an ended run has, and leave it as it is."""
        if not (self.out / "journal" / "records").exists():
            return []
        copy = self.home / "copy"
        shutil.copytree(self.out / "journal", copy)
        try:
            journal = Journal.resume(copy)
        except UsageError:
            # Killed before the first record was whole.
            return []
        finally:
            shutil.rmtree(copy)
        journal.close()
        return list(journal.earlier)

    def go_on(self) -> dict[str, Any]:
        """Go on with the run, or begin it where nothing was finished, and check that nothing was lost."""
        before = self.finished()
        builds, evaluations, waves = (
            [entry for entry in before if isinstance(entry.record, kind)]
            for kind in (BuildRecord, EvaluationRecord, WaveRecord)
        )
        self.asked()
        words = ["run", "--resume", str(self.out)] if builds or evaluations or waves else self.words()
        run = self.start(*words)
        _, output = run.communicate()
        assert run.returncode == 0, output
        written: dict[str, Any] = json.loads((self.out / "full_results.json").read_text())
        assert written["run"]["interruption"] is None
        assert self.asked() <= self.cells - len({entry.record.cell for entry in evaluations})
        for entry in builds:
            assert written["cells"][entry.record.cell]["build_cached"], "finished builds are not built again"
        samples = Recording.read(self.out / written["run"]["samples"])
        for number, entry in enumerate(waves):
            for cell, series_by_figure in entry.recording.series.items():
                for figure, series in series_by_figure.items():
                    kept = samples.series[cell][figure]
                    np.testing.assert_array_equal(kept.values[kept.wave == number], series.values)
        assert written["run"]["measuring"]["waves"] >= max(3, len(waves))
        assert not list(self.out.glob("journal*"))
        return written


@pytest.fixture
def runs(
    start: Callable[..., subprocess.Popen[str]],
    toy: Any,
    write_metric: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Runs:
    """Runs with a cache of their own, and a metric that counts how often it is asked."""
    monkeypatch.setenv("QX_CACHE", str(tmp_path / "cache"))
    body = f"""
        with open({str(tmp_path / "asked")!r}, "a") as file:
            file.write("x")
        return Samples(1.0)
    """
    return Runs(start, toy, write_metric("counting", "predictions", body), tmp_path)


def whole_run(runs: Runs, *options: str) -> float:
    """Let a run end by itself, and return the seconds that it took."""
    began = time.monotonic()
    run = runs.start(*runs.words(*options))
    _, output = run.communicate()
    assert run.returncode == 0, output
    return time.monotonic() - began


def reached(runs: Runs) -> str:
    """Return in a word how far a run came."""
    kinds = [type(entry.record) for entry in runs.finished()]
    for kind, name in ((WaveRecord, "wave"), (EvaluationRecord, "evaluation"), (BuildRecord, "build")):
        if kind in kinds:
            return f"{name}"
    return "nothing"


def test_a_killed_run_goes_on_where_it_was(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    """After kill -9 at any moment all finished builds, evaluations and waves are in the final results."""
    order, phases, intervals, seconds = random.Random(24 + 100 * SEED), Counter[str](), [], 0.0
    for number in range(moments(100)):
        runs.cells = order.randint(FEWEST_CELLS, MOST_CELLS)
        options = ["--rebuild"] if number % REBUILD == REBUILD - 1 else []
        seconds = whole_run(runs, *options) if number < 2 or options else seconds
        shutil.rmtree(runs.out)
        run = runs.start(*runs.words(*options))
        try:
            run.communicate(timeout=order.uniform(0.2, 0.95) * seconds)
        except subprocess.TimeoutExpired:
            run.kill()
            run.communicate()
        phases[reached(runs)] += 1
        written = runs.go_on()
        (floor,) = [part for part in written["noise_floor"] if part["metric"] == "latency"]
        if floor["ci"] is not None:
            intervals.append(floor["ci"][0] <= 1.0 <= floor["ci"][1])
    with capsys.disabled():
        share = f"{sum(intervals)} of {len(intervals)}"
        print(f"\nkilled, by what was finished: {dict(phases)}; A/A intervals held 1 in {share}")


@pytest.mark.slow
def test_an_interrupted_run_goes_on_where_it_was(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C at any moment leaves all that was finished, and a line that says how to go on."""
    order, codes = random.Random(25 + 100 * SEED), Counter[str]()
    seconds = whole_run(runs)
    for _ in range(moments(20)):
        shutil.rmtree(runs.out)
        run = runs.start(*runs.words())
        try:
            _, output = run.communicate(timeout=order.uniform(0.2, 0.95) * seconds)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGINT)
            _, output = run.communicate(timeout=300)
        if run.returncode == -signal.SIGINT:
            # An interpreter that is ending dies of the signal: the run was over, and its results are whole.
            assert (runs.out / "full_results.json").is_file()
            assert not list(runs.out.glob("journal*"))
        else:
            assert run.returncode in (0, 130), output
        if run.returncode == 130 and (runs.out / "journal").exists():
            assert "go on with: qx run --resume" in output
        codes[f"{run.returncode} after {reached(runs)}"] += 1
        runs.go_on()
    with capsys.disabled():
        print(f"\ninterrupted and gone on with: {dict(codes)}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "count"),
    [(errno.ENOSPC, moments(20)), (errno.EROFS, moments(10))],
    ids=["full", "read_only"],
)
def test_a_disk_that_takes_no_more_costs_nothing_that_was_finished(
    runs: Runs,
    qx: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    count: int,
) -> None:
    """Whichever write of the journal fails, the run ends in a line that says how to go on, and does."""
    order, ends = random.Random(26 + 100 * SEED), Counter[str]()
    write, failing, written = os.write, 0, 0

    def write_or_fail(descriptor: int, content: bytes) -> int:
        nonlocal written
        written += 1
        if written == failing:
            os.write(descriptor, content[: len(content) // 2])
        if failing <= written <= failing + 1:
            raise OSError(number, os.strerror(number))
        return write(descriptor, content)

    for _ in range(count):
        shutil.rmtree(runs.out, ignore_errors=True)
        # A run of two cells writes a dozen records.
        failing, written = order.randint(2, 12), 0
        with monkeypatch.context() as patched:
            patched.setattr(journal_file, "os", Patched(os, write_or_fail))
            done = qx(*runs.words())
        assert done.code in (0, 2), done.err
        if done.code == 2:
            assert "cannot write the journal in " in done.err
            assert "go on with: qx run --resume" in done.err
        ends[f"{done.code} after {reached(runs)}"] += 1
        runs.go_on()
    with capsys.disabled():
        print(f"\n{os.strerror(number)}, gone on with: {dict(ends)}")


class Patched:
    """The module ``os`` with another ``write``."""

    def __init__(self, module: Any, write: Callable[[int, bytes], int]) -> None:
        self._module, self.write = module, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)
