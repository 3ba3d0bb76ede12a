"""Figures over many runs: a step is found where there is one, and named with its commit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from qx.history import collect, of_cells, read_runs
from qx.report import markdown
from qx.results import results_file
from qx.results.run_record import Repository
from qx.statistics.steps import LEAST, PROMISED, exact_steps, find_steps

RUNS, STEP = 12, 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, builders: ModuleType) -> Path:
    """Return a folder of the results of twelve commits; from the eighth on ``quick`` is slower and larger."""
    home = tmp_path_factory.mktemp("history")
    for number in range(RUNS):
        slower = number >= STEP
        quick = builders.Cell(delay=1.2 if slower else 1.0, weight=300_000 if slower else 200_000)
        run = builders.Run(
            cells={"quick": quick},
            seed=number,
            environment={
                "fingerprint": "machine",
                "repositories": (Repository(role="command", commit=f"{number:040x}", dirty=number == STEP),),
            },
            run={
                "id": f"20260102T03040{number % 10}-{number:06x}",
                "started": f"2026-01-{number + 1:02d}T03:04:05+00:00",
                "samples": f"samples-{number}.npz",
            },
        )
        recording = run.recording()
        results = run.results(recording)
        results_file.write(home / f"run-{number:02d}", results, markdown.render(results), recording)
    return home


def history(qx: Callable[..., Any], *words: object) -> dict[str, Any]:
    """Return the history that the command prints as JSON."""
    done = qx("history", *words, "--format", "json")
    assert done.code == 0, done.err
    content: dict[str, Any] = json.loads(done.out)
    return content


def test_steps_are_found_with_their_commit(qx: Callable[..., Any], folder: Path) -> None:
    """Delay and size of the cell step at the eighth run, and nothing else does."""
    content = history(qx, folder)
    assert [run["commit"][-3:] for run in content["runs"][:STEP]] == ["000"] * STEP
    assert content["runs"][STEP]["commit"].endswith("with changes")
    steps = {
        (series["config"], series["metric"], series["basis"]): [step["run"] for step in series["steps"]]
        for series in content["series"]
        if series["steps"]
    }
    assert steps == {
        ("quick", "weight", "value"): [STEP],
        ("quick", "delay", "value"): [STEP],
        ("quick", "delay", "against baseline"): [STEP],
    }
    (step,) = next(series for series in content["series"] if series["steps"])["steps"]
    assert (step["before"], step["verdict"]) == (STEP - 1, "worse")
    assert step["mean_behind"] == pytest.approx(300_000)


def test_terminal_markdown_and_files_say_the_same(
    qx: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    """Each medium names the cell, the change and both commits."""
    done = qx("history", folder, "--out", "history.md", "--out", "history.json")
    page = (tmp_path / "history.md").read_text()
    for text in (done.out, page):
        assert "12 runs from 2026-01-01 to 2026-01-12" in text
        assert "3 steps" in text
        assert "+50.0 %" in text
        assert "000000000000..000000000000 with changes" in " ".join(text.split())
        assert "2026-01-08" in text
    assert len(json.loads((tmp_path / "history.json").read_text())["runs"]) == RUNS


def drawn(page: Path) -> dict[str, Any]:
    """Return the data that a page's script draws from."""
    text = page.read_text()
    start = text.index(">", text.index('id="data"')) + 1
    content: dict[str, Any] = json.loads(text[start : text.index("</script>", start)])
    return content


