"""``qx report``: results that were written, shown again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from qx.report import markdown, screen, terminal
from qx.results import results_file as results

SAMPLES = "samples-20260102T030405-abcdef.npz"


#: The files that ``qx report`` writes.
REPORTS = {"pareto.md", "pareto.svg", "report.html"}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, builders: ModuleType) -> Path:
    """Write the results of a run into a folder."""
    run = builders.small()
    place = tmp_path_factory.mktemp("original") / "results"
    results.write(place, run.results(), markdown.render(run.results()), run.recording())
    return place


@pytest.fixture
def folder(tmp_path: Path, original: Path) -> Path:
    """Return the folder of results in the current folder, which may be changed."""
    return shutil.copytree(original, tmp_path / "artifacts" / "results")


def test_the_table_is_written_and_printed_again(
    folder: Path, qx: Callable[..., Any], builders: ModuleType
) -> None:
    """Without arguments it reads artifacts/results, writes the same pareto.md there and prints the table."""
    expected = (folder / "pareto.md").read_bytes()
    others = {path: path.read_bytes() for path in folder.iterdir() if path.name not in REPORTS}
    (folder / "pareto.md").write_text("gone")
    done = qx("report")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(terminal.render(builders.small().results(), "simple"))
    assert done.out.endswith("\nwritten: artifacts/results/pareto.md and artifacts/results/report.html\n")
    assert (folder / "pareto.md").read_bytes() == expected
    assert {path: path.read_bytes() for path in others} == others
    assert {path.name for path in folder.iterdir()} - {path.name for path in others} == REPORTS


def test_a_terminal_gets_one_screen(
    folder: Path, qx_on_terminal: Callable[..., Any], builders: ModuleType
) -> None:
    """On a terminal the report is one screen, in colour unless NO_COLOR is set; pareto.md is written too."""
    expected = screen.render(builders.small().results(), ["artifacts/results/report.html"], 100, colour=True)
    (folder / "pareto.md").unlink()
    done = qx_on_terminal("report")
    assert (done.code, done.err, done.out) == (0, "", f"{expected}\n")
    assert (folder / "pareto.md").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_COLOR", "1")
        assert "\x1b" not in qx_on_terminal("report").out


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("words", [["-v"], ["--verbose"], ["--format", "simple"], ["--format", "github"]])
def test_everything_is_printed_where_that_is_asked_for(
    qx: Callable[..., Any], qx_on_terminal: Callable[..., Any], words: list[str]
) -> None:
    """With ``-v`` or a format a terminal gets what a pipe gets, and a pipe gets the same without ``-v``."""
    assert qx_on_terminal("report", *words).out == qx("report", *words).out
    if "-v" in words:
        assert qx("report").out == qx("report", "-v").out


@pytest.mark.parametrize("path", ["artifacts/results", "artifacts/results/full_results.json"])
def test_a_folder_or_a_file_is_given(folder: Path, qx: Callable[..., Any], path: str) -> None:
    """``qx report`` takes the path of the results or of their folder; ``--out`` is where the page goes."""
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    done = qx("report", path, "--out", "elsewhere", "--format", "github")
    assert (done.code, done.err) == (0, "")
    assert "| config" in done.out
    assert Path("elsewhere/pareto.md").read_bytes() == before["pareto.md"]
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_figures_come_from_the_samples(folder: Path, qx: Callable[..., Any]) -> None:
    """Where the file and its samples differ, the figures are those of the samples, and that is said."""
    whole = json.loads((folder / "full_results.json").read_text())
    (weight,) = (
        entry
        for entry in whole["measurements"]
        if (entry["cell"], entry["metric"]) == ("toy/quick", "weight")
    )
    weight["value"] = 123_000.0
    (folder / "full_results.json").write_text(json.dumps(whole))
    done = qx("report")
    assert done.code == 0
    assert "260 kB" in done.out and "123 kB" not in done.out
    assert done.err.count("\n") == 1
    assert "qx: 1 figures computed from artifacts/results/samples" in done.err
    assert "differ from those in the file" in done.err


def test_without_samples_the_file_is_believed(folder: Path, qx: Callable[..., Any]) -> None:
    """Where the samples are gone, the figures of the file are shown, and that is said."""
    expected = (folder / "pareto.md").read_bytes()
    (folder / SAMPLES).unlink()
    done = qx("report")
    assert (done.code, (folder / "pareto.md").read_bytes()) == (0, expected)
    assert done.err.startswith(
        f"qx: artifacts/results/{SAMPLES} does not exist, so the figures are taken from"
    )
    assert done.err.count("\n") == 1


def cut_off(samples: Path) -> None:
    """Cut the file off, as a full disk does."""
    samples.write_bytes(samples.read_bytes()[:-200])


def flip(samples: Path) -> None:
    """Flip one bit in the middle."""
    content = bytearray(samples.read_bytes())
    content[len(content) // 2] ^= 1
    samples.write_bytes(content)


def empty(samples: Path) -> None:
    """Leave nothing in the file."""
    samples.write_bytes(b"")


def other(samples: Path) -> None:
    """Write an archive of something else."""
    np.savez(samples, **{"toy/quick|weight||values": np.ones(1)})


@pytest.mark.parametrize("damage", [cut_off, flip, empty, other])
def test_damaged_samples_are_told(
    folder: Path, qx: Callable[..., Any], damage: Callable[[Path], None]
) -> None:
    """Samples that cannot be read are a mistake of one line, and nothing is written."""
    damage(folder / SAMPLES)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = qx("report")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"qx: error: the samples in artifacts/results/{SAMPLES} are damaged: ")
    assert done.err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there are no results in nowhere"),
        (["--format", "nice"], "unknown format 'nice' (choose from "),
        (["--out", "a_file"], "cannot write into a_file: "),
        (["artifacts/results/pareto.md"], "artifacts/results/pareto.md is not a results file"),
    ],
)
def test_mistakes_are_told(folder: Path, qx: Callable[..., Any], arguments: list[str], message: str) -> None:
    """A path without results, an unknown format and a folder that cannot be written end with exit code 2."""
    Path("a_file").write_text("")
    done = qx("report", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"qx: error: {message}") and done.err.count("\n") == 1


def test_an_unknown_version_is_told(folder: Path, qx: Callable[..., Any]) -> None:
    """Results of another schema version are not guessed at, and stay as they are."""
    place = folder / "full_results.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "schema_version": 7}))
    before = (folder / "pareto.md").read_bytes()
    done = qx("report")
    assert done.code == 2
    assert "has schema version 7; this qx reads versions 1 and 2" in done.err
    assert (folder / "pareto.md").read_bytes() == before
