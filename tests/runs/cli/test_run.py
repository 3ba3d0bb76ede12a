"""``qx run`` as its user meets it: what it says, where it writes, how it ends, and what it refuses."""

from __future__ import annotations

import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from qx.cli.display import Lines
from qx.results import results_file as results
from qx.storage.uses import FILE as LOCKS

Qx = Callable[..., Any]
Start = Callable[..., "subprocess.Popen[str]"]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file in a folder, hidden ones too, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def errors(done: Any) -> list[str]:
    """Return the lines of standard error that do not report progress."""
    return [line for line in done.err.splitlines() if not line.startswith("[")]


# Which workload -----------------------------------------------------------------------------------


def test_without_its_data_the_default_workload_gives_way(qx: Qx) -> None:
    """Where the default workload has no data, one line says so, why, and how to provide them."""
    done = qx("run", "-c", "fp32_baseline", "-m", "file_size")
    assert done.code == 0, done.err
    (line,) = errors(done)
    assert line.startswith("qx: cifar10_cnn: CIFAR-10 is not in ")
    assert "--data DIR or QX_DATA" in line
    assert line.endswith("; running digits_cnn instead")
    folder = Path("artifacts/results/digits_cnn")
    assert "digits_cnn" in (folder / "pareto.md").read_text().splitlines()[0]
    assert not Path("artifacts/results/full_results.json").exists()
    assert f"written: {folder / 'full_results.json'}" in done.out


@pytest.mark.parametrize("asked", [("--workload", "cifar10_cnn"), ("--data", "nothing_here")])
def test_a_workload_asked_for_is_not_replaced(qx: Qx, tmp_path: Path, asked: tuple[str, str]) -> None:
    """Whoever names the default workload, or the place of its data, gets an error and no other workload."""
    done = qx("run", *asked)
    assert done.code == 2
    (line,) = errors(done)
    assert line.startswith("qx: error: ")
    assert "--data DIR or QX_DATA" in line
    assert contents(tmp_path) == {}


# What it refuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--calibration-n", "0"], ["--calibration-n", "at least 1", "0"]),
        (["--data", "nowhere"], ["--data nowhere", "does not exist", "leave it out"]),
        (["--calibration-n", "301"], ["301 calibration items are asked for", "toy has 300 training items"]),
        (["--batch-size", "0"], ["--batch-size", "at least 1", "0"]),
        (["--batch-size", "4", "--batch-size", "-1"], ["--batch-size", "at least 1", "-1"]),
        (["--batch-size", "four"], ["--batch-size", "invalid int value: 'four'"]),
        (["--threads", "0"], ["--threads", "at least 1", "0"]),
        (["--timeout", "0"], ["--timeout", "above 0", "0"]),
        (["--timeout", "nan"], ["--timeout", "above 0", "nan"]),
        (["--precision", "0"], ["--precision", "above 0"]),
        (["--budget", "-3"], ["--budget", "above 0", "-3"]),
        (["--seed", "-1"], ["--seed", "from 0", "-1"]),
        (["-c", "static_int4"], ["unknown config 'static_int4'", "toy_fp32"]),
        (["-m", "acuracy"], ["unknown metric 'acuracy'", "choose from accuracy", "latency"]),
        (["-m", "toy_fp32"], ["'toy_fp32' is a config, not a metric"]),
        (["--workload", "mnist"], ["unknown workload 'mnist'", "digits_cnn", "toy"]),
        (["--engine", "nosuch"], ["engine 'nosuch'", "choose one of", "qnnpack"]),
        (["--weights", "lost.pt"], ["weights file lost.pt does not exist"]),
        (["--format", "papyrus"], ["unknown format 'papyrus'", "simple"]),
        (["--out", "a_file"], ["cannot write into a_file", "is a file"]),
        (["--out", "a_file/in/it"], ["cannot write into a_file/in/it", "is a file"]),
        (["--out", "/proc/results"], ["cannot write into /proc/results"]),
        (["--colour"], ["unrecognized arguments: --colour", "--help"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0], str) and value[0].startswith("-") else "",
)
def test_a_mistake_is_told_in_one_line(
    qx: Qx, toy: Any, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    """A mistake ends with exit code 2 and a line that names it and what was expected; nothing is written."""
    Path("a_file").write_text("mine")
    done = qx("run", *toy.arguments(), "--out", "out", *arguments)
    assert done.code == 2, done.err
    (line,) = errors(done)
    assert line.startswith("qx: error: ")
    for word in words:
        assert word in line
    assert done.out == ""
    assert contents(tmp_path) == {"a_file": b"mine"}


def test_weights_that_want_to_run_code_do_not(qx: Qx, toy: Any, tmp_path: Path) -> None:
    """A pickle that calls a function when it is loaded is refused with exit code 2, and nothing is called."""
    import torch

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "it_ran"),)

    torch.save({"weight": Evil()}, "evil.pt")
    done = qx("run", *toy.arguments(), "--weights", "evil.pt", "--out", "out")
    assert done.code == 2
    (line,) = errors(done)
    assert "evil.pt holds more than tensors, and loading it could run code" in line
    assert not (tmp_path / "it_ran").exists()
    assert not (tmp_path / "out").exists()


