"""What a config answers: quality by group, and which answers differ from the baseline's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from qx.contract.figures import Figure
from qx.contract.tasks import CLASSIFICATION
from qx.report.html.compact import Ends, ends, rounded
from qx.results.columns import View
from qx.results.recording import Recording
from qx.results.records import Measurement
from qx.values import Json, JsonObject

#: Largest number of cells times groups of which the page has every group. Of more it has of each cell the
#: groups with the smallest p values.
MAX_GROUPS = 12_000
#: Number of groups of a cell where there are more in all.
TOP_GROUPS = 20
#: Largest number of pairs of classes between which answers of a cell moved.
MAX_MOVES = 60


def groups(view: View) -> list[JsonObject]:
    """Return for each metric with groups its figures by group, and the paired differences from the baseline.

    The intervals of the differences and their p values are corrected for the number of groups.
    """
    plots = []
    for index, figure in enumerate(view.columns):
        by_cell = {cell: groups for cell in view.rows if (groups := _groups(view.measurement(cell, figure)))}
        if by_cell:
            names = list(dict.fromkeys(name for groups in by_cell.values() for name in groups))
            is_whole = len(by_cell) * len(names) <= MAX_GROUPS
            plots.append(
                {
                    "column": index,
                    "names": names,
                    "isWhole": is_whole,
                    "cells": [
                        None if cell not in by_cell else _groups_of_cell(by_cell[cell], names, is_whole)
                        for cell in view.rows
                    ],
                }
            )
    return plots


def _groups(measurement: Measurement | None) -> Mapping[str, Json]:
    """Return the groups in the details of a measurement; empty where there are none."""
    entries = None if measurement is None else measurement.details.get("groups")
    if not isinstance(entries, Mapping):
        return {}
    return {
        name: entry
        for name, entry in entries.items()
        if isinstance(entry, Mapping) and isinstance(entry.get("value"), (int, float))
    }


def _groups_of_cell(entries: Mapping[str, Json], names: list[str], is_whole: bool) -> JsonObject:
    """Return the groups of a cell: positions in ``names``, values, differences and p values as lists."""
    kept = list(entries)
    if not is_whole:
        kept = sorted(kept, key=lambda name: _difference(entries[name]).get("p") or 1.0)[:TOP_GROUPS]
    compared = [_difference(entries[name]) for name in kept]
    return {
        "group": [names.index(name) for name in kept],
        "items": [entries[name].get("n") for name in kept],
        "value": ends([_ends(entries[name]) for name in kept]),
        "change": ends([_ends(difference) for difference in compared]),
        "p": [rounded(difference.get("p_adjusted"), 3) for difference in compared],
    }


def _difference(entry: Mapping[str, Json]) -> Mapping[str, Json]:
    difference = entry.get("vs_baseline")
    return difference if isinstance(difference, Mapping) else {}


def _ends(entry: Mapping[str, Json]) -> Ends:
    interval = entry.get("ci")
    return entry.get("value"), None if interval is None else (interval[0], interval[1])


def changed(view: View, recording: Recording) -> JsonObject | None:
    """Return which answers of each cell differ from the baseline's; None where outputs are no class scores.

    Each move is ``[from, to, items, gained, lost]``: classes as positions in ``classes``, and how many of
    these items became right and wrong by the metric in ``judge``, where there is such a metric.
    """
    ((_, workload),) = view.results.run.workloads.items()
    theirs = recording.answers(view.baseline)
    if workload.task != CLASSIFICATION or theirs is None:
        return None
    expected, count = theirs
    judge = _judge(view, recording, len(expected))
    classes = list(workload.classes) if len(workload.classes) == count else [str(n) for n in range(count)]
    cells: list[Json] = []
    for cell in view.rows:
        ours = recording.answers(cell)
        is_comparable = ours is not None and ours[1] == count and len(ours[0]) == len(expected)
        if cell == view.baseline or ours is None or not is_comparable:
            cells.append(None)
        else:
            cells.append(_moves(ours[0], expected, count, _correct(recording, cell, judge)))
    return {
        "classes": classes,
        "items": len(expected),
        "judge": None if judge is None else judge[0].metric,
        "cells": cells,
    }


def _judge(view: View, recording: Recording, items: int) -> tuple[Figure, NDArray[np.float64]] | None:
    """Return the metric that says which answers are right, with its values of the baseline.

    It has a value of 0 or 1 for each item, and the baseline is not right by definition.
    """
    for figure in view.columns:
        metric = view.results.metrics[figure.metric]
        series = recording.get(view.baseline, figure)
        if metric.samples != "per_item" or metric.better != "higher" or series is None:
            continue
        values = series.values
        if len(values) == items and np.isin(values, (0, 1)).all() and not (values == 1).all():
            return figure, values
    return None


def _correct(
    recording: Recording, cell: str, judge: tuple[Figure, NDArray[np.float64]] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return which answers of a cell and of the baseline are right; None where that is not known."""
    series = None if judge is None else recording.get(cell, judge[0])
    if judge is None or series is None or len(series.values) != len(judge[1]):
        return None
    return series.values, judge[1]


def _moves(
    ours: NDArray[np.integer],
    theirs: NDArray[np.integer],
    classes: int,
    correct: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
) -> JsonObject:
    """Count the answers of a cell that differ from the baseline's, by the two classes."""
    differs = ours != theirs
    keys = theirs[differs].astype(np.int64) * classes + ours[differs]
    distinct, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    gained = lost = np.zeros(len(distinct), dtype=np.intp)
    if correct is not None:
        change = correct[0][differs] - correct[1][differs]
        gained = np.bincount(inverse[change > 0], minlength=len(distinct))
        lost = np.bincount(inverse[change < 0], minlength=len(distinct))
    order = np.argsort(-counts, kind="stable")[:MAX_MOVES]
    return {
        "changed": int(differs.sum()),
        "gained": None if correct is None else int(gained.sum()),
        "lost": None if correct is None else int(lost.sum()),
        "moves": [
            [
                int(distinct[index] // classes),
                int(distinct[index] % classes),
                int(counts[index]),
                int(gained[index]),
                int(lost[index]),
            ]
            for index in order
        ],
    }
