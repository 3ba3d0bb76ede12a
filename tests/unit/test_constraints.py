"""Constraints that a user sets: how they are read, and which cells meet them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attrs import evolve

from qx.analysis.constraints import check_judged, with_constraints
from qx.errors import UsageError
from qx.report import limits, markdown, screen, terminal
from qx.results import results_file
from qx.results.columns import View
from qx.results.constraints import OPTIONS, bound_of, check_constraints, read_constraint, read_constraints


@pytest.mark.parametrize(
    ("aim", "text", "amount", "unit"),
    [
        ("drop", "0.5pt", 0.5, "pt"),
        ("drop", "0.5", 0.5, ""),
        ("drop", "2%", 2.0, "%"),
        ("drop", "0", 0.0, ""),
        ("time", "2ms", 0.002, "s"),
        ("time", "500 us", 0.0005, "s"),
        ("time", "0.5x", 0.5, "x"),
        ("size", "10MB", 1e7, "bytes"),
        ("size", "10MiB", 10 * 2**20, "bytes"),
        ("size", "800kB", 8e5, "bytes"),
        ("size", "1234", 1234.0, "bytes"),
        ("size", ".3x", 0.3, "x"),
        ("memory", "1GiB", 2**30, "bytes"),
    ],
)
def test_amounts_are_read_with_their_units(aim: str, text: str, amount: float, unit: str) -> None:
    """An amount is a number with a unit: absolute, or a share of the baseline's."""
    constraint = read_constraint(aim, text)
    assert (constraint.amount, constraint.unit) == (pytest.approx(amount), unit)
    assert constraint.words == f"{OPTIONS[aim]} {text}"


@pytest.mark.parametrize(
    ("aim", "text", "expected"),
    [
        ("drop", "0.5x", "expected points"),
        ("drop", "a lot", "expected points"),
        ("drop", "-1pt", "it must be 0 or more"),
        ("time", "2", "expected a time"),
        ("time", "2 parsecs", "expected a time"),
        ("time", "0ms", "it must be above 0"),
        ("size", "10pt", "expected a size"),
        ("size", "1e3", "expected a size"),
        ("memory", "200", "expected a size"),
        ("memory", "nan", "expected a size"),
        ("memory", "1\n\x1b[31m", "expected a size"),
    ],
)
def test_other_amounts_are_refused_in_one_line(aim: str, text: str, expected: str) -> None:
    """What is no amount of the quantity is refused with the forms that there are."""
    with pytest.raises(UsageError, match=expected) as refused:
        read_constraint(aim, text)
    assert "\n" not in str(refused.value)
    assert "\x1b" not in str(refused.value)


def test_one_amount_and_one_share_each() -> None:
    """A quantity has at most one amount and one share; a second one contradicts the first."""
    assert len(read_constraints({"size": ["10MB", "0.3x"], "drop": ["1pt"]})) == 3
    with pytest.raises(UsageError, match="--max-size was set twice, to 10MB and to 5MB"):
        read_constraints({"size": ["10MB", "5MB"]})


def test_what_nothing_measures_cannot_be_limited(builders: ModuleType) -> None:
    """A constraint is refused where no metric of the run can judge it, with those that there are."""
    drop, delay = read_constraints({"drop": ["1pt"], "time": ["2ms"]})
    check_constraints([drop, delay], builders.METRICS)
    with pytest.raises(UsageError, match=r"no axis of the front judges answers \(axes: weight, delay"):
        check_constraints([drop], [builders.WEIGHT, builders.DELAY])
    with pytest.raises(UsageError, match=r"no metric of the time of a call is measured \(measured: hits"):
        check_constraints([delay], [builders.HITS])


@pytest.mark.parametrize(
    ("changes", "text", "edge", "is_upper"),
    [
        ({}, "0.5pt", -0.005, False),
        ({"unit": "dB"}, "3dB", -3.0, False),
        ({"better": "lower"}, "0.5", 0.005, True),
        ({"compare": "ratio", "better": "lower", "unit": "grams"}, "2%", 1.02, True),
        ({"compare": "ratio", "unit": "grams"}, "2%", 0.98, False),
    ],
)
def test_a_drop_is_in_the_unit_of_the_metric(
    builders: ModuleType, changes: dict[str, Any], text: str, edge: float, is_upper: bool
) -> None:
    """Points, the metric's own unit or a share: whichever way is better, a drop is for the worse."""
    bound = bound_of(read_constraint("drop", text), evolve(builders.HITS, **changes))
    assert (bound.edge, bound.is_upper) == (pytest.approx(edge), is_upper)


@pytest.mark.parametrize(
    ("changes", "text", "message"),
    [
        ({}, "2%", "hits is compared by difference, in points, such as 0.5pt"),
        ({"unit": "dB"}, "2pt", "in dB, such as 0.5dB"),
        ({"compare": "ratio", "unit": "grams"}, "2pt", "a share is expected, such as 2%"),
        ({"compare": "ratio", "unit": "grams"}, "100%", "it must be below 100%"),
        ({"phase": "derived"}, "1pt", "a drop needs right answers or --score"),
    ],
)
def test_a_drop_in_another_unit_is_refused(
    builders: ModuleType, changes: dict[str, Any], text: str, message: str
) -> None:
    """Where the unit does not suit the metric, the message says which does."""
    with pytest.raises(UsageError, match=message):
        bound_of(read_constraint("drop", text), evolve(builders.HITS, **changes))