def test_a_budget_too_short_for_six_waves_says_how_long_they_take(qx: Qx, toy: Any, tmp_path: Path) -> None:
    """A budget too short is refused before anything is timed, and the results of an earlier run stay."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "full_results.json").write_text("an earlier run's")
    done = qx("run", *toy.arguments(), "-m", "latency", "--budget", 0.1, "--batch-size", 1, "--out", "out")
    assert done.code == 2
    (line,) = errors(done)
    assert re.search(r"--budget 0\.1 is too short: 6 waves of these cells take about \d+ s; .*--quick", line)
    assert (tmp_path / "out" / "full_results.json").read_text() == "an earlier run's"


# What it says -------------------------------------------------------------------------------------


def test_without_a_terminal_it_says_plain_lines(qx: Qx, toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line with time and phase goes to standard error at most every 30 s, the table to standard output."""
    arguments = ("run", *toy.arguments(), "-m", "latency", "--quick", "--budget", 0.01, "--out", "out")
    done = qx(*arguments)
    assert done.code == 0, done.err
    assert re.fullmatch(r"\[ *0\.\d s\] prepare: toy\n", done.err)
    assert "\x1b" not in done.err + done.out
    assert "toy_fp32" in done.out
    assert done.out.splitlines()[-1] == "written: out/full_results.json, out/pareto.md and out/report.html"
    monkeypatch.setattr(Lines, "PAUSE", 0.0)
    lines = qx(*arguments).err.splitlines()
    assert all(re.match(r"\[ *\d+\.\d s\] [a-z]+: ", line) for line in lines), lines
    phases = [line.split("] ")[1].partition(":")[0] for line in lines]
    assert list(dict.fromkeys(phases)) == ["prepare", "build", "evaluate", "measure", "analyse"]
    assert any(re.search(r"build: 100% 1 of 1, toy_fp32$", line) for line in lines)


def test_on_a_terminal_it_shows_a_live_block(start: Start, toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where standard error is a terminal one block is drawn over, and is gone at the end."""
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    process = start(
        *("run", *toy.arguments(), "-m", "file_size", "--format", "github", "--out", "out"), stderr=theirs
    )
    os.close(theirs)
    drawn = b""
    while part := _read(ours):
        drawn += part
    out, _ = process.communicate()
    os.close(ours)
    assert process.returncode == 0, drawn
    for phase in (b"prepare", b"build", b"evaluate"):
        assert phase in drawn
    assert b"\x1b[2K" in drawn
    assert "| toy_fp32" in out


def test_on_a_terminal_all_that_stays_is_a_screen(
    start: Start, toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal nothing stays but one screen: what a config could not do is a line of it."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    cannot = toy.config("cannot", first="from qx import Unsupported; raise Unsupported('layer 3 is a loop')")
    ours, theirs = pty.openpty()
    process = start(
        *("run", *toy.arguments(cannot), "-m", "file_size", "--out", "out"), stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    drawn = b""
    while part := _read(ours):
        drawn += part
    process.wait()
    os.close(ours)
    assert process.returncode == 0, drawn
    # What was erased is gone; of the rest the colours are.
    stays = re.split(r"(?:\x1b\[1A|\x1b\[2K|\x1b\[\?25[lh]|\r)+", drawn.decode().replace("\r\n", "\n"))[-1]
    lines = re.sub(r"\x1b\[[0-9;]*m", "", stays).splitlines()
    assert lines[0].startswith("toy on ")
    assert "cannot treat this model: cannot: layer 3 is a loop" in lines
    assert lines[-1] == "report: out/report.html; all figures: qx report -v"
    assert len(lines) <= 14
    assert drawn.count(b"layer 3 is a loop") > 1


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, 1 << 16)
    except OSError:  # how Linux tells that the last writer of a terminal has gone
        return b""


@pytest.mark.parametrize(("style", "mark"), [("github", "|---"), ("grid", "+===")])
def test_the_table_comes_in_any_format_of_tabulate(
    builders: ModuleType, qx: Qx, style: str, mark: str
) -> None:
    """``--format`` takes any format of tabulate."""
    run = builders.small()
    results.write(Path("results"), run.results(), "", run.recording())
    done = qx("report", "results", "--format", style)
    assert done.code == 0, done.err
    assert mark in done.out


# How it is stopped --------------------------------------------------------------------------------

WHERE = {
    "build": "config",
    "evaluate": "predictions",
    "launch": "fresh",
    "rounds": "block",
}
METRIC = """
    import pathlib, time
    from qx import Metric, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="slow", summary="Waits.", unit="things", better="lower",
            samples="{samples}", compare="ratio", phase="{phase}",
        )

    @hookimpl
    def measure():
        pathlib.Path({marker!r}).touch()
        time.sleep({seconds})
        return [1.0]
