"""Speedups from threads: each config with more threads against itself with the fewest, for every report."""

from __future__ import annotations

from collections.abc import Callable

from qx.contract.figures import Figure
from qx.results import numbers
from qx.results.numbers import NOTHING
from qx.results.records import Results
from qx.results.run_record import RunRecord

HEADING = "Speedup from threads"
EXPLAINED = (
    "Each config with more threads against itself with the fewest: more is faster, with 95 % intervals. Each "
    "number of threads has waves of its own, so these are not paired as other speedups are: what slows the "
    "machine for a while does not cancel."
)
#: Columns before those of figures.
KEYS = ("config", "threads")


def counts(run: RunRecord) -> str:
    """Return the numbers of threads of a run in words: ``1 thread``, ``1 and 4 threads``."""
    *others, last = map(str, (run.threads, *run.further_threads))
    listed = " and ".join(filter(None, [", ".join(others), last]))
    return f"{listed} thread{'s' * (listed != '1')}"


def columns(results: Results) -> list[Figure]:
    """Return the figures that have speedups from threads."""
    return list(dict.fromkeys(speedup.figure for speedup in results.thread_speedups))


def rows(results: Results, text: Callable[[str], str]) -> list[list[str]]:
    """Return the lines of a table: the config, its threads, and a speedup for each of ``columns``.

    ``text`` makes names safe for a medium.
    """
    cells, table = results.cells, dict[str, list[str]]()
    several = len({cell.workload_name for cell in cells.values()}) > 1
    for speedup in results.thread_speedups:
        cell, against = cells[speedup.cell], cells[str(speedup.comparison.against)]
        name = f"{cell.workload_name}/{cell.row}" if several else cell.row
        line = table.setdefault(
            speedup.cell,
            [text(name), f"{cell.threads} against {against.threads}", *[NOTHING] * len(columns(results))],
        )
        words = numbers.comparison(speedup.comparison, results.metrics[speedup.metric])
        line[len(KEYS) + columns(results).index(speedup.figure)] = " ".join(filter(None, words))
    return [*table.values()]
