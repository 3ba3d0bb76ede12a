"""A run that ended before it was done: what it had finished is kept, and another sitting goes on from it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from qx.results.recording import Recording
from qx.runner import journal as journal_module
from qx.runner.journal import BuildRecord, EvaluationRecord, Journal, WaveRecord
from qx.runner.measure.log import WaveLog
from qx.storage.holding import hold_folder

Qx = Callable[..., Any]
Start = Callable[..., Any]

#: What keeps these runs short.
SHORT = ("--quick", "--budget", "0.01", "--batch-size", "1")


class PowerLoss(Exception):
    """Stands for what ends a run in the midst of its work: it is no error of qx's."""


@pytest.fixture
def arguments(toy: Any, write_metric: Any, tmp_path: Path) -> list[str]:
    """Return words of a run with two builds and a metric of predictions that counts how often it is asked."""
    body = f"""
        with open({str(tmp_path / "asked")!r}, "a") as file:
            file.write("x")
        return Samples(1.0)
    """
    counting = write_metric("counting", "predictions", body)
    words = ["run", *toy.arguments(toy.config("other"), counting), *SHORT, "--out", "out"]
    return [*words, "-m", "accuracy", "-m", "counting", "-m", "latency"]


@pytest.fixture
def lose_power(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have a run end behind so many waves, without any clearing up of its journal."""

    def lose(waves: int) -> None:
        write = WaveLog.write

        def write_and_end(self: WaveLog, measured: Any, *rest: Any) -> None:
            write(self, measured, *rest)
            if measured.waves == waves:
                raise PowerLoss

        monkeypatch.setattr(WaveLog, "write", write_and_end)

    return lose


def finished(folder: Path) -> dict[str, list[Any]]:
    """Return the records of a journal by kind, and leave it as it is."""
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    journal = Journal.resume(copy)
    kinds = {"build": BuildRecord, "evaluation": EvaluationRecord, "wave": WaveRecord}
    entries = {
        name: [entry for entry in journal.earlier if isinstance(entry.record, kind)]
        for name, kind in kinds.items()
    }
    journal.close()
    shutil.rmtree(copy)
    return entries


def test_what_was_finished_is_in_the_results_of_the_next_sitting(
    qx: Qx,
    arguments: list[str],
    lose_power: Callable[[int], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Builds, evaluations and waves are made once; the results have all, and say in how many sittings."""
    with monkeypatch.context():
        lose_power(2)
        done = qx(*arguments)
    assert done.code == 3
    line = next(line for line in done.err.splitlines() if "finished is kept" in line)
    assert line.endswith("go on with: qx run --resume out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["journal"]
    before = finished(tmp_path / "out" / "journal")
    assert {name: len(entries) for name, entries in before.items()} == {
        "build": 2,
        "evaluation": 2,
        "wave": 2,
    }
    monkeypatch.undo()
    os.chdir(tmp_path)

    done = qx("run", "--resume", "--out", "out")
    assert done.code == 0, done.err
    assert "which has finished 2 builds, 2 evaluations, 2 waves" in done.err
    run = done.results["run"]
    assert run["measuring"]["waves"] == 3
    assert run["measuring"]["sittings"] == [0, 0, 1]
    assert len(run["sittings"]) == 2
    assert run["interruption"] is None
    assert "in 2 sittings" in done.table
    assert (tmp_path / "asked").read_text() == "xx", "evaluations are not repeated"
    samples = Recording.read(tmp_path / "out" / run["samples"])
    for number, entry in enumerate(before["wave"]):
        for cell, series_by_figure in entry.recording.series.items():
            for figure, series in series_by_figure.items():
                kept = samples.series[cell][figure]
                np.testing.assert_array_equal(kept.values[kept.wave == number], series.values)
    assert not (tmp_path / "out" / "journal").exists()


def test_another_run_is_refused_with_what_differs(
    qx: Qx,
    arguments: list[str],
    lose_power: Callable[[int], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other options, another folder, version, machine or source: one line names it, and nothing is lost."""
    with monkeypatch.context():
        lose_power(1)
        assert qx(*arguments).code == 3
    monkeypatch.undo()
    os.chdir(tmp_path)
    before = (tmp_path / "out/journal/records").read_bytes()

    def refusal(*words: str) -> str:
        done = qx(*words)
        assert (done.code, done.out) == (2, "")
        (line,) = [line for line in done.err.splitlines() if line.startswith("qx: error: ")]
        assert (tmp_path / "out/journal/records").read_bytes() == before
        return str(line)

    assert "--seed was 0 and is 3" in refusal(*arguments, "--seed", "3", "--resume")
    assert "-m was accuracy counting latency and is accuracy" in refusal(*arguments[:-4], "--resume")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert f"begun in {tmp_path}" in refusal("run", "--resume", str(tmp_path / "out"))
    monkeypatch.chdir(tmp_path)
    run_module = import_module("qx.runner.run")
    identity = run_module.identity_of
    for field, name, words in (
        (
            "machine",
            "fingerprint",
            "begun on another machine, and another machine is another run: fingerprint",
        ),
        ("versions", "torch", "with other versions, and another version is another run: torch was "),
        ("sources", "metric counting", "sources have changed since the run was begun: metric counting"),
    ):

        def other(*rest: Any, field: str = field, name: str = name) -> Any:
            true = identity(*rest)
            return evolve(true, **{field: {**getattr(true, field), name: "another"}})

        monkeypatch.setattr(run_module, "identity_of", other)
        assert words in refusal("run", "--resume", "out")
    assert "no journal of an unfinished run in elsewhere" in refusal("run", "--resume", "elsewhere")
    (tmp_path / "out/journal").chmod(0o777)
    assert "can be written by others, who would decide what is run" in refusal("run", "--resume", "out")


def test_a_second_run_in_one_folder_is_refused(qx: Qx, arguments: list[str], tmp_path: Path) -> None:
    """The line says who holds the folder; it stays as it was."""
    with hold_folder(tmp_path / "out"):
        done = qx(*arguments)
    assert done.code == 2
    assert f"another run writes into out: process {os.getpid()} on " in done.err
    assert not (tmp_path / "out").exists()


def test_a_new_run_sets_an_unfinished_one_aside(
    qx: Qx,
    arguments: list[str],
    lose_power: Callable[[int], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without ``--resume`` the journal is kept beside until the new run has ended; it can be gone on with."""
    with monkeypatch.context():
        lose_power(1)
        assert qx(*arguments).code == 3
        done = qx(*arguments)
        assert done.code == 3
    assert "is set aside until this one has ended: qx run --resume out/journal-earlier" in done.err
    monkeypatch.undo()
    os.chdir(tmp_path)
    done = qx("run", "--resume", "out/journal-earlier")
    assert done.code == 0, done.err
    written = json.loads((tmp_path / "out/full_results.json").read_text())
    assert written["run"]["measuring"]["sittings"] == [0, 1, 1]
    assert not list((tmp_path / "out").glob("journal*"))


def test_a_full_disk_ends_the_run_in_a_line_that_says_how_to_go_on(
    qx: Qx, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the journal cannot be written the run ends, and what was finished before is kept."""
    append, count = journal_module.JournalFile.append, 0

    def full(self: Any, content: bytes) -> None:
        nonlocal count
        count += content.startswith(b'{"kind": "wave"')
        if count == 2:
            raise OSError(28, os.strerror(28), "records")
        append(self, content)

    monkeypatch.setattr(journal_module.JournalFile, "append", full)
    done = qx(*arguments)
    assert done.code == 2
    assert done.err.splitlines()[-1] == (
        f"qx: error: cannot write the journal in out/journal: {os.strerror(28)}; what was finished before is "
        f"kept: free space there, then go on with: qx run --resume out"
    )
    assert len(finished(tmp_path / "out" / "journal")["wave"]) == 1


# Ctrl-C and kill ----------------------------------------------------------------------------------


def wait_for(condition: Callable[[], bool], run: Any) -> None:
    """Wait until a run has come so far."""
    while not condition():
        assert run.poll() is None, run.communicate()
        time.sleep(0.02)


def waves(folder: Path) -> int:
    """Return the number of waves in the journal of a run in progress."""
    try:
        return (folder / "journal" / "records").read_bytes().count(b'{"kind": "wave"')
    except OSError:
        return 0


@pytest.mark.parametrize(
    ("sent", "code", "word"),
    [
        (signal.SIGINT, 130, "Ctrl-C"),
        pytest.param(signal.SIGTERM, 143, "SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_the_first_signal_ends_the_wave_and_writes_results_of_a_part(
    start: Start, arguments: list[str], qx: Qx, tmp_path: Path, sent: signal.Signals, code: int, word: str
) -> None:
    """The results say that they are of a part, and the next sitting completes them."""
    run = start(*arguments, "--budget", 1000, "--precision", 1e-9)
    wait_for(lambda: waves(tmp_path / "out") >= 1, run)
    run.send_signal(sent)
    stdout, stderr = run.communicate(timeout=120)
    assert run.returncode == code, stderr
    assert "ending in order, with results of what there is" in stderr
    assert stderr.splitlines()[-1].endswith("go on with: qx run --resume out")
    assert f"Results of a part, since the run was interrupted ({word})" in " ".join(stdout.split())
    written = json.loads((tmp_path / "out/full_results.json").read_text())
    assert written["run"]["interruption"]["signal"] == sent.name
    assert written["run"]["measuring"]["ended_by"] == "interrupted"
    first = written["run"]["measuring"]["waves"]
    assert first >= 1
    shown = qx("report", "out")
    assert shown.code == 0
    assert "Results of a part" in shown.out

    done = qx(*arguments, "--precision", 0.5, "--resume")
    assert done.code == 0, done.err
    assert done.results["run"]["interruption"] is None
    assert done.results["run"]["measuring"]["sittings"][:first] == [0] * first
    assert not (tmp_path / "out" / "journal").exists()


def test_a_run_whose_analysis_fails_keeps_its_samples(
    qx: Qx, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with 3, samples and results without figures; ``qx report`` makes the rest."""
    assembly = import_module("qx.runner.assembly")

    def fail(**_: object) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(assembly.analysis, "analyse", fail)
        done = qx(*arguments)
    assert done.code == 3
    assert "ZeroDivisionError: a bug" in done.err
    assert "qx report out makes the reports of them" in done.err
    written = json.loads((tmp_path / "out/full_results.json").read_text())
    assert written["run"]["analysed"] is False
    done = qx("report", "out")
    assert (done.code, done.err) == (0, "")
    written = json.loads((tmp_path / "out/full_results.json").read_text())
    assert written["run"]["analysed"] is True
    values = [part["value"] for part in written["measurements"] if part["metric"] == "latency"]
    assert len(values) == 3
    assert all(value > 0 for value in values)
    assert (tmp_path / "out/report.html").is_file()
    assert qx("report", "out").code == 0