"""


@pytest.fixture
def half_made(cache: Path) -> Iterator[Callable[[], list[Path]]]:
    """Return a function that lists the folders of unfinished builds, which are removed after the test."""

    def unfinished_folders() -> list[Path]:
        # The file of the locks of entries that runs use stays.
        return [path for path in cache.rglob(".*") if path.name != LOCKS]

    yield unfinished_folders
    for folder in unfinished_folders():
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("where", "sent", "code", "word"),
    [
        pytest.param("build", signal.SIGINT, 130, "interrupted", marks=pytest.mark.slow),
        ("build", signal.SIGTERM, 143, "terminated"),
        ("evaluate", signal.SIGINT, 130, "interrupted"),
        ("launch", signal.SIGTERM, 143, "terminated"),
        ("rounds", signal.SIGINT, 130, "interrupted"),
        pytest.param("rounds", signal.SIGTERM, 143, "terminated", marks=pytest.mark.slow),
    ],
)
def test_whoever_stops_it_finds_everything_as_it_was(
    half_made: Callable[[], list[Path]],
    start: Start,
    toy: Any,
    write_plugin: Callable[[str, str], str],
    tmp_path: Path,
    where: str,
    sent: signal.Signals,
    code: int,
    word: str,
) -> None:
    """A second Ctrl-C or SIGTERM ends all processes at once; earlier results stay, and the journal is new."""
    marker = tmp_path / "marker"
    if where == "build":
        plugin = toy.config(
            "slow", first=f"import pathlib, time; pathlib.Path({str(marker)!r}).touch(); time.sleep(1000)"
        )
    else:
        samples = {"predictions": "exact", "fresh": "per_launch", "block": "per_block"}[WHERE[where]]
        # The metric in the rounds does not hang, so that the run is stopped in the midst of its work.
        seconds = 0 if where == "rounds" else 1000
        plugin = write_plugin(
            "slow", METRIC.format(phase=WHERE[where], samples=samples, marker=str(marker), seconds=seconds)
        )
    out = tmp_path / "out"
    out.mkdir()
    for name in ("full_results.json", "pareto.md", "samples-earlier.npz"):
        (out / name).write_bytes(f"the earlier {name}".encode())
    before = contents(out)

    run = start("run", *toy.arguments(plugin), "--precision", 1e-9, "--budget", 1000, "--out", out)
    host = psutil.Process(run.pid)
    while not marker.exists():
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    workers = host.children(recursive=True)
    assert workers
    run.send_signal(sent)
    if where != "build":
        # The first lets the run end in order; in a build there is nothing yet that could be shown.
        assert run.stderr is not None
        while "Ctrl-C again ends at once" not in run.stderr.readline():
            assert run.poll() is None
        run.send_signal(sent)
    stdout, stderr = run.communicate(timeout=120)

    assert run.returncode == code, stderr
    assert stderr.splitlines()[-1] == f"qx: {word}"
    assert "Traceback" not in stderr
    assert stdout == ""
    # What was finished is kept for `--resume`, where there is anything.
    assert where == "build" or (out / "journal" / "records").is_file()
    shutil.rmtree(out / "journal", ignore_errors=True)
    assert contents(out) == before
    assert [worker for worker in workers if worker.is_running()] == []
    assert list((tmp_path / "temporary").iterdir()) == []
    assert half_made() == []


def test_a_full_disk_leaves_the_earlier_results(start: Start, toy: Any, tmp_path: Path) -> None:
    """Results that cannot be written whole leave the earlier ones as they were, and the reason is shown."""
    out = tmp_path / "out"
    out.mkdir()
    for name in ("full_results.json", "pareto.md", "samples-earlier.npz"):
        (out / name).write_bytes(f"the earlier {name}".encode())
    before = contents(out)
    # No file may grow beyond this limit in bytes: enough for the artifacts, too small for the results.
    limit = 5000
    run = start(
        *("run", *toy.arguments(), "--out", out, "-m", "file_size", "-m", "accuracy"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    _, stderr = run.communicate()
    assert run.returncode == 2, stderr
    assert stderr.splitlines()[-1].startswith("qx: error: cannot write the ")
    assert "File too large" in stderr.splitlines()[-1]
    assert f"go on with: qx run --resume {out}" in stderr.splitlines()[-1]
    shutil.rmtree(out / "journal")
    assert contents(out) == before