def judged(builders: ModuleType, **texts: str) -> View:
    """Return a run of five cells held against constraints."""
    cells = {
        "same": builders.Cell(weight=250_000, delay=1.0),
        "near": builders.Cell(hits=852, weight=250_000, delay=1.9),
        "far": builders.Cell(hits=700, weight=250_000, delay=1.0),
    }
    constraints = read_constraints({aim: [text] for aim, text in texts.items()})
    return View(with_constraints(builders.Run(cells=cells).results(), constraints))


def verdicts(view: View) -> dict[str, str | None]:
    """Return the verdict on each cell by its name."""
    return {view.name(cell): view.meets(cell) for cell in view.rows}


def test_intervals_decide_which_cells_meet_a_constraint(builders: ModuleType) -> None:
    """A cell meets a drop surely, perhaps or not: by all, a part or nothing of its interval."""
    found = verdicts(judged(builders, drop="1pt"))
    assert found == {"base": "surely", "same": "surely", "near": "perhaps", "far": "no"}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"size": "0.3x"}, ["same", "near", "far"]),
        ({"size": "500kB"}, ["same", "near", "far"]),
        ({"time": "0.6x"}, ["same", "far"]),
        ({"time": "1.4ms"}, ["same", "far"]),
        ({"time": "1.4ms", "drop": "1pt"}, ["same"]),
        ({"memory": "2x"}, ["base", "same", "near", "far"]),
    ],
)
def test_amounts_and_shares_are_judged(
    builders: ModuleType, texts: dict[str, str], expected: list[str]
) -> None:
    """Absolute amounts are held against the values, shares against the comparison with the baseline."""
    found = verdicts(judged(builders, **texts))
    assert [name for name, verdict in found.items() if verdict == "surely"] == expected


def test_every_report_says_it(builders: ModuleType) -> None:
    """Markdown, the terminal and the screen name what surely meets the limits, and what may."""
    view = judged(builders, drop="1pt", size="0.3x")
    assert list(limits.sentences(view, markdown.MARKUP))[:3] == [
        "**Within your limits** (`--max-drop 1pt` of hits and `--max-size 0.3x` of weight): `same`.",
        "**Perhaps**: `near` (hits).",
        "**Beyond them**: `base` (weight) and `far` (hits).",
    ]
    assert "## Within your limits" in markdown.render(view.results)
    assert "Limits:\n- Within your limits (--max-drop 1pt of hits" in terminal.render(view.results, "simple")
    shown = screen.render(view.results, width=100)
    assert "--max-drop 1pt, --max-size 0.3x: same; maybe near" in shown


def test_the_results_file_has_them(builders: ModuleType, tmp_path: Path) -> None:
    """``full_results.json`` keeps the constraints and the verdicts, and they are read again."""
    results = judged(builders, drop="1pt").results
    (tmp_path / results_file.RESULTS).write_text(results_file.to_json(results))
    assert results_file.read(tmp_path).limits == results.limits
    assert results.run.constraints == (read_constraint("drop", "1pt"),)


def test_a_cell_that_is_another_network_is_not_judged(builders: ModuleType) -> None:
    """A cell whose outputs are below 0 dB meets no limits, however small it is."""
    view = judged(builders, size="0.3x")
    outputs = tuple(evolve(entry, is_below_0_db=True) for entry in view.results.outputs[:1])
    changed = View(evolve(view.results, outputs=outputs))
    assert [view.name(cell) for cell in changed.rows if changed.meets(cell) is None] == [
        view.name(entry.cell) for entry in outputs
    ]


def test_a_constraint_that_judges_no_row_is_said(builders: ModuleType) -> None:
    """Where no row can be judged the reason is one line, and the reports have it too."""
    view = judged(builders, drop="2%")
    with pytest.raises(UsageError, match="--max-drop 2%: hits is compared by difference"):
        check_judged(view.results)
    (sentence,) = limits.sentences(view, markdown.MARKUP)
    assert "--max-drop 2%: hits is compared by difference" in sentence


def test_report_takes_constraints(builders: ModuleType, qx: Callable[..., Any]) -> None:
    """``qx report --max-size`` holds results against limits that the run did not have."""
    run = builders.small()
    results_file.write(Path("results"), run.results(), "", run.recording())
    done = qx("report", "results", "--max-size", "0.9x")
    assert done.code == 0, done.err
    assert "Within your limits (--max-size 0.9x of weight)" in done.out
    assert "Within your limits" in Path("results/pareto.md").read_text()
    assert "Within your limits" in Path("results/report.html").read_text()
    refused = qx("report", "results", "--max-drop", "2%")
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
