"""The content of the tables in every medium: rows of cells, columns of metrics, figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cached_property

from attrs import evolve, frozen

from qx.contract.figures import Figure
from qx.contract.records import Metric
from qx.results import numbers
from qx.results.cells import most_similar
from qx.results.constraints import VERDICTS, Verdict
from qx.results.numbers import NOTHING, FigureText
from qx.results.records import (
    NOT_APPLICABLE,
    CellResult,
    Comparison,
    FrontResult,
    LimitResult,
    Measurement,
    OutputsResult,
    PairResult,
    Results,
)
from qx.results.summary import part

#: Share of resampled runs below which a cell of the front is called 'perhaps' on it.
LIKELY = 0.5
#: Remark under the name of a cell whose outputs are below 0 dB.
ANOTHER_NETWORK = "! another network"


def with_units(metrics: Mapping[str, Metric], text: Callable[[str], str]) -> dict[str, Metric]:
    """Return the metrics with units that ``text`` has made safe for a medium, since figures contain them."""
    return {name: evolve(metric, unit=text(metric.unit)) for name, metric in metrics.items()}


@frozen(slots=False, eq=False)
class View:
    """Results in the form that tables and sentences need."""

    results: Results

    @cached_property
    def rows(self) -> list[str]:
        """The cells of the table, without the control."""
        return [cell for cell, result in self.results.cells.items() if not result.control]

    @cached_property
    def columns(self) -> list[Figure]:
        """The columns of the table, in the order in which the metrics were measured.

        Metrics of other tasks than the workload's, and a score that it does not have, are left out.
        """
        metrics = self.results.metrics
        measurements = self.results.measurements
        measured = {
            entry.metric
            for entry in measurements
            if entry.cause != NOT_APPLICABLE and self.ended(entry.cell).outcome == "ok"
        }
        shown = {
            name
            for name, metric in metrics.items()
            if name in measured or not (metric.tasks or metric.takes_score)
        }
        return list(dict.fromkeys(entry.figure for entry in measurements if entry.metric in shown))

    @cached_property
    def figures(self) -> list[Figure]:
        """All figures that were asked for, those as well that apply to no cell and are no column."""
        return list(dict.fromkeys(entry.figure for entry in self.results.measurements))

    @cached_property
    def _measurements(self) -> dict[tuple[str, Figure], Measurement]:
        return {
            (measurement.cell, measurement.figure): measurement for measurement in self.results.measurements
        }

    @cached_property
    def parts(self) -> list[View]:
        """A view of each workload by itself."""
        return [View(part(self.results, name)) for name in self.results.run.workloads]

    @property
    def baseline(self) -> str:
        """The baseline's cell."""
        return self.results.run.baseline

    def measurement(self, cell: str, figure: Figure) -> Measurement | None:
        """Return the measurement of a figure of a cell; None where there is none."""
        return self._measurements.get((cell, figure))

    def meets(self, cell: str) -> Verdict | None:
        """Return whether a cell meets all constraints that the user set; None where that cannot be judged.

        It is not judged where it failed, where it lacks a figure, or where it computes something else.
        """
        verdicts = [limit.verdicts.get(cell) for limit in self.limits]
        is_other = any(outputs.cell == cell for outputs in self.another_network)
        if not verdicts or None in verdicts or is_other or self.ended(cell).outcome != "ok":
            return None
        return min((verdict for verdict in verdicts if verdict is not None), key=VERDICTS.index)

    @property
    def limits(self) -> list[LimitResult]:
        """The constraints by which cells can be judged."""
        return [limit for limit in self.results.limits if limit.verdicts]

    def ended(self, cell: str) -> CellResult:
        """Return the result of a cell: its outcome, with the stage and cause of a failure, and its files."""
        return self.results.cells[cell]

    def name(self, cell: str) -> str:
        """Return the cell's id, without the workload where no other cell has the same name without it."""
        if cell not in self.results.cells:
            return cell
        row = self.ended(cell).row
        return row if self._row_counts[row] <= 1 else cell

    @cached_property
    def _row_counts(self) -> Counter[str]:
        """How many cells have the same name without their workload."""
        return Counter(self.ended(cell).row for cell in self.rows)

    def figure(self, cell: str, figure: Figure) -> FigureText:
        """Return a figure of a cell in words; a dash where the metric does not apply."""
        measured = self.measurement(cell, figure)
        if measured is None:
            return FigureText(NOTHING)
        if measured.outcome != "ok":
            return FigureText("n/a" if measured.outcome == "unsupported" else measured.outcome)
        if measured.value is None:
            return FigureText(NOTHING)
        metric = self.results.metrics[measured.metric]
        compared = None if cell == self.baseline else measured.vs_baseline
        delta = ("", "") if compared is None else numbers.comparison(compared, metric)
        runtime = ""
        if metric.compare == "speedup" and self.has_runtime_baseline(cell):
            runtime = f"runtime: {self.against_runtime(cell, figure)}"
        return FigureText(numbers.value(measured, metric), *delta, runtime=runtime)

    def has_runtime_baseline(self, cell: str) -> bool:
        """Return whether a cell ended well and is compared with a second config besides the baseline."""
        result = self.ended(cell)
        config = self.results.configs[result.config].runtime_baseline
        without_second = (None, result.config, self.ended(self.baseline).config)
        return result.outcome == "ok" and config not in without_second

    def runtime_baseline(self, cell: str) -> str | None:
        """Return the cell of the fp32 config of the same runtime, whatever its outcome; None without one."""
        result = self.ended(cell)
        return most_similar(self.results.cells, result, self.results.configs[result.config].runtime_baseline)

    def runtime_baseline_name(self, cell: str) -> str:
        """Return the name of a cell's runtime baseline: its cell, or its config where it was not run."""
        other = self.runtime_baseline(cell)
        config = self.results.configs[self.ended(cell).config].runtime_baseline
        return self.name(other) if other else str(config)

    def against_runtime(self, cell: str, figure: Figure) -> str:
        """Return in one line how a cell compares with its runtime baseline, or why it does not."""
        other = self.runtime_baseline(cell)
        if other is None:
            return "not in this run"
        if (outcome := self.ended(other).outcome) != "ok":
            return outcome.replace("_", " ")
        return self.against(cell, other, figure)

    def against(self, cell: str, other: str, figure: Figure) -> str:
        """Return in one line how a cell compares with another; a dash where they were not compared."""
        measured, match = self.measurement(cell, figure), None
        if measured is not None:
            comparisons = measured.comparisons
            match = next((comparison for comparison in comparisons if comparison.against == other), None)
        if match is None:
            return NOTHING
        return " ".join(filter(None, numbers.comparison(match, self.results.metrics[figure.metric])))

    def pair(self, pair: PairResult) -> list[str]:
        """Return the two cells of a pair, how often they agree, and their figures for ``pair_columns``."""
        agreement = NOTHING if pair.agreement is None else numbers.percentage(pair.agreement, pair.ci)
        compared = [self.against(pair.cell, pair.counterpart, column) for column in self.pair_columns]
        return [self.name(pair.cell), self.name(pair.counterpart), agreement, *compared]

    def build(self, cell: str) -> tuple[str, ...]:
        """Return the seconds to build, marked where the build came from the cache."""
        result = self.ended(cell)
        if result.build_seconds is None:
            return (NOTHING,)
        seconds = numbers.seconds(result.build_seconds)
        return (seconds, "cached") if result.build_cached else (seconds,)

    def front(self, cell: str) -> FrontResult | None:
        """Return what the front says of a cell; None where the cell takes no part."""
        return self.results.front.get(cell)

    def on_front(self, cell: str) -> str:
        """Return ``yes``, ``no``, or ``perhaps`` for a cell on the front of few resampled runs."""
        front = self.front(cell)
        if front is None or not front.on_front:
            return "no"
        return "perhaps" if front.probability is not None and front.probability < LIKELY else "yes"

    def resampled(self, cell: str) -> str:
        """Return in how many of 100 resampled runs a cell is on the front."""
        front = self.front(cell)
        return NOTHING if front is None or front.probability is None else numbers.of_100(front.probability)

    def outputs(self, cell: str) -> OutputsResult | None:
        """Return how far the outputs of a cell are from the baseline's; None where they were not kept."""
        return next((outputs for outputs in self.results.outputs if outputs.cell == cell), None)

    @cached_property
    def another_network(self) -> list[OutputsResult]:
        """The outputs of cells that compute something else than the baseline."""
        return [outputs for outputs in self.results.outputs if outputs.is_below_0_db]

    def remarks(self, cell: str) -> list[str]:
        """Return the remarks under the name of a cell."""
        outputs = self.outputs(cell)
        is_below_0_db = outputs is not None and outputs.is_below_0_db
        return ["baseline"] * (cell == self.baseline) + [ANOTHER_NETWORK] * is_below_0_db

    @cached_property
    def unclear(self) -> list[str]:
        """The reasons why differences of this table are not called clear, as keys of their marks."""
        comparisons: list[Comparison | None] = []
        for measurement in self.results.measurements:
            if measurement.cell in self.rows and measurement.cell != self.baseline:
                comparisons += [measurement.vs_baseline, *measurement.comparisons]
        reasons = {numbers.unclear(comparison) for comparison in comparisons if comparison is not None}
        return [reason for reason in numbers.MARKS if reason in reasons]

    @cached_property
    def axes(self) -> list[Figure]:
        """The axes of the front."""
        return [axis.figure for axis in self.results.axes]

    @cached_property
    def pair_columns(self) -> list[Figure]:
        """The axes of the front, and all other columns that can be compared prediction by prediction."""
        metrics = self.results.metrics
        paired = [
            column
            for column in self.columns
            if metrics[column.metric].phase == "predictions" and metrics[column.metric].samples != "exact"
        ]
        return list(dict.fromkeys([*self.axes, *paired]))

    @cached_property
    def without_figures(self) -> list[Measurement]:
        """The measurements that failed in cells that ended well otherwise."""
        return [
            measurement
            for measurement in self.results.measurements
            if measurement.outcome not in ("ok", "unsupported")
            and self.ended(measurement.cell).outcome == "ok"
        ]
