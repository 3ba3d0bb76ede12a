"""Configs over several workloads, for the table that comes first where there are several."""

from __future__ import annotations

from collections.abc import Sequence

from qx.report import numbers
from qx.report.numbers import NOTHING
from qx.report.tables import Column
from qx.results import Results, SummaryFigure, SummaryResult

EXPLAINED = (
    "Against each workload's own baseline: the mean over the workloads (geometric of ratios and speedups), "
    "and "
    "below it the least and the most. Each workload has its front; the sections below tell how sure all "
    "this is."
)


def columns(results: Results) -> list[Column]:
    """The metrics of which there is a mean: those that are axes."""
    return list(
        dict.fromkeys(
            Column.of(figure.metric, figure.params) for one in results.summary for figure in one.figures
        )
    )


def rows(results: Results) -> list[tuple[SummaryResult, list[Sequence[str]]]]:
    """Each config with the lines of its cells: on how many fronts it is, how often it ended well, figures."""
    count = len(results.run["workloads"])
    told = []
    for one in results.summary:
        figures = {Column.of(figure.metric, figure.params): figure for figure in one.figures}
        cells: list[Sequence[str]] = [
            (f"{len(one.on_front)} of {count}",),
            (f"{len(one.well)} of {count}",),
        ]
        reference = results.configs[one.config].reference
        for column in columns(results):
            figure = figures.get(column)
            cells.append(
                (NOTHING,) if figure is None or reference else _lines(results, figure, len(one.well))
            )
        told.append((one, cells))
    return told


def _lines(results: Results, figure: SummaryFigure, well: int) -> tuple[str, ...]:
    unit = results.metrics[figure.metric].unit

    def number(value: float) -> str:
        if figure.kind == "difference":
            return numbers.difference(value, None, unit)[0]
        return numbers.ratio(value, None)

    lines = [number(figure.value)]
    if len(figure.workloads) > 1:
        lines.append(f"{number(figure.least)} to {number(figure.most)}")
    if len(figure.workloads) < well:
        lines.append(f"of {len(figure.workloads)}")
    return tuple(lines)
