"""Draw a history: a page of its own, ``--out FILE.html``, and the part ``Over time`` of a run's page."""

from __future__ import annotations

from qx.foreign import to_html as escape
from qx.history import report
from qx.history.series import History, Series, SeriesStep
from qx.report.html import page, sections
from qx.report.html.compact import ends, rounded
from qx.values import JsonObject


def to_html(history: History) -> str:
    """Return the history as a page."""
    first, last = history.runs[0], history.runs[-1]
    title = f"History from {first.started:%Y-%m-%d} to {last.started:%Y-%m-%d} - qx"
    part = part_of_page(history)
    return page.document(title, ["<h1>History</h1>", part.section], {"kind": "history", **part.content})


def part_of_page(history: History) -> sections.Part:
    """Return the section about a history, and what the script draws in it."""
    blocks = [
        sections.paragraph(escape(report.head(history))),
        *([_steps(history)] if any(series.steps for series in history.series) else []),
        sections.place("history"),
        *(sections.paragraph(text, "quiet") for text in report.remarks(history, escape)),
        sections.paragraph(escape(report.METHOD), "quiet"),
    ]
    return sections.Part(
        name="history",
        word="Over time",
        section=sections.section("history", "Over time", blocks),
        content={"history": _content(history)},
    )


def _steps(history: History) -> str:
    rows = [list(map(escape, row)) for series in history.series for row in report.rows(history, series)]
    return sections.table("Steps", report.HEADER, rows)


def _content(history: History) -> JsonObject:
    """Return what the plots are drawn from: the runs, and each series with its values and steps."""
    return {
        "runs": [
            {
                "date": f"{run.started:%Y-%m-%d %H:%M}",
                "commit": run.commit or "not recorded",
                "place": run.place,
            }
            for run in history.runs
        ],
        "series": [_series(history, series) for series in history.series],
    }


def _series(history: History, series: Series) -> JsonObject:
    metric = history.metrics[series.figure.metric]
    return {
        "name": f"{series.workload}/{series.row}",
        "title": report.figure(series),
        "metric": metric.name,
        "unit": metric.unit,
        "compare": metric.compare,
        "isChange": series.basis == "against baseline",
        "machine": series.machine,
        "runs": [entry.run for entry in series.entries],
        "value": ends([(entry.value, entry.ci) for entry in series.entries]),
        "steps": [_step(history, step) for step in series.steps],
    }


def _step(history: History, step: SeriesStep) -> JsonObject:
    return {
        "before": step.before,
        "run": step.run,
        "commit": history.runs[step.run].commit or f"{history.runs[step.run].started:%Y-%m-%d}",
        "change": report.change(step),
        "verdict": step.verdict,
        "means": [rounded(step.mean_before), rounded(step.mean_behind)],
    }
