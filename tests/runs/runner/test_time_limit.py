"""A limit of the time of a whole run: it ends in time, and its results say what is missing."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import psutil
import pytest

from qx.runner.measure.waves import _Group
from qx.runner.phase_limits import PhaseLimit

Qx = Callable[..., Any]


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let phases take these seconds, and all others any: no test depends on how fast the machine is."""

    def allow(**seconds: float) -> None:
        def begin(self: PhaseLimit, workload_run: Any) -> None:
            self.limit.end = time.monotonic() + seconds.get(self.phase, math.inf)
            self.limit.subject = self.phase

        monkeypatch.setattr(PhaseLimit, "begin", begin)

    return allow


@pytest.mark.usefixtures("own_fork_servers")
def test_what_was_too_long_is_left_out_and_the_rest_is_whole(
    qx: Qx, toy: Any, write_metric: Any, monkeypatch: pytest.MonkeyPatch, allow: Callable[..., None]
) -> None:
    """A build and a derived metric that time is too short for are named; two waves of the rest are kept."""
    assert qx("quantize", *toy.arguments(), "-c", "toy_fp32").code == 0
    allow(build=1.5, derive=0.0)
    monkeypatch.setattr(_Group, "end", property(lambda self: math.inf if self.waves < 2 else 0.0))
    sleeper = toy.config("sleeper", first="import time; time.sleep(600)")
    derived = write_metric("doubled", "derived", "return Samples(2.0)")
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    began = time.monotonic()
    done = qx(
        *("run", *toy.arguments(sleeper, derived), "-m", "latency", "-m", "doubled"),
        *("--batch-size", 1, "--budget", 60, "--max-time", "1h", "--out", "out"),
    )
    assert time.monotonic() - began < 300
    assert done.code == 1, done.err
    cell = done.cell("sleeper")
    assert cell["outcome"] == "timeout"
    # On a busy machine it may not even have begun.
    assert re.fullmatch(
        r"not (begun|finished) when the time for build was over \(--max-time 1h\)", cell["cause"]
    )
    run = done.results["run"]
    assert run["time_limit"] == {
        "seconds": 3600.0,
        "left_out": [
            {"workload": "toy", "phase": "build", "cells": ["toy/sleeper"]},
            {"workload": "toy", "phase": "derive", "cells": ["toy/toy_fp32"]},
        ],
    }
    measuring = run["measuring"]
    assert (measuring["waves"], measuring["ended_by"], measuring["cut_short"]) == (2, "time limit", True)
    assert done.measurement("toy_fp32", "latency")["value"] > 0
    doubled = done.measurement("toy_fp32", "doubled")
    assert (doubled["value"], doubled["outcome"]) == (None, "timeout")
    assert run["failures"] == ["sleeper: timeout", "toy_fp32: metric doubled"]
    shown = done.table.replace("\N{NO-BREAK SPACE}", " ")
    assert "**The time of the run was over** (`--max-time 1h`): not built: `sleeper`; not derived: " in shown
    assert "2 waves in all, which is too few" in shown
    left = {process.pid for process in psutil.Process().children(recursive=True)} - before
    assert not left


@pytest.mark.slow
def test_a_wave_that_the_time_ends_in_does_not_count(
    qx: Qx, toy: Any, write_metric: Any, allow: Callable[..., None]
) -> None:
    """A metric that hangs in its first block leaves the other figures, and no cell is said to have failed."""
    allow(measure=4.0)
    hanging = write_metric("hanging", "block", "import time; time.sleep(600); return Samples(1.0)")
    done = qx(
        *("run", *toy.arguments(hanging), "-m", "file_size", "-m", "hanging", "--batch-size", 1),
        *("--max-time", "1h", "--out", "out"),
    )
    assert done.code == 1, done.err
    assert done.cell("toy_fp32")["outcome"] == "ok"
    assert done.measurement("toy_fp32", "file_size")["value"] > 0
    missing = done.measurement("toy_fp32", "hanging")
    assert missing["outcome"] == "timeout"
    assert missing["cause"] == "not measured when the time for measure was over (--max-time 1h)"
    run = done.results["run"]
    assert run["time_limit"]["left_out"] == [
        {"workload": "toy", "phase": "measure", "cells": ["toy/toy_fp32"]}
    ]
    measuring = run["measuring"]
    assert (measuring["waves"], measuring["deaths"], measuring["cut_short"]) == (0, [], True)
    assert run["failures"] == ["toy_fp32: metric hanging"]


def test_a_limit_that_nothing_hits_changes_nothing(qx: Qx, toy: Any) -> None:
    """A run that ends in time says so in its results alone."""
    done = qx("run", *toy.arguments(), "-m", "file_size", "--max-time", "1000", "--out", "out")
    assert done.code == 0, done.err
    assert done.results["run"]["time_limit"] == {"seconds": 1000.0, "left_out": []}
    assert "time of the run" not in done.table


def test_a_preparation_that_is_too_long_ends_in_one_line(
    qx: Qx, toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no workload was prepared in time there is nothing to report: exit code 2, one line, no files."""
    monkeypatch.setattr(import_module("qx.runner.run"), "PREPARATION", 0.0)
    done = qx("run", *toy.arguments(), "-m", "file_size", "--max-time", "20m", "--out", "out")
    assert done.code == 2
    line = done.err.splitlines()[-1]
    assert line.startswith("qx: error: workload toy: ")
    assert line.endswith("not begun when the time for the preparation was over (--max-time 20m)")
    assert not done.folder.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("soon", "--max-time: 'soon' is not a duration; expected a number of seconds"),
        ("10 minutes", "is not a duration"),
        ("-5", "'-5' is not a duration"),
        ("2", "--max-time must be from 5 to 1,000,000 seconds, not 2"),
        ("9000h", "--max-time must be from 5"),
    ],
)
def test_a_limit_that_is_none_is_refused(qx: Qx, text: str, words: str) -> None:
    """Each mistake ends in one line before anything is done."""
    done = qx("run", "--max-time", text)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert done.err.count("\n") == 1


@pytest.mark.slow
def test_the_whole_run_ends_in_time(start: Callable[..., Any], toy: Any, write_metric: Any) -> None:
    """With a build, an evaluation and a block that never end, the command ends within its limit and 10 s."""
    names = [toy.config(f"sleeper_{number}", first="import time; time.sleep(600)") for number in range(3)]
    hanging = write_metric("hanging", "predictions", "import time; time.sleep(600); return Samples(1.0)")
    blocking = write_metric("blocking", "block", "import time; time.sleep(600); return Samples(1.0)")
    began = time.monotonic()
    process = start(
        *("run", *toy.arguments(*names, hanging, blocking), "-m", "file_size", "-m", "hanging"),
        *("-m", "blocking", "--batch-size", 1, "--max-time", "40s", "--out", "out"),
    )
    children: set[int] = set()
    while process.poll() is None:
        children |= {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
        assert time.monotonic() - began < 50
        time.sleep(0.2)
    output, errors = process.communicate()
    assert process.returncode == 1, errors
    assert "WARNING: The time of the run was over (--max-time 40s): not built: sleeper_0, " in re.sub(
        r"\s+", " ", output
    )
    assert not [pid for pid in children if psutil.pid_exists(pid)]
    assert os.path.exists("out/full_results.json")
