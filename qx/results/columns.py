"""What the tables show, whatever they are drawn with: rows of cells, columns of metrics, figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

from attrs import evolve, frozen

from qx.contract.records import Metric
from qx.results import numbers
from qx.results.numbers import NOTHING, Figure
from qx.results.records import (
    CellResult,
    Comparison,
    FrontResult,
    Measurement,
    OutputsResult,
    PairResult,
    Results,
)
from qx.results.results_file import cell_of
from qx.results.summary import part
from qx.values import Json, JsonMapping

#: A cell that is not shown to be dominated, but is on the front of fewer resampled runs, is there perhaps.
LIKELY = 0.5
#: What stands under the name of a cell whose outputs are below 0 dB.
ANOTHER_NETWORK = "! another network"


@frozen
class Column:
    """A metric, at one batch size where it has one."""

    metric: str
    params: tuple[tuple[str, Json], ...]

    @classmethod
    def of(cls, metric: str, params: JsonMapping) -> Column:
        """The column that a measurement belongs to."""
        return cls(metric, tuple(sorted(params.items())))

    @property
    def parameters(self) -> str:
        """``batch 1``; empty where there are none."""
        return ", ".join(f"{name.removesuffix('_size')} {value}" for name, value in self.params)

    @property
    def title(self) -> str:
        """``latency (batch 1)``."""
        return f"{self.metric} ({self.parameters})" if self.params else self.metric


def with_units(metrics: Mapping[str, Metric], text: Callable[[str], str]) -> dict[str, Metric]:
    """The metrics with their units as a medium writes foreign text: they become part of figures."""
    return {name: evolve(metric, unit=text(metric.unit)) for name, metric in metrics.items()}


@frozen(slots=False, eq=False)
class View:
    """Results as the tables and sentences ask for them."""

    results: Results

    @cached_property
    def rows(self) -> list[str]:
        """The cells of the table; the control is not among them."""
        return [cell for cell, result in self.results.cells.items() if not result.control]

    @cached_property
    def columns(self) -> list[Column]:
        """The columns of figures, in the order in which the metrics were measured."""
        return list(dict.fromkeys(Column.of(one.metric, one.params) for one in self.results.measurements))

    @cached_property
    def _measurements(self) -> dict[tuple[str, Column], Measurement]:
        return {(one.cell, Column.of(one.metric, one.params)): one for one in self.results.measurements}

    @cached_property
    def parts(self) -> list[View]:
        """A view of each workload by itself."""
        return [View(part(self.results, name)) for name in self.results.run["workloads"]]

    @property
    def baseline(self) -> str:
        """The baseline's cell."""
        return str(self.results.run["baseline"])

    def measurement(self, cell: str, column: Column) -> Measurement | None:
        """What was measured there."""
        return self._measurements.get((cell, column))

    def ended(self, cell: str) -> CellResult:
        """How a cell ended."""
        return self.results.cells[cell]

    def name(self, cell: str) -> str:
        """The cell's id without the workload where that is enough to tell it from the others, else the id."""
        if cell not in self.results.cells:
            return cell
        row = cell.partition("/")[2]
        alike = [other for other in self.rows if other.partition("/")[2] == row]
        return row if len(alike) <= 1 else cell

    def figure(self, cell: str, column: Column) -> Figure:
        """The figure of a cell; a dash where the metric does not apply."""
        measured = self.measurement(cell, column)
        if measured is None:
            return Figure(NOTHING)
        if measured.outcome != "ok":
            return Figure("n/a" if measured.outcome == "unsupported" else measured.outcome)
        if measured.value is None:
            return Figure(NOTHING)
        metric = self.results.metrics[measured.metric]
        compared = None if cell == self.baseline else measured.vs_baseline
        told = ("", "") if compared is None else numbers.comparison(compared, metric)
        runtime = ""
        if metric.compare == "speedup" and self.has_runtime_baseline(cell):
            runtime = f"runtime: {self.against_runtime(cell, column)}"
        return Figure(numbers.value(measured, metric), *told, runtime=runtime)

    def has_runtime_baseline(self, cell: str) -> bool:
        """It ended well, and is to be compared with a second config besides the baseline."""
        result = self.ended(cell)
        wanted = self.results.configs[result.config].runtime_baseline
        itself = (None, result.config, self.ended(self.baseline).config)
        return result.outcome == "ok" and wanted not in itself

    def runtime_baseline(self, cell: str) -> str | None:
        """The cell of the fp32 config of the same runtime, however it ended; None where it is not there."""
        result = self.ended(cell)
        return cell_of(self.results.cells, result, self.results.configs[result.config].runtime_baseline)

    def runtime_baseline_name(self, cell: str) -> str:
        """What a reader knows it by, whether it is there or not."""
        other = self.runtime_baseline(cell)
        wanted = self.results.configs[self.ended(cell).config].runtime_baseline
        return self.name(other) if other else str(wanted)

    def against_runtime(self, cell: str, column: Column) -> str:
        """How a cell compares with its runtime baseline, or why it does not, in one line."""
        other = self.runtime_baseline(cell)
        if other is None:
            return "not in this run"
        if (outcome := self.ended(other).outcome) != "ok":
            return outcome.replace("_", " ")
        return self.against(cell, other, column)

    def against(self, cell: str, other: str, column: Column) -> str:
        """How a cell compares with another, in one line; a dash where that is not known."""
        measured, found = self.measurement(cell, column), None
        if measured is not None:
            found = next((one for one in measured.comparisons if one.against == other), None)
        if found is None:
            return NOTHING
        return " ".join(filter(None, numbers.comparison(found, self.results.metrics[column.metric])))

    def pair(self, pair: PairResult) -> list[str]:
        """The two cells of a pair, how far they agree, and how they compare on each of ``pair_columns``."""
        agreement = NOTHING if pair.agreement is None else numbers.percentage(pair.agreement, pair.ci)
        compared = [self.against(pair.cell, pair.counterpart, column) for column in self.pair_columns]
        return [self.name(pair.cell), self.name(pair.counterpart), agreement, *compared]

    def build(self, cell: str) -> tuple[str, ...]:
        """Seconds to build, marked where the build was found and not made."""
        result = self.ended(cell)
        if result.build_seconds is None:
            return (NOTHING,)
        seconds = numbers.seconds(result.build_seconds)
        return (seconds, "cached") if result.build_cached else (seconds,)

    def front(self, cell: str) -> FrontResult | None:
        """What the front says of a cell; None where it takes no part."""
        return self.results.front.get(cell)

    def on_front(self, cell: str) -> str:
        """``yes``, ``no``, or ``perhaps`` where it only is not shown to be dominated."""
        front = self.front(cell)
        if front is None or not front.on_front:
            return "no"
        return "perhaps" if front.probability is not None and front.probability < LIKELY else "yes"

    def resampled(self, cell: str) -> str:
        """Of how many of 100 resampled runs it is on the front."""
        front = self.front(cell)
        return NOTHING if front is None or front.probability is None else numbers.of_100(front.probability)

    def outputs(self, cell: str) -> OutputsResult | None:
        """How far the outputs of a cell are from the baseline's; None where that is not known."""
        return next((one for one in self.results.outputs if one.cell == cell), None)

    @cached_property
    def another_network(self) -> list[OutputsResult]:
        """The cells that compute something else than the baseline."""
        return [one for one in self.results.outputs if one.is_below_0_db]

    def remarks(self, cell: str) -> list[str]:
        """What stands under the name of a cell."""
        outputs = self.outputs(cell)
        below = outputs is not None and outputs.is_below_0_db
        return ["baseline"] * (cell == self.baseline) + [ANOTHER_NETWORK] * below

    @cached_property
    def unclear(self) -> list[str]:
        """Why differences of this table are not called clear: the keys of their marks."""
        compared: list[Comparison | None] = []
        for one in self.results.measurements:
            if one.cell in self.rows and one.cell != self.baseline:
                compared += [one.vs_baseline, *one.comparisons]
        reasons = {numbers.unclear(one) for one in compared if one is not None}
        return [why for why in numbers.MARKS if why in reasons]

    @cached_property
    def axes(self) -> list[Column]:
        """The axes of the front."""
        return [
            Column.of(axis["metric"], {name: value for name, value in axis.items() if name != "metric"})
            for axis in self.results.axes
        ]

    @cached_property
    def pair_columns(self) -> list[Column]:
        """The axes of the front, and the rest of what can be compared prediction by prediction."""
        metrics = self.results.metrics
        paired = [
            column
            for column in self.columns
            if metrics[column.metric].phase == "predictions" and metrics[column.metric].samples != "exact"
        ]
        return list(dict.fromkeys([*self.axes, *paired]))

    @cached_property
    def without_figures(self) -> list[Measurement]:
        """Metrics that a cell which else ended well has no figures of, other than those that do not apply."""
        return [
            one
            for one in self.results.measurements
            if one.outcome not in ("ok", "unsupported") and self.ended(one.cell).outcome == "ok"
        ]