def test_the_page_has_every_series_and_its_steps(
    qx: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    """A page of its own draws what JSON has, with the commit of each step."""
    content = history(qx, folder)
    assert qx("history", folder, "--out", "history.html").code == 0
    shown = drawn(tmp_path / "history.html")["history"]
    assert [run["commit"] for run in shown["runs"]] == [run["commit"] for run in content["runs"]]
    for series, expected in zip(shown["series"], content["series"], strict=True):
        assert series["runs"] == [entry["run"] for entry in expected["values"]]
        assert series["value"]["middle"] == pytest.approx(
            [entry["value"] for entry in expected["values"]], rel=1e-5
        )
        assert [step["commit"] for step in series["steps"]] == [step["commit"] for step in expected["steps"]]


def test_the_page_of_a_run_has_the_history_of_its_configs(
    qx: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    """``qx report --history`` adds the section; without it there is none."""
    for words, expected in ((("--history", folder), RUNS), ((), None)):
        done = qx("report", folder / "run-03", "--out", "report", *words)
        assert done.code == 0, done.err
        content = drawn(tmp_path / "report" / "report.html")
        assert content["kind"] == "run"
        assert (len(content["history"]["runs"]) if "history" in content else None) == expected
        assert ('href="#history"' in (tmp_path / "report" / "report.html").read_text()) is bool(words)


def test_a_run_page_follows_no_config_that_the_run_lacks(folder: Path, builders: ModuleType) -> None:
    """Series of other cells are left out, and all of its own are there."""
    whole = collect(read_runs([folder]))
    other = builders.Run(cells={"slow": builders.Cell()})
    assert {series.row for series in whole.series} == {"base", "quick"}
    assert {series.row for series in of_cells(whole, other.results(other.recording())).series} == {"base"}


def test_few_runs_are_said_to_be_too_few(qx: Callable[..., Any], folder: Path) -> None:
    """With fewer values than a test needs only exact ones step, and that is said."""
    done = qx("history", *(folder / f"run-{number:02d}" for number in range(STEP - 2, STEP + 2)))
    assert "1 step." in done.out
    assert f"fewer than {LEAST} values" in done.out


def test_other_machines_have_series_of_their_own(
    qx: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    """Delays of another machine are no step; its sizes are those of the same series."""
    for number in range(6):
        place = tmp_path / "runs" / f"{number}"
        place.mkdir(parents=True)
        fields = json.loads((folder / f"run-{number:02d}" / results_file.RESULTS).read_text())
        if number > 2:
            fields["environment"]["fingerprint"] = "another"
        (place / results_file.RESULTS).write_text(json.dumps(fields))
    content = history(qx, "runs", "-m", "delay", "-m", "weight")
    machines = {(series["metric"], series["machine"]) for series in content["series"]}
    assert machines == {("delay", "machine"), ("delay", "another"), ("weight", None)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere",), "there are no results in nowhere"),
        (("{folder}/run-00",), "needs the results of two runs or more, and there is one"),
        (("{folder}", "-m", "speed"), "-m speed: no run has this metric (choose from hits, "),
        (("{folder}", "--out", "history.txt"), "its suffix must be .md, .json or .html"),
        (("{folder}", "--format", "nicer"), "unknown format 'nicer'"),
    ],
)
def test_mistakes_are_one_line(
    qx: Callable[..., Any], folder: Path, words: tuple[str, ...], message: str
) -> None:
    """Exit code 2, and a line that says what was expected."""
    done = qx("history", *(word.format(folder=folder) for word in words))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err


# The test for steps -------------------------------------------------------------------------------


def test_series_without_a_step_seldom_have_one_found() -> None:
    """Of 600 series with unequal errors about one in a hundred is said to have a step, at most."""
    generator, alarms = np.random.default_rng(4), 0
    for number in range(600):
        errors = np.exp(generator.normal(0, 0.7, 15))
        alarms += bool(find_steps(errors * generator.normal(size=15), errors, seed=number))
    assert alarms / 600 < PROMISED + 3 * np.sqrt(PROMISED / 600)


def test_a_clear_step_is_found_at_its_place() -> None:
    """A step of five standard errors is found within one place, also with errors that are not known."""
    generator = np.random.default_rng(5)
    values = generator.normal(size=30) + 5 * (np.arange(30) >= 12)
    for errors in (np.ones(30), np.full(30, np.nan)):
        (step,) = find_steps(values, errors)
        assert abs(step.position - 12) <= 1


def test_two_steps_are_both_found() -> None:
    """Segments before and behind a step are looked at again."""
    generator = np.random.default_rng(6)
    values = generator.normal(size=60) + 6 * (np.arange(60) >= 20) - 9 * (np.arange(60) >= 40)
    assert [step.position for step in find_steps(values, np.ones(60))] == pytest.approx([20, 40], abs=1)


def test_values_without_an_error_step_wherever_they_differ() -> None:
    """One byte more is a step."""
    assert [step.position for step in exact_steps([1, 1, 2, 2, 1])] == [2, 4]


def test_equal_values_have_no_step() -> None:
    """A series that never changes has none, whatever its errors."""
    assert find_steps(np.ones(20), np.zeros(20)) == []
