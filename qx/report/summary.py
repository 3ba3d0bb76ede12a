"""Configs over several workloads, for the table that comes first where there are several."""

from __future__ import annotations

from collections.abc import Sequence, Set

from qx.results import numbers
from qx.results.columns import ANOTHER_NETWORK, Column
from qx.results.numbers import NOTHING
from qx.results.records import Results, SummaryFigure, SummaryResult

EXPLAINED = (
    "Each figure compares with the workload's own baseline: the mean over the workloads (geometric of ratios "
    "and speedups), and below it the smallest and the largest. On the front: of how many workloads it is on "
    "the front, or perhaps is. The sections below say how sure that is, workload by workload."
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
    below = {one.cell for one in results.outputs if one.is_below_0_db}
    told = []
    for one in results.summary:
        figures = {Column.of(figure.metric, figure.params): figure for figure in one.figures}
        cells: list[Sequence[str]] = [
            (f"{len(one.on_front)} of {count}",),
            _ended(one, count, below),
        ]
        reference = results.configs[one.config].reference
        for column in columns(results):
            figure = figures.get(column)
            cells.append(
                (NOTHING,) if figure is None or reference else _lines(results, figure, len(one.well))
            )
        told.append((one, cells))
    return told


def _ended(one: SummaryResult, count: int, below: Set[str]) -> tuple[str, ...]:
    """On how many workloads it ended well, and on how many of these it is another network."""
    others = sum(f"{workload}/{one.row}" in below for workload in one.well)
    return f"{len(one.well)} of {count}", *([f"{ANOTHER_NETWORK} on {others}"] if others else [])


def _lines(results: Results, figure: SummaryFigure, well: int) -> tuple[str, ...]:
    unit = results.metrics[figure.metric].unit

    def number(value: float) -> str:
        if figure.kind == "difference":
            return numbers.difference(value, None, unit)[0]
        return f"{numbers.significant(value)}x"

    lines = [number(figure.value)]
    if len(figure.workloads) > 1:
        lines.append(f"{number(figure.least)} to {number(figure.most)}")
    if len(figure.workloads) < well:
        lines.append(f"of {len(figure.workloads)}")
    return tuple(lines)
