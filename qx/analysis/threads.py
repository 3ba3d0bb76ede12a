"""How much faster configs are with more threads: each against itself with the fewest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import numpy as np

from qx.analysis.quantity import Quantity
from qx.contract.figures import Point
from qx.contract.records import Metric
from qx.results.recording import Floats, Recording
from qx.results.records import CellResult, Comparison, Results, ThreadSpeedup
from qx.statistics import over_waves

#: Why the two sides of a speedup from threads are not paired.
WHERE = "between numbers of threads, whose waves are not paired"


def thread_speedups(parts: Mapping[str, Results], recording: Recording) -> Iterator[ThreadSpeedup]:
    """Yield how much faster each config is with more threads than with the fewest.

    ``parts`` are the results of a run by workload and number of threads. Cells of two numbers of threads
    share no wave, so what slows the machine in some waves does not cancel, as it does in other speedups.
    """
    for results in parts.values():
        first = _fewest_threads(results, parts)
        if first is results:
            continue
        counterparts = {_identity(cell): name for name, cell in _ended_well(first).items()}
        for metric, point in _timed(results):
            ours, theirs = (_quantity(side, recording, metric, point) for side in (results, first))
            for name, cell in _ended_well(results).items():
                other = counterparts.get(_identity(cell))
                if other and ours.are_comparable(name) and theirs.are_comparable(other):
                    yield ThreadSpeedup(
                        metric=metric.name,
                        point=point,
                        cell=name,
                        threads=cell.threads,
                        comparison=_compare(ours, name, theirs, other),
                    )


def _fewest_threads(results: Results, parts: Mapping[str, Results]) -> Results:
    """Return the part of the same workload that has the fewest threads."""
    workload = _any_cell(results).workload_name
    same = [part for part in parts.values() if _any_cell(part).workload_name == workload]
    return min(same, key=lambda part: _any_cell(part).threads)


def _any_cell(results: Results) -> CellResult:
    return next(iter(results.cells.values()))


def _ended_well(results: Results) -> dict[str, CellResult]:
    return {name: cell for name, cell in results.cells.items() if cell.outcome == "ok" and not cell.control}


def _identity(cell: CellResult) -> tuple[str, str]:
    return cell.config, json.dumps(dict(cell.options), sort_keys=True)


def _timed(results: Results) -> Iterator[tuple[Metric, Point | None]]:
    """Yield the metrics that time calls, at each point."""
    for metric in results.metrics.values():
        if (metric.phase, metric.compare, metric.samples) == ("block", "speedup", "per_block"):
            for point in metric.points(results.run.points) or (None,):
                yield metric, point


def _quantity(results: Results, recording: Recording, metric: Metric, point: Point | None) -> Quantity:
    return Quantity(metric, point, recording.select(results.cells), results.run.baseline)


def _compare(ours: Quantity, cell: str, theirs: Quantity, other: str) -> Comparison:
    # Of both as large a share of undisturbed calls as the one with fewer calls allows.
    samples = min(ours.by_wave.min_samples(cell), theirs.by_wave.min_samples(other))
    first, second = (_logs(side, name, samples) for side, name in ((ours, cell), (theirs, other)))
    difference = over_waves.independent(first, second, "speedup", where=WHERE)
    return Comparison(
        kind=difference.kind,
        value=difference.value,
        ci=difference.ci,
        p=difference.p,
        against=other,
        clear=None if difference.includes_neutral is None else not difference.includes_neutral,
        method=difference.method,
    )


def _logs(quantity: Quantity, cell: str, samples: int) -> Floats:
    logs = quantity.by_wave.values([cell], samples)[:, 0]
    return logs[~np.isnan(logs)]
