"""What the reports say of a run whose time was over, and of the commits that it was made of."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from attrs import evolve

from qx.comparison import Source, compare
from qx.comparison import records as comparison_records
from qx.comparison.changes import notes_on_runs
from qx.report import markdown, screen, terminal
from qx.report.html import page
from qx.results import results_file
from qx.results.records import Results
from qx.results.run_record import LeftOut, Repository, TimeLimitRecord

COMMIT, OTHER = "0123456789" * 4, "f" * 64


@pytest.fixture
def limited(builders: ModuleType) -> Results:
    """Return a run that had no time for one cell, and for more than two waves."""
    slow = builders.Cell(outcome="timeout", stage="convert", cause="not finished", waves=())
    left_out = (
        LeftOut(workload="toy", phase="build", cells=("toy/slow",)),
        LeftOut(workload="toy", phase="derive", cells=("toy/base", "toy/quick")),
    )
    run = builders.small(
        run={"time_limit": TimeLimitRecord(seconds=900, left_out=left_out)},
        measuring={"ended_by": "time limit", "cut_short": True, "waves": 2},
    )
    results: Results = evolve(run, cells={**run.cells, "slow": slow}).results()
    return results


def flat(text: str) -> str:
    """Return a text without its line breaks, indents and no-break spaces."""
    return re.sub(r"\s+", " ", text.replace("\N{NO-BREAK SPACE}", " "))


def test_every_report_says_first_what_the_time_was_too_short_for(limited: Results) -> None:
    """The option, the cells by what was not done for them, and how few waves there are."""
    words = "not built: slow; not derived: base and quick; 2 waves in all, which is too few"
    text = flat(terminal.render(limited, "simple"))
    assert f"WARNING: The time of the run was over (--max-time 15m): {words}" in text
    assert f"WARNING: The time of the run was over (--max-time 15m): {words[:60]}" in flat(
        screen.render(limited, width=200)
    )
    table = markdown.render(limited)
    assert "**The time of the run was over** (`--max-time 15m`): not built: `slow`; not derived: " in table
    assert table.index("The time of the run was over") < table.index("| config")
    html = page.render(limited, None)
    assert "<strong>The time of the run was over</strong> (<code>--max-time 15m</code>): not built: " in html
    words = "Measuring ended with the time of the run, before the precision of ±1 % was reached: 2 waves"
    assert words in text


def test_picks_of_few_waves_are_first_guesses(limited: Results) -> None:
    """As after a quick look, the picks say that their intervals are too narrow."""
    assert "**The time of the run was over** after 2 waves, whose intervals are too narrow." in flat(
        markdown.render(limited)
    )


def test_a_run_in_time_says_nothing(builders: ModuleType) -> None:
    """A limit that nothing hit is not mentioned."""
    run = builders.small(run={"time_limit": TimeLimitRecord(seconds=900)}).results()
    for text in (terminal.render(run, "simple"), screen.render(run), markdown.render(run)):
        assert "The time of the run" not in text


def test_commits_are_shown_with_the_environment(builders: ModuleType) -> None:
    """Each commit has twelve digits, and whether files differed from it."""
    repositories = (
        Repository(role="command", commit=COMMIT, dirty=True),
        Repository(role="model", commit=OTHER, dirty=None),
    )
    run = builders.small(environment={"repositories": repositories}).results()
    words = "Commit: 012345678901 with changes, ffffffffffff (of the model)"
    assert words in flat(terminal.render(run, "simple"))
    assert f"- {words}" in flat(markdown.render(run)).replace("\\", "")
    assert "Commit" not in markdown.render(builders.small().results())


def test_the_results_keep_both(limited: Results, tmp_path: Path) -> None:
    """Limit and commits are read from the file as they were written, and a file without them is read too."""
    repository = Repository(role="command", commit=COMMIT, dirty=False)
    results = evolve(limited, environment=evolve(limited.environment, repositories=(repository,)))
    content: dict[str, Any] = json.loads(results_file.to_json(results))
    jsonschema.validate(content, results_file.schema())
    path = tmp_path / results_file.RESULTS
    path.write_text(json.dumps(content))
    assert results_file.read(path) == results
    for part, name in (("run", "time_limit"), ("environment", "repositories")):
        del content[part][name]
    del content["run"]["measuring"]["cut_short"]
    path.write_text(json.dumps(content))
    old = results_file.read(path)
    assert (old.run.time_limit, old.environment.commit) == (None, None)


def test_compare_names_commits_that_differ(builders: ModuleType) -> None:
    """Runs of different commits have them at the head of a comparison; those of one have none there."""

    def source(label: str, commit: str | None) -> Source:
        repositories = (Repository(role="command", commit=commit, dirty=False),) if commit else ()
        run = builders.small(environment={"repositories": repositories})
        return Source(place=label, results=run.results(), recording=run.recording(), label=label)

    compared = compare([source("base", COMMIT), source("ours", None)])
    assert notes_on_runs(compared, str) == ["base: commit 012345678901", "ours: commit not recorded"]
    content = json.loads(compared.to_json())
    jsonschema.validate(content, comparison_records.schema())
    assert [run["commit"] for run in content["runs"]] == ["012345678901", None]
    same = compare([source("base", COMMIT), source("ours", COMMIT)])
    assert notes_on_runs(same, str) == []
