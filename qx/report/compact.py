"""The table of a screen: one line for each config, as many columns as the terminal is wide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from attrs import evolve, frozen

from qx.contract.figures import Figure
from qx.contract.records import Metric
from qx.foreign import to_terminal
from qx.report.styled import Line, Span, Style, fitted, padded, short_names, width_of
from qx.results import numbers
from qx.results.columns import View
from qx.results.constraints import judges_answers
from qx.results.numbers import NOTHING, NarrowText
from qx.results.records import Comparison, Measurement

#: Width of the marks before the names.
MARKS_WIDTH = 2
#: Least and largest number of spaces between columns.
LEAST_GAP, LARGEST_GAP = 2, 4
#: Least width of the names of a table with a single figure.
LEAST_NAME_WIDTH = 8
#: Widest heading of a column that is not wider itself.
HEADING_WIDTH = 22
#: Widest unit.
UNIT_WIDTH = 12
#: Number of columns of a run without axes.
WITHOUT_AXES = 4
#: Places of columns by the phase of the metric: what a model answers, its size, its speed, its memory.
PHASES = ("artifact", "block", "fresh")
#: Phases whose axes stay longest where the terminal is narrow, behind those of quality.
STAYING = ("block", "artifact", "fresh")


def is_nearness(metric: Metric) -> bool:
    """Whether values say how near outputs are to the baseline's: then they are comparisons themselves."""
    return "outputs" in metric.derived_from


@frozen
class Entry:
    """What a table says of one figure of one config."""

    value: NarrowText = NarrowText()
    #: Comparison with the baseline; without a number where there is none.
    comparison: NarrowText = NarrowText()
    style: Style = "plain"


@frozen(kw_only=True)
class Layout:
    """How a table uses the width of a terminal."""

    #: Columns for the names of the configs.
    name_width: int
    #: Whether each value has its interval beside that of its comparison.
    whole: bool
    #: Spaces between columns, and between a value and its comparison.
    gap: int = LEAST_GAP
    inner_gap: int = 1


#: Layouts to try in this order, before an axis is left out.
LAYOUTS = (
    Layout(name_width=24, whole=True, inner_gap=2),
    Layout(name_width=24, whole=False, inner_gap=2),
    Layout(name_width=24, whole=False),
    Layout(name_width=16, whole=False),
)


@frozen(slots=False, eq=False)
class Column:
    """One figure of all configs."""

    figure: Figure
    #: Name of the metric, and the point that it was measured at.
    heading: str
    #: Unit of the values, and what the comparisons are.
    unit: str
    compared: str
    entries: Mapping[str, Entry]
    #: Whether it is the spread of the figure between builds, beside the figure itself.
    is_spread: bool = False

    def texts(self, cell: str, *, whole: bool) -> tuple[tuple[str, str], tuple[str, str]]:
        """Return value and comparison of a config, each as a number and what stands behind it.

        Half of the interval of a value is left out beside a comparison, unless ``whole``.
        """
        entry = self.entries[cell]
        value, compared = entry.value, entry.comparison
        behind = f"{compared.half}{compared.mark}"
        if whole:
            return (value.number, value.half), (compared.number, behind)
        return (value.number, ""), (compared.number, behind if compared.number else value.half)

    def drawn(self, cells: Sequence[str], layout: Layout) -> tuple[list[str], list[tuple[str, str]]]:
        """Return the two lines of the heading, and value and comparison of each config, all of one width."""
        texts = [self.texts(cell, whole=layout.whole) for cell in cells]
        values = _aligned([value for value, _ in texts])
        comparisons = _aligned([compared for _, compared in texts])
        first = max(map(width_of, [*values, self.unit]))
        second = max(map(width_of, [*comparisons, self.compared if any(comparisons) else ""]))
        heading = short_names([self.heading], max(HEADING_WIDTH, first + second))[self.heading]
        second = max(second, width_of(heading) - first - layout.inner_gap)
        head = [
            padded(heading, first + layout.inner_gap + second),
            padded(self.unit, first + layout.inner_gap)
            + padded(self.compared if any(comparisons) else "", second),
        ]
        rows = [
            (padded(value, first + layout.inner_gap), padded(compared, second))
            for value, compared in zip(values, comparisons, strict=True)
        ]
        return head, rows


