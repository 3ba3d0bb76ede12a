"""``qx compare`` as its user meets it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from attrs import evolve

from qx.comparison.records import schema
from qx.contract.figures import Figure
from qx.processes.answers import PlainSamples
from qx.report import markdown
from qx.results import results_file as results
from qx.results.recording import Recording, Series

Qx = Callable[..., Any]


@pytest.fixture(autouse=True)
def runs(builders: ModuleType) -> None:
    """Write runs into ``a``, ``b`` and ``c``; in ``b`` a config is worse, and ``c`` is another machine."""
    cells = {**builders.small().cells, "quick": builders.Cell(hits=700, weight=260_000, delay=0.5, heap=400)}
    runs: dict[str, dict[str, Any]] = {
        "a": {"environment": {"fingerprint": "one"}},
        "b": {"cells": cells, "environment": {"fingerprint": "one", "python": "3.13.0"}},
        "c": {"seed": 3, "environment": {"fingerprint": "two", "python": "3.10.13"}},
    }
    for name, changes in runs.items():
        run = builders.small(**changes)
        results.write(Path(name), run.results(), markdown.render(run.results()), run.recording())


def test_what_is_within_the_margin_is_the_same(qx: Qx, builders: ModuleType) -> None:
    """A file that grew by a byte is the same though sizes are exact, and the table shows the byte and why."""
    cells = builders.small().cells
    changed = {**cells, "quick": evolve(cells["quick"], weight=cells["quick"].weight + 1)}
    run = builders.small(cells=changed, environment={"fingerprint": "one"})
    results.write(Path("d"), run.results(), markdown.render(run.results()), run.recording())
    page = qx("compare", "a", "d", "--format", "markdown").out
    summary = next(line for line in page.splitlines() if line.startswith("| `quick`"))
    assert re.search(r"^\| `quick` \| \d same(, \d same\?)? +\|$", summary)
    row = next(line for line in page.splitlines() if line.startswith("| `quick` | `weight`"))
    assert "| 260 kB<br>1.000004x&lt; (+1 bytes)<br>same" in row.replace("\N{NO-BREAK SPACE}", " ")
    assert "`<` behind a figure: too small to matter, within the metric's margin." in page


def test_the_table_is_printed(qx: Qx) -> None:
    """The terminal shows every run with its label, every verdict, and how many false alarms to expect."""
    done = qx("compare", "a", "b/full_results.json", "other=c")
    assert (done.code, done.err) == (0, "")
    for word in ("Python 3.11", "Python 3.13", "other", "worse", "against own baseline", "false alarms"):
        assert word in done.out


def test_markdown_and_json_say_the_same(qx: Qx) -> None:
    """Files are written by their suffix; ``--format`` prints the same."""
    done = qx("compare", "a", "b", "c", "--out", "m.md", "--out", "m.json", "--format", "json")
    assert (done.code, done.err) == (0, "")
    whole = json.loads(Path("m.json").read_text())
    assert json.loads(done.out) == whole
    assert qx("compare", "a", "b", "c", "--format", "markdown").out == Path("m.md").read_text()
    (hits,) = (
        change
        for change in whole["changes"]
        if (change["config"], change["metric"], change["run"])
        == ("quick", "hits", "Python 3.13, torch 2.14.1")
    )
    assert (hits["verdict"], hits["basis"]) == ("worse", "items")
    assert hits["value"] == pytest.approx(-0.15)
    assert "-15.00\N{NO-BREAK SPACE}pt" in Path("m.md").read_text()
    assert whole["schema_version"] == 2 and whole["tests"] > 0


def test_the_json_keeps_its_schema(qx: Qx) -> None:
    """What is printed is valid by the committed schema, which has every field and refuses other verdicts."""
    jsonschema.Draft202012Validator.check_schema(schema())
    whole = json.loads(qx("compare", "a", "b", "c", "--format", "json").out)
    jsonschema.validate(whole, schema())
    assert set(whole["changes"][0]) == set(schema()["$defs"]["change"]["properties"])
    whole["changes"][0]["verdict"] = "nicer"
    assert not jsonschema.Draft202012Validator(schema()).is_valid(whole)


def test_files_are_written_though_nobody_reads_what_is_printed(qx: Qx) -> None:
    """``qx compare ... --out FILE | head`` writes the file though the reader goes."""
    command = [sys.executable, "-m", "qx", "compare", "a", "b", "--out", "m.md"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
    assert "What changed" in Path("m.md").read_text()


def test_the_base_can_be_chosen(qx: Qx) -> None:
    """``--base`` takes a label or a path, and the verdict is reversed."""
    done = qx("compare", "a", "b", "--base", "b", "--format", "json")
    verdicts = {
        (change["config"], change["metric"]): change["verdict"] for change in json.loads(done.out)["changes"]
    }
    assert verdicts["quick", "hits"] == "better"


def test_what_is_the_same_can_be_left_out(qx: Qx) -> None:
    """``--changed`` prints only the rows in which something changed."""
    changes = json.loads(qx("compare", "a", "b", "--changed", "--format", "json").out)["changes"]
    assert changes and all(change["verdict"] != "same" for change in changes)


def newer(place: Path) -> None:
    place.write_text(json.dumps({**json.loads(place.read_text()), "schema_version": 3}))


def cut(place: Path) -> None:
    place.write_text(place.read_text()[:500])


def other_data(place: Path) -> None:
    place.write_text(
        place.read_text().replace('"evaluation_sha256": "d0a5e0ad"', '"evaluation_sha256": "00ff"')
    )


def nothing(place: Path) -> None:
    place.unlink()


def without_a_workload(place: Path) -> None:
    whole = json.loads(place.read_text())
    whole["run"]["workloads"] = ["toy"]
    place.write_text(json.dumps(whole))


def without_metric_options(place: Path) -> None:
    whole = json.loads(place.read_text())
    whole["run"]["metric_options"] = {"hits": 1}
    place.write_text(json.dumps(whole))


def bad_samples(place: Path) -> None:
    (samples,) = place.parent.glob("*.npz")
    samples.write_bytes(samples.read_bytes()[:-300])


def few_samples(place: Path) -> None:
    (samples,) = place.parent.glob("*.npz")
    recording = Recording.read(samples)
    hits = recording.series["toy/base"][Figure("hits")]
    recording.add("toy/base", Figure("hits"), Series.plain(PlainSamples(values=hits.values[:-1])))
    samples.write_bytes(recording.to_bytes())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (newer, "b/full_results.json has schema version 3; this qx reads versions 1 and 2"),
        (cut, "b/full_results.json is not a results file"),
        (other_data, "not comparable: b and a have different evaluation data of toy"),
        (nothing, "there are no results in b/full_results.json"),
        (
            without_a_workload,
            "results.json is not a valid results file: run.workloads must be an object, not a list",
        ),
        (
            without_metric_options,
            "is not a valid results file: run.metric_options.hits must be an object, not 1",
        ),
        (bad_samples, "the samples in b/samples-"),
        (
            few_samples,
            "the samples in b/samples-20260102T030405-abcdef.npz are incomplete: hits of toy/base has",
        ),
    ],
)
def test_bad_results_are_told_in_a_line(qx: Qx, damage: Callable[[Path], None], words: str) -> None:
    """Results that are damaged, of a newer schema or of other data are refused with exit code 2."""
    damage(Path("b/full_results.json"))
    done = qx("compare", "a", "b", "--out", "m.md")
    assert (done.code, done.out) == (2, "")
    assert words in done.err and done.err.count("\n") == 1
    assert not Path("m.md").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a"], "needs the results of two runs or more"),
        (
            ["a", "b", "--base", "d"],
            "--base d is not one of the runs; choose from 'Python 3.11, torch 2.14.1'",
        ),
        (["a", "b", "--format", "nice"], "unknown format 'nice'"),
        (["a", "b", "--out", "m.txt"], "--out m.txt: its suffix must be .md, .json or .html"),
        (["x=a", "x=b"], "the label 'x' is given twice"),
        (["=a", "b"], "=a has no label before the ="),
    ],
)
def test_mistakes_are_told(qx: Qx, arguments: list[str], words: str) -> None:
    """A mistake on the command line ends with exit code 2 and one line."""
    done = qx("compare", *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err and done.err.count("\n") == 1


def test_foreign_text_stays_in_its_cell(qx: Qx, builders: ModuleType) -> None:
    """A cause with a pipe or a control character breaks no table."""
    run = builders.small()
    lost = evolve(run.cells["lost"], cause="bad\x1b[31m | `x`\nline", outcome="crashed")
    run = evolve(run, cells={**run.cells, "alike": lost})
    results.write(Path("d"), run.results(), markdown.render(run.results()), run.recording())
    page = qx("compare", "a", "d", "--format", "markdown").out
    assert "\x1b" not in page
    assert "bad \\| \\`x\\` line" in page and "\\\\|" not in page
    tables = [line for line in page.splitlines() if line.startswith("|")]
    heads = {line.replace("\\|", "").count("|") for line in tables}
    assert heads == {3, 5, 10}
