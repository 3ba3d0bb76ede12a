"""Show a history on a terminal and as Markdown: the steps with their commits, and what has none."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator

from qx.foreign import to_code_cell, to_markdown_cell, to_terminal
from qx.foreign import to_markdown as to_markdown_text
from qx.history.series import History, Series, SeriesStep
from qx.report.markdown import table
from qx.report.terminal import Drawing
from qx.results import numbers
from qx.statistics.steps import LEAST, PROMISED

HEADER = ("config", "figure", "before", "behind", "step", "verdict", "first run", "commits")
METHOD = (
    "A step is where the mean of a series changes. Values without an error (sizes) step wherever they "
    "differ. For all others the largest difference of means, weighted by the intervals, is held against "
    f"permutations, at {100 * PROMISED:.0f} % for each series. Figures of launches are followed for "
    "each machine by itself."
)


def to_terminal_text(history: History, style: str) -> str:
    """Return what is printed, in one of tabulate's formats."""
    drawing = Drawing(style)
    lines = [
        [drawing.text(text) for text in row] for series in history.series for row in rows(history, series)
    ]
    blocks = [head(history)]
    if lines:
        blocks.append(drawing.tables(HEADER, lines, keys=2))
    rest = (textwrap.fill(text, drawing.width) for text in (*remarks(history, to_terminal), METHOD))
    return "\n\n".join([*blocks, *rest])


def to_markdown(history: History) -> str:
    """Return the history in GitHub's Markdown."""
    lines = [
        [to_code_cell(row[0]), *map(to_markdown_cell, row[1:])]
        for series in history.series
        for row in rows(history, series)
    ]
    blocks = [
        "# History",
        head(history),
        *([table(HEADER, lines)] if lines else []),
        *remarks(history, to_markdown_text),
        METHOD,
    ]
    return "\n\n".join(blocks) + "\n"


def head(history: History) -> str:
    """Return how many runs, series and steps there are."""
    first, last = history.runs[0], history.runs[-1]
    steps = sum(len(series.steps) for series in history.series)
    noun = "step" if steps == 1 else "steps"
    return (
        f"{len(history.runs)} runs from {first.started:%Y-%m-%d} to {last.started:%Y-%m-%d}, "
        f"{len(history.series)} series: {steps or 'no'} {noun}."
    )


def rows(history: History, series: Series) -> Iterator[list[str]]:
    """Yield a row for each step of a series, below ``HEADER``."""
    for step in series.steps:
        yield [
            f"{series.workload}/{series.row}",
            figure(series),
            _shown(series, step.mean_before),
            _shown(series, step.mean_behind),
            change(step),
            step.verdict,
            f"{history.runs[step.run].started:%Y-%m-%d}",
            f"{_commit(history, step.before)}..{_commit(history, step.run)}",
        ]


def figure(series: Series) -> str:
    """Return what a series follows: the metric and its point, and whether it is the comparison."""
    return str(series.figure) + (", against baseline" if series.basis == "against baseline" else "")


def _shown(series: Series, value: float) -> str:
    if series.basis == "against baseline":
        return f"{numbers.significant(value)}x" if series.unit != "difference" else numbers.significant(value)
    return numbers.quantity(value, series.unit)


def change(step: SeriesStep) -> str:
    """Return by how much the mean changed: in percent where that has a meaning."""
    if step.mean_before > 0 and step.mean_behind > 0:
        return f"{100 * (step.mean_behind / step.mean_before - 1):+.1f} %"
    return f"{step.mean_behind - step.mean_before:+.3g}"


def _commit(history: History, number: int) -> str:
    return history.runs[number].commit or "not recorded"


def remarks(history: History, text: Callable[[str], str]) -> Iterator[str]:
    """Yield what holds for the whole history; ``text`` escapes foreign text."""
    short = sum(series.is_too_short for series in history.series)
    if short:
        yield (
            f"In {short} of the series no steps are looked for: they have fewer than {LEAST} values, with "
            f"which noise cannot be distinguished from a step."
        )
    partial = [text(run.place) for run in history.runs if run.results.run.is_partial]
    if partial:
        yield f"Results of a part (the run was interrupted): {', '.join(partial)}."
