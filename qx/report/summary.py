"""Sum up configs over several workloads, for the table at the head of a report on more than one."""

from __future__ import annotations

from collections.abc import Sequence, Set

from qx.contract.figures import Figure
from qx.results import numbers
from qx.results.columns import ANOTHER_NETWORK
from qx.results.numbers import NOTHING
from qx.results.records import Results, SummaryFigure, SummaryResult

EXPLAINED = (
    "Each figure compares with the workload's own baseline: the mean over the workloads (geometric of ratios "
    "and speedups), and below it the smallest and the largest. On the front: of how many workloads it is on "
    "the front, or perhaps is. The sections below say how sure that is, workload by workload."
)


def columns(results: Results) -> list[Figure]:
    """Return the columns that have a mean over the workloads: those of the front's axes."""
    return list(dict.fromkeys(figure.figure for result in results.summary for figure in result.figures))


def rows(results: Results) -> list[tuple[SummaryResult, list[Sequence[str]]]]:
    """Return each config with the lines of its table cells.

    The first cell says on how many fronts it is, the second how often it ended well; figures follow.
    """
    count = len(results.run.workloads)
    others = (results.cells[outputs.cell] for outputs in results.outputs if outputs.is_below_0_db)
    below_0_db = {(cell.workload, cell.row) for cell in others}
    table = []
    for result in results.summary:
        figures = {figure.figure: figure for figure in result.figures}
        cells: list[Sequence[str]] = [
            (f"{len(result.on_front)} of {count}",),
            _ended(result, count, below_0_db),
        ]
        is_reference = results.configs[result.config].reference
        for column in columns(results):
            figure = figures.get(column)
            cells.append(
                (NOTHING,)
                if figure is None or is_reference
                else _lines(results, figure, len(result.succeeded))
            )
        table.append((result, cells))
    return table


def _ended(result: SummaryResult, count: int, below_0_db: Set[tuple[str, str]]) -> tuple[str, ...]:
    """Say on how many workloads a config ended well, and on how many of these it is another network."""
    others = sum((workload, result.row) in below_0_db for workload in result.succeeded)
    return f"{len(result.succeeded)} of {count}", *([f"{ANOTHER_NETWORK} on {others}"] if others else [])


def _lines(results: Results, figure: SummaryFigure, ended_well: int) -> tuple[str, ...]:
    unit = results.metrics[figure.metric].unit

    def number(value: float) -> str:
        if figure.kind == "difference":
            return numbers.difference(value, None, unit)[0]
        return f"{numbers.significant(value)}x"

    lines = [number(figure.value)]
    if len(figure.workloads) > 1:
        lines.append(f"{number(figure.smallest)} to {number(figure.largest)}")
    if len(figure.workloads) < ended_well:
        lines.append(f"of {len(figure.workloads)}")
    return tuple(lines)