def _aligned(texts: Sequence[tuple[str, str]]) -> list[str]:
    """Return numbers with their points below each other, and what stands behind them."""
    numbers_in_parts = [number.partition(".") for number, _ in texts if _is_number(number)]
    whole = max((len(before) for before, _, _ in numbers_in_parts), default=0)
    decimals = max((len(point + after) for _, point, after in numbers_in_parts), default=0)
    aligned = []
    for number, behind in texts:
        if not _is_number(number):
            aligned.append(number or behind)
            continue
        before, point, after = number.partition(".")
        aligned.append(f"{before.rjust(whole)}{(point + after).ljust(decimals)} {behind}".rstrip())
    return aligned


def _is_number(text: str) -> bool:
    return text.lstrip("+-")[:1].isdigit()


@frozen(slots=False, eq=False)
class Table:
    """The table of one workload."""

    view: View

    @cached_property
    def _ended_well(self) -> list[str]:
        return [cell for cell in self.view.rows if self.view.ended(cell).outcome == "ok"]

    @cached_property
    def cells(self) -> list[str]:
        """The configs that ended well: those on the front first, then by speed."""
        places = {"yes": 0, "perhaps": 1, "no": 2}
        return sorted(
            self._ended_well, key=lambda cell: (places[self.view.on_front(cell)], self._slowness(cell))
        )

    def _slowness(self, cell: str) -> float:
        """Return the time of a call against the baseline's; without a time, more than any has."""
        if self._speed is None:
            return 0.0
        measured = self.view.measurement(cell, self._speed)
        if measured is None or not measured.value:
            return float("inf")
        if measured.vs_baseline is not None and measured.vs_baseline.kind == "speedup":
            return 1 / measured.vs_baseline.value
        baseline = self.view.measurement(self.view.baseline, self._speed)
        if baseline is None or not baseline.value:
            return measured.value if self._metric(self._speed).better == "lower" else -measured.value
        ratio = measured.value / baseline.value
        return ratio if self._metric(self._speed).better == "lower" else 1 / ratio

    @cached_property
    def _speed(self) -> Figure | None:
        """The figure that configs are sorted by: the first that is compared by speedup."""
        return next((figure for figure in self.figures if self._metric(figure).compare == "speedup"), None)

    @cached_property
    def figures(self) -> list[Figure]:
        """The figures of the columns in order: quality, size, speed, memory, other axes of the front."""
        axes = list(dict.fromkeys(self._at_smallest(axis) for axis in self.view.axes))
        if not axes:
            return self._with_values(self.view.columns)[:WITHOUT_AXES]
        if not any(judges_answers(self._metric(figure)) for figure in axes):
            others = [figure for figure in self.view.columns if judges_answers(self._metric(figure))]
            axes += self._with_values(others)[:1]
        return sorted(axes, key=lambda figure: self._place(figure, PHASES))

    @cached_property
    def others(self) -> list[Figure]:
        """The figures of quality that are no columns, which get one where a terminal has room to spare."""
        if not self.view.axes:
            return []
        quality = [figure for figure in self.view.columns if judges_answers(self._metric(figure))]
        return [figure for figure in self._with_values(quality) if figure not in self.figures]

    def _with_values(self, figures: Sequence[Figure]) -> list[Figure]:
        return [
            figure
            for figure in figures
            if any(
                (measured := self.view.measurement(cell, figure)) and measured.value
                for cell in self._ended_well
            )
        ]

    def _at_smallest(self, figure: Figure) -> Figure:
        """Return the figure at the smallest point that its metric was measured at."""
        points = [column.point for column in self.view.columns if column.metric == figure.metric]
        ready = [point for point in points if point is not None]
        if figure.point is None or not ready:
            return figure
        return Figure(figure.metric, min(ready, key=lambda point: (point.batch_size, str(point))))

    def _place(self, figure: Figure, phases: Sequence[str]) -> int:
        metric = self._metric(figure)
        if judges_answers(metric):
            return 0
        return 1 + phases.index(metric.phase) if metric.phase in phases else 1 + len(phases)

    def _metric(self, figure: Figure) -> Metric:
        return self.view.results.metrics[figure.metric]

    @cached_property
    def columns(self) -> list[Column]:
        """The columns for all figures, whether a terminal has room for them or not."""
        columns = []
        for figure in self.figures:
            columns.append(self._column(figure))
            if judges_answers(self._metric(figure)) and (spread := self._spread_column(figure)) is not None:
                columns.append(spread)
        return columns

    def _spread_column(self, figure: Figure) -> Column | None:
        """Return the standard deviations between builds; None where each config has one build."""
        metric = self._metric(figure)
        spreads = {
            cell: measured.builds
            for cell in self.cells
            if (measured := self.view.measurement(cell, figure)) is not None and measured.builds is not None
        }
        if not spreads:
            return None
        scale = numbers.scale_of(metric.unit, [spread.mean for spread in spreads.values()])
        unit = "pt" if metric.unit == "fraction" else fitted(scale.unit, UNIT_WIDTH)
        entries = {cell: Entry(NarrowText(NOTHING), style="faint") for cell in self.cells}
        for cell, spread in spreads.items():
            if self.view.ended(cell).depends_on_seed:
                entries[cell] = Entry(NarrowText(numbers.significant(spread.deviation / scale.factor, 2)))
        return Column(
            figure=figure,
            heading=f"{self.view.results.run.build_seeds} builds",
            unit=f"sd, {unit}",
            compared="",
            entries=entries,
            is_spread=True,
        )

    def _column(self, figure: Figure) -> Column:
        metric = self._metric(figure)
        measured = {cell: self.view.measurement(cell, figure) for cell in self.cells}
        values = [entry.value for entry in measured.values() if entry is not None and entry.value is not None]
        scale = numbers.scale_of(metric.unit, values)
        unit = fitted(scale.unit, UNIT_WIDTH)
        compared = {"speedup": "speedup", "ratio": "ratio"}.get(metric.compare, "")
        if is_nearness(metric):
            compared = ""
        elif metric.compare == "difference":
            compared = f"change, {'pt' if metric.unit == 'fraction' else unit}".rstrip(", ")
        where = f", {figure.parameters}" if figure.point else ""
        return Column(
            figure=figure,
            heading=f"{to_terminal(figure.metric)}{where}",
            unit=unit,
            compared=compared,
            entries={cell: self._entry(cell, entry, metric, scale) for cell, entry in measured.items()},
        )

    def _entry(self, cell: str, measured: Measurement | None, metric: Metric, scale: numbers.Scale) -> Entry:
        if measured is None or (measured.outcome == "ok" and measured.value is None):
            return Entry(NarrowText(NOTHING))
        if measured.outcome != "ok":
            failed = measured.outcome != "unsupported"
            word = measured.outcome.replace("_", " ") if failed else "n/a"
            return Entry(NarrowText(word), style="bad" if failed else "faint")
        if is_nearness(metric) and cell == self.view.baseline:
            return Entry(NarrowText(NOTHING))
        value = numbers.narrow_value(measured, metric, scale)
        compared = None if is_nearness(metric) else measured.vs_baseline
        if compared is None or cell == self.view.baseline:
            return Entry(value)
        return Entry(value, numbers.narrow_comparison(compared, metric, scale), _style(compared, metric))

    @cached_property
    def names(self) -> dict[str, str]:
        """The names of the configs, safe for a terminal."""
        return {cell: to_terminal(self.view.name(cell)) for cell in self.view.rows}

    def fitted(self, width: int, rows: int) -> FittedTable:
        """Return the table as it fits ``width`` columns of a terminal, with at most so many rows.

        Columns beside the axes go first, then intervals of values, then the ends of long names, then the last
        axes.
        """
        cells = self._shown(rows)
        natural = max(map(width_of, ("config", *(self.names[cell] for cell in cells))))
        # The spread between builds, which was asked for, comes right after its figure.
        order = sorted(self.columns, key=lambda column: self._place(column.figure, STAYING))
        others = [self._column(figure) for figure in self.others]
        for count in range(len(order) + len(others), 0, -1):
            shown = [*order, *others][:count]
            columns = [column for column in (*self.columns, *others) if column in shown]
            columns = sorted(columns, key=lambda column: self._place(column.figure, PHASES))
            # Columns beside the axes cost neither intervals nor ends of names.
            whole = (evolve(LAYOUTS[0], name_width=natural),)
            for layout in LAYOUTS if count <= len(order) else whole:
                layout = evolve(layout, name_width=min(natural, layout.name_width))
                table = FittedTable(self, cells, columns, layout)
                if (room := width - table.width) < 0:
                    continue
                more = min(room, natural - layout.name_width)
                gap = min(LARGEST_GAP, LEAST_GAP + (room - more) // count)
                layout = evolve(layout, name_width=layout.name_width + more, gap=gap)
                return FittedTable(self, cells, columns, layout)
        layout = Layout(name_width=LEAST_NAME_WIDTH, whole=False)
        room = width - FittedTable(self, cells, order[:1], layout).width
        if room < 0:
            return FittedTable(self, cells, [], evolve(layout, name_width=min(natural, width - MARKS_WIDTH)))
        return FittedTable(self, cells, order[:1], evolve(layout, name_width=LEAST_NAME_WIDTH + room))

    def _shown(self, rows: int) -> list[str]:
        """Return the first cells, the baseline among them."""
        shown = self.cells[:rows]
        if self.view.baseline in self.cells and self.view.baseline not in shown:
            shown[-1:] = [self.view.baseline]
        return shown


def _style(compared: Comparison, metric: Metric) -> Style:
    """Return the style of a comparison: better, worse, or faint where that is not clear."""
    if numbers.unclear(compared) is not None:
        return "faint"
    neutral = 0.0 if compared.kind == "difference" else 1.0
    if (compared.clear is None and compared.ci is None) or metric.better == "neither":
        return "plain"
    change = compared.value - neutral
    if abs(change) <= metric.margin:
        return "plain"
    is_higher_better = compared.kind == "speedup" or metric.better == "higher"
    return "good" if (change > 0) == is_higher_better else "bad"


@frozen(slots=False, eq=False)
class FittedTable:
    """A table with the columns that a terminal has room for."""

    table: Table
    #: Configs in order.
    cells: list[str]
    columns: list[Column]
    layout: Layout

    @property
    def width(self) -> int:
        """The width in columns of a terminal."""
        columns = sum(self.layout.gap + width_of(head[0]) for head, _ in self._drawn)
        return MARKS_WIDTH + self.layout.name_width + columns

    @cached_property
    def _drawn(self) -> list[tuple[list[str], list[tuple[str, str]]]]:
        return [column.drawn(self.cells, self.layout) for column in self.columns]

    @cached_property
    def names(self) -> dict[str, str]:
        """The name of each config, cut short where the table has no room for it."""
        names = self.table.names
        shorts = short_names([names[cell] for cell in self.cells], self.layout.name_width)
        return {cell: shorts.get(name, name) for cell, name in names.items()}

    @property
    def left_out(self) -> list[Column]:
        """The columns that the terminal has no room for."""
        return [column for column in self.table.columns if column not in self.columns]

    @property
    def rows_left_out(self) -> list[str]:
        """The configs that the table has no row for."""
        return [cell for cell in self.table.cells if cell not in self.cells]

    def lines(self, mark: Callable[[str], str]) -> list[Line]:
        """Return the heading and the rows. ``mark`` gives the mark before the name of a config."""
        names, gap, name_width = self.names, " " * self.layout.gap, self.layout.name_width
        heads = [gap.join(column) for column in zip(*(head for head, _ in self._drawn), strict=True)]
        indent = " " * MARKS_WIDTH
        begins = (indent + " " * name_width, indent + padded("config", name_width))
        lines: list[Line] = [
            ((gap.join(filter(None, (begin, *head))), "strong"),)
            for begin, head in zip(begins, [[text] for text in heads] or [[], []], strict=True)
        ]
        for index, cell in enumerate(self.cells):
            on_front = self.table.view.on_front(cell) != "no"
            name_style: Style = "good" if on_front else "plain"
            spans: list[Span] = [(padded(mark(cell), MARKS_WIDTH), name_style)]
            spans.append((padded(names[cell], name_width), name_style))
            for column, (_, rows) in zip(self.columns, self._drawn, strict=True):
                value, compared = rows[index]
                entry = column.entries[cell]
                has_value = entry.comparison.number or entry.style == "plain"
                spans.append((gap + value, "plain" if has_value else entry.style))
                spans.append((compared, entry.style))
            lines.append(tuple(spans))
        return lines
