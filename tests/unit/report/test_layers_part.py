"""What ``qx layers`` found as a part of the report of a run: kept beside its results, drawn, and checked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from attrs import evolve

from qx.errors import UsageError
from qx.report.html import page
from qx.report.layers_part import FILE, LayersPart, Parts, Shown, read_parts
from qx.results.records import Results

ERRORS = Shown(head=["layer", "alone"], rows=[["<b>stem", "3.0 dB"], ["head", "-"]])


@pytest.fixture(scope="module")
def results(builders: ModuleType) -> Results:
    """Return the results of a small run."""
    found: Results = builders.small().results()
    return found


def part(results: Results, row: str = "mine") -> LayersPart:
    """Return what was found about a row of a run."""
    return LayersPart(
        workload=next(iter(results.run.workloads)),
        row=row,
        qualities=["fp32: accuracy 90 %"],
        gains=Shown(head=["layer in float", "gives back"], rows=[["<b>stem", "+70 points"]]),
        gains_explained="Paired.",
        errors=ERRORS,
        errors_explained=["Signal over noise."],
        alone=[3.0, None],
        conclusion=["Quality comes back with this layer in float: <b>stem."],
        command="qx run -c mine --set mine.float_layers=stem",
    )


def write(folder: Path, results: Results, *parts: LayersPart) -> None:
    """Write the file beside results."""
    found = Parts(samples=Path(results.run.samples).name, parts=list(parts))
    (folder / FILE).write_text(found.to_text())


def test_what_was_found_is_read_again(results: Results, tmp_path: Path) -> None:
    """Without the file there is nothing; a second part about a row takes the place of the first one."""
    found = read_parts(tmp_path, results)
    assert found.parts == []
    newer = evolve(part(results), command="")
    found = found.with_part(part(results)).with_part(part(results, "other")).with_part(newer)
    (tmp_path / FILE).write_text(found.to_text())
    assert read_parts(tmp_path, results).parts == [part(results, "other"), newer]


def test_it_is_a_section_of_the_page(results: Results) -> None:
    """The report of the run has the tables, a bar for each error, and the command, as text and not markup."""
    assert "Which layer hurts" not in page.render(results, None)
    text = page.render(results, None, [part(results), part(results, "other")])
    section = text[text.index("Which layer hurts") :]
    section = section[: section.index("</section>")]
    assert section.count("<details open>") == 1 and section.count("<details>") == 1
    assert re.findall(r'<rect width="(\d+)"', section) == ["114", "0"] * 2
    assert "+70 points" in section and "qx run -c mine --set mine.float_layers=stem" in section
    assert "&lt;b&gt;stem" in section and "<b>stem" not in text
    assert 'href="#costs-0"' in text


def test_another_run_has_no_part_in_it(results: Results, tmp_path: Path) -> None:
    """What was found about a run is not shown with the next one that is written into the same folder."""
    write(tmp_path, results, part(results))
    assert len(read_parts(tmp_path, results).parts) == 1
    newer = evolve(results, run=evolve(results.run, samples="samples-of-another.npz"))
    assert read_parts(tmp_path, newer).parts == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read: Expecting property name"),
        ('{"samples": "s", "parts": [{}]}', "is missing"),
        ("uneven", "a table of 'mine' has rows of different lengths"),
    ],
)
def test_another_file_is_refused_in_one_line(results: Results, text: str, words: str, tmp_path: Path) -> None:
    """A file of that name that holds something else is named, with what to do."""
    (tmp_path / FILE).write_text(text)
    if text == "uneven":
        write(tmp_path, results, evolve(part(results), errors=Shown(head=["a"], rows=[["1", "2"]])))
    with pytest.raises(UsageError) as caught:
        read_parts(tmp_path, results)
    message = str(caught.value)
    assert words in message and str(tmp_path / FILE) in message and "\n" not in message
    assert message.endswith("remove it, or have qx layers write it")


def test_the_file_is_json(results: Results) -> None:
    """Other programs can read what was found."""
    found = json.loads(Parts(samples="s", parts=[part(results)]).to_text())
    assert found["parts"][0]["errors"]["rows"][0] == ["<b>stem", "3.0 dB"]
