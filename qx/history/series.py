"""Series of figures over the results of many runs, and the steps in them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Literal

from attrs import evolve, frozen

from qx.contract.figures import Figure
from qx.contract.records import Metric
from qx.errors import UsageError
from qx.results import results_file
from qx.results.cells import Identity
from qx.results.records import Measurement, Results
from qx.statistics.steps import LEAST, exact_steps, find_steps

#: What the values of a series are: those of the metric, or how they compare with the run's own baseline.
Basis = Literal["value", "against baseline"]
#: Half of a 95 % interval in standard errors, where its number of degrees of freedom is not known.
HALF = 1.96


@frozen(kw_only=True, eq=False)
class RunOf:
    """One run of a history."""

    #: Path of its results.
    place: str
    results: Results

    @property
    def commit(self) -> str | None:
        """The commit of the folder that it was made in, with whether files differed from it."""
        return self.results.environment.commit

    @property
    def started(self) -> datetime:
        """When it started."""
        return datetime.fromisoformat(self.results.run.started)


@frozen(kw_only=True)
class Entry:
    """One value of a series."""

    #: Position of its run in the history.
    run: int
    value: float
    #: Its 95 % interval; None where it has none.
    ci: tuple[float, float] | None


@frozen(kw_only=True)
class SeriesStep:
    """A step in a series: between two runs that follow each other in it."""

    #: Positions in the history of the last run before it and of the first behind it.
    before: int
    run: int
    #: Mean before and behind it, up to the next steps: geometric of ratios.
    mean_before: float
    mean_behind: float
    #: Probability of so large a step where there is none; 0 for values without an error.
    p: float
    #: ``better`` or ``worse``; ``changed`` for a metric without a better direction.
    verdict: Literal["better", "worse", "changed"]


@frozen(kw_only=True)
class Series:
    """The values of one figure of one cell over runs of one machine, in the order of their start."""

    workload: str
    #: Cell without its workload, as reports name it.
    row: str
    figure: Figure
    basis: Basis
    unit: str
    #: Fingerprint of the machine; None where runs recorded none, or the figure does not depend on it.
    machine: str | None
    entries: tuple[Entry, ...]
    steps: tuple[SeriesStep, ...]
    #: Whether values have no error, so that every difference is a step.
    is_exact: bool

    @property
    def is_too_short(self) -> bool:
        """Whether it has too few values for steps to be looked for."""
        return not self.is_exact and len(self.entries) < LEAST


@frozen(kw_only=True, eq=False)
class History:
    """Runs in the order of their start, and the series of their figures."""

    runs: tuple[RunOf, ...]
    metrics: dict[str, Metric]
    series: tuple[Series, ...]


def read_runs(paths: Sequence[Path]) -> tuple[RunOf, ...]:
    """Read results from files and folders, in the order of their start; each run counts once.

    A folder without results stands for the folders within it that have some. Raises ``UsageError``.
    """
    runs: dict[str, RunOf] = {}
    for path in paths:
        for place in _places(path):
            results = results_file.read(place)
            runs.setdefault(results.run.id, RunOf(place=str(place), results=results))
    if len(runs) < 2:
        raise UsageError(f"a history needs the results of two runs or more, and there {_number(len(runs))}")
    return tuple(sorted(runs.values(), key=lambda run: run.started))


def _number(count: int) -> str:
    return "is one" if count == 1 else "are none"


def _places(path: Path) -> list[Path]:
    if not path.is_dir() or (path / results_file.RESULTS).exists():
        return [path]
    places = sorted(file.parent for file in path.glob(f"**/{results_file.RESULTS}"))
    if not places:
        raise UsageError(f"there are no results in {path}; qx run writes them")
    return places


def collect(runs: Sequence[RunOf]) -> History:
    """Return the history of runs, with the steps of each series."""
    metrics = {name: metric for run in runs for name, metric in run.results.metrics.items()}
    groups: dict[tuple[Identity, Figure, Basis, str | None], list[tuple[int, Measurement]]] = {}
    rows: dict[Identity, tuple[str, str]] = {}
    for number, run in enumerate(runs):
        for measured in run.results.measurements:
            cell = run.results.cells[measured.cell]
            if measured.value is None or cell.control:
                continue
            rows[cell.identity] = (cell.workload, cell.row)
            for basis in _bases(metrics[measured.metric], measured):
                machine = _machine(run, metrics[measured.metric])
                groups.setdefault((cell.identity, measured.figure, basis, machine), []).append(
                    (number, measured)
                )
    series = [
        _series(rows[identity], figure, basis, machine, metrics[figure.metric], values)
        for (identity, figure, basis, machine), values in groups.items()
    ]
    return History(runs=tuple(runs), metrics=metrics, series=tuple(series))


def of_cells(history: History, results: Results) -> History:
    """Return a history with the series of those cells alone that these results have."""
    own = {(cell.workload, cell.row) for cell in results.cells.values()}
    return evolve(
        history, series=tuple(series for series in history.series if (series.workload, series.row) in own)
    )


def _is_of_machine(metric: Metric) -> bool:
    """Return whether values depend on what the machine does while it measures."""
    return metric.phase in ("build", "fresh", "block") or metric.samples in (
        "per_launch",
        "per_block",
        "per_round",
    )


def _machine(run: RunOf, metric: Metric) -> str | None:
    return run.results.environment.fingerprint if _is_of_machine(metric) else None


def _bases(metric: Metric, measured: Measurement) -> Iterator[Basis]:
    yield "value"
    compared = measured.vs_baseline
    is_itself = compared is not None and compared.method == "itself"
    if compared is not None and not is_itself and _is_of_machine(metric) and compared.ci is not None:
        yield "against baseline"


def _series(
    row: tuple[str, str],
    figure: Figure,
    basis: Basis,
    machine: str | None,
    metric: Metric,
    measured: Sequence[tuple[int, Measurement]],
) -> Series:
    entries = []
    for number, measurement in measured:
        source = measurement if basis == "value" else measurement.vs_baseline
        assert source is not None
        assert source.value is not None
        entries.append(Entry(run=number, value=source.value, ci=source.ci))
    is_log = metric.compare != "difference" and all(entry.value > 0 for entry in entries)
    is_exact = metric.samples == "exact" and not _is_of_machine(metric)
    values = [math.log(entry.value) if is_log else entry.value for entry in entries]
    errors = [_error(entry, is_log=is_log) for entry in entries]
    steps = exact_steps(values) if is_exact else find_steps(values, errors)
    ends = [0, *(step.position for step in steps), len(values)]
    means = [sum(value / (end - start) for value in values[start:end]) for start, end in pairwise(ends)]
    # A speedup is better where it is higher, whatever the direction of its metric.
    higher = basis == "against baseline" and metric.compare == "speedup"
    better = "higher" if higher else metric.better
    return Series(
        workload=row[0],
        row=row[1],
        figure=figure,
        basis=basis,
        unit=metric.unit if basis == "value" else metric.compare,
        machine=machine,
        entries=tuple(entries),
        steps=tuple(
            SeriesStep(
                before=entries[step.position - 1].run,
                run=entries[step.position].run,
                mean_before=math.exp(means[index]) if is_log else means[index],
                mean_behind=math.exp(means[index + 1]) if is_log else means[index + 1],
                p=step.p,
                verdict=_verdict(means[index + 1] - means[index], better),
            )
            for index, step in enumerate(steps)
        ),
        is_exact=is_exact,
    )


def _error(entry: Entry, *, is_log: bool) -> float:
    """Return the standard error of a value, in logs with ``is_log``; NaN without an interval."""
    if entry.ci is None or (is_log and entry.ci[0] <= 0):
        return math.nan
    low, high = (math.log(end) if is_log else end for end in entry.ci)
    return (high - low) / 2 / HALF


def _verdict(change: float, better: str) -> Literal["better", "worse", "changed"]:
    if better == "neither":
        return "changed"
    return "better" if (change > 0) == (better == "higher") else "worse"


def to_json(history: History) -> str:
    """Return a history as JSON: the runs, and each series with its values and steps."""
    fields = {
        "schema_version": 1,
        "runs": [
            {
                "place": run.place,
                "id": run.results.run.id,
                "started": run.results.run.started,
                "commit": run.commit,
                "is_partial": run.results.run.is_partial,
            }
            for run in history.runs
        ],
        "series": [
            {
                "workload": series.workload,
                "config": series.row,
                "metric": series.figure.metric,
                "point": None if series.figure.point is None else series.figure.point.to_json(),
                "basis": series.basis,
                "unit": series.unit,
                "machine": series.machine,
                "is_exact": series.is_exact,
                "is_too_short": series.is_too_short,
                "values": [
                    {"run": entry.run, "value": entry.value, "ci": entry.ci} for entry in series.entries
                ],
                "steps": [
                    {
                        "before": step.before,
                        "run": step.run,
                        "commit_before": history.runs[step.before].commit,
                        "commit": history.runs[step.run].commit,
                        "mean_before": step.mean_before,
                        "mean_behind": step.mean_behind,
                        "p": step.p,
                        "verdict": step.verdict,
                    }
                    for step in series.steps
                ],
            }
            for series in history.series
        ],
    }
    return json.dumps(fields, indent=1, allow_nan=False) + "\n"
