"""Write a comparison of runs as one page with plots, ``--out FILE.html``."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve

from qx.comparison import changes
from qx.comparison.changes import ChangeView, Row
from qx.comparison.records import Change, RunComparison
from qx.foreign import to_html as escape
from qx.report import wording
from qx.report.html import page, sections
from qx.report.html.compact import rounded
from qx.report.wording import Markup
from qx.results.columns import with_units
from qx.results.numbers import NOTHING
from qx.values import JsonObject

PLAIN = Markup(name=str, strong=str, text=str)


def to_html(comparison: RunComparison) -> str:
    """Return the comparison as a page."""
    title = f"What changed: {wording.listed(list(comparison.workloads))} - qx"
    shown = evolve(comparison, metrics=with_units(comparison.metrics, escape))
    return page.document(title, _blocks(ChangeView(shown)), _content(ChangeView(comparison)))


def _blocks(view: ChangeView) -> Iterator[str]:
    """Yield the blocks of the page that need no script."""
    comparison, markup = view.comparison, sections.MARKUP
    labels = [run.label for run in comparison.runs[1:]]
    yield f"<h1>What changed: {wording.listed([markup.name(name) for name in comparison.workloads])}</h1>"
    totals = [f"{escape(label)}: {changes.counts(view, label)}." for label in labels]
    yield sections.paragraph(f"From {escape(comparison.base.label)} to {' To '.join(totals)}")
    if notes := changes.notes_on_runs(comparison, escape):
        yield sections.warning("<br>".join(notes))
    rows = [
        [
            markup.name(view.name(cell)),
            *("<br>".join(view.lines(cell, label, markup)) or NOTHING for label in labels),
        ]
        for cell in view.cells
    ]
    yield sections.section(
        "summary",
        "By config",
        [
            sections.table("By config", ["config", *map(escape, labels)], rows),
            sections.paragraph(changes.COUNTING, "quiet"),
            sections.paragraph(changes.correction(comparison), "quiet"),
        ],
    )
    yield sections.section("changes", "Every change", [sections.place("forest"), sections.place("changes")])
    yield sections.paragraph(changes.legend(comparison, markup), "quiet")
    if reasons := list(view.reasons(markup)):
        yield sections.section("reasons", "Reasons", [sections.bullets(reasons)])
    header, runs = changes.environments(view, escape)
    yield sections.section("runs", "Runs", [sections.table("Runs", header, runs)])


def _content(view: ChangeView) -> JsonObject:
    """Return what the script draws from: a row for each figure, with its change in each run."""
    labels = [run.label for run in view.comparison.runs]
    return {
        "kind": "comparison",
        "labels": labels,
        "rows": [
            {
                "name": view.name(row),
                "subject": view.subject(row, PLAIN),
                "base": view.base(row),
                "runs": [_change(view, row, label) for label in labels[1:]],
            }
            for row in view.rows
        ],
    }


def _change(view: ChangeView, row: Row, label: str) -> JsonObject | None:
    """Return a change with its numbers on the scale on which they are shown."""
    change = view.rows[row].get(label)
    if change is None:
        return None
    factor, unit = _scale(change)
    low, high = (None, None) if change.ci is None else change.ci
    value, low, high = (None if number is None else factor * number for number in (change.value, low, high))
    return {
        "lines": view.figure(row, label, PLAIN),
        "verdict": view.verdict(change, PLAIN),
        "kind": change.kind if value is not None else None,
        "unit": unit,
        "value": rounded(value),
        "low": rounded(low),
        "high": rounded(high),
    }


def _scale(change: Change) -> tuple[float, str]:
    """Return the factor and the unit of a change: shares in percent, their differences in points."""
    if change.kind == "agreeing":
        return 100.0, "%"
    if change.kind == "difference":
        return (100.0, "pt") if change.unit == "fraction" else (1.0, change.unit)
    return 1.0, "x"
