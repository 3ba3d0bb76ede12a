"""What changed between runs, as Markdown and for a terminal."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeAlias

from attrs import evolve, frozen

from qx import foreign
from qx.comparison.causes import ORDER, UNCHANGED, Cause, causes
from qx.comparison.records import Change, Compared, Verdict
from qx.contract.records import Metric
from qx.report import markdown, terminal, wording
from qx.report.wording import Markup
from qx.results import numbers
from qx.results.columns import Column, with_units
from qx.results.numbers import NOTHING
from qx.results.records import Comparison

#: Cell with its options and threads, metric, parameters, basis: what makes a row.
Row: TypeAlias = tuple[str, str, int, "str | None", str, "str | None"]

#: How a row says what it was compared by, where that is not plain.
BASES = {
    "own baseline": "against own baseline",
    "direct": "directly",
    "outputs": "same answers",
}

LEGEND = (
    "A change is from the base to the run of the column. same: no change that matters is shown. same?: nor "
    "is one excluded, since the interval reaches beyond the metric's margin."
)
SPEEDUPS = "A speedup is base / other run, so more is faster."
COUNTED = (
    "Each cause counts once: a metric at all batch sizes, however it is compared, and what derives from it. "
    "mixed: better in one figure and worse in another. same?: no change is shown, but the intervals leave "
    "room for one."
)
HOW = (
    "Values of items are compared on the same items in pairs, sizes exactly. What is measured in launches is "
    "compared by each run's own ratio to its own baseline (difference of independent log ratios, Welch's t; "
    "for calls, ratios of those that nothing disturbed). Where both runs come from one machine it is "
    "compared directly too: what the machine did in between is then part of the change."
)


@frozen(slots=False, eq=False)
class ChangeView:
    """A comparison as its tables ask for it."""

    compared: Compared

    @cached_property
    def rows(self) -> dict[Row, dict[str, Change]]:
        """Rows in order, each with the change of every run that has one."""
        rows: dict[Row, dict[str, Change]] = {}
        for change in self.compared.changes:
            rows.setdefault(_row(change), {})[change.run] = change
        cells = list(dict.fromkeys(row[:3] for row in rows))
        return {row: rows[row] for row in sorted(rows, key=lambda row: cells.index(row[:3]))}

    @cached_property
    def cells(self) -> list[Row]:
        """One row of each cell."""
        return list({row[:3]: row for row in self.rows}.values())

    def name(self, row: Row) -> str:
        """The config's name where it is enough to tell the cell from the others."""
        change = self._any(row)
        alike = [one for one in self.cells if self._any(one).config == change.config]
        if len(alike) == 1:
            return change.config
        options = ", ".join(f"{name}={value}" for name, value in change.options.items())
        return f"{change.cell} ({options})" if len({one[0] for one in alike}) < len(alike) else change.cell

    def what(self, row: Row, markup: Markup) -> list[str]:
        """The metric, its parameters, and what it was compared by."""
        change = self._any(row)
        if change.metric is None:
            return ["the whole cell"]
        parameters = Column.of(change.metric, change.params).parameters
        about = [markup.text(parameters), BASES.get(change.basis or "", "")]
        return [markup.name(change.metric), *filter(None, about)]

    def base(self, row: Row) -> str:
        """What the base has."""
        return next((self._side(one, one.base) for one in self.rows[row].values() if one.base), NOTHING)

    def figure(self, row: Row, run: str, markup: Markup) -> list[str]:
        """What another run has: its figure, the change, the verdict."""
        change = self.rows[row].get(run)
        if change is None:
            return [NOTHING]
        if change.metric is None:
            reason = textwrap.shorten(
                foreign.to_terminal(change.reason or ""), markdown.ROOM, placeholder=" ..."
            )
            return [self.verdict(change, markup), markup.text(reason)]
        own = self._side(change, change.ours) if change.ours else ""
        return [line for line in (own, self.delta(change), self.verdict(change, markup)) if line]

    def delta(self, change: Change) -> str:
        """The change with its interval; where two sides look alike, their difference too."""
        if change.value is None or change.kind is None or change.metric is None:
            return ""
        if change.kind == "agreeing":
            exact = change.value in (0.0, 1.0)
            return f"{100 * change.value:.{0 if exact else 2}f} %"
        metric = self.compared.metrics[change.metric]
        compared = Comparison(kind=change.kind, value=change.value, ci=change.ci, p=change.p, clear=True)
        figure = " ".join(filter(None, numbers.comparison(compared, metric, change.why_same)))
        return figure + self._difference_of_sides(change, metric)

    def _difference_of_sides(self, change: Change, metric: Metric) -> str:
        """The difference of two exact values that look alike once they are rounded."""
        base, ours = change.base, change.ours
        if change.basis != "exact" or change.kind == "difference" or base is None or ours is None:
            return ""
        if base.value == ours.value or numbers.value(base, metric) != numbers.value(ours, metric):
            return ""
        return f" ({ours.value - base.value:+,.12g} {metric.unit})"

    def verdict(self, change: Change, markup: Markup) -> str:
        """The verdict in words, stressed where it is one to look at."""
        if change.verdict == "same":
            return "same?" if change.within_margin is False else "same"
        return "changed" if change.verdict == "changed" else markup.strong(change.verdict)

    def causes(self, run: str, cell: Row | None = None) -> list[Cause]:
        """The causes of what changed in a run, in one cell or in all."""
        by_cell: dict[tuple[str, str, int], list[Change]] = {}
        for row, by_run in self.rows.items():
            if run in by_run and (cell is None or row[:3] == cell[:3]):
                by_cell.setdefault(row[:3], []).append(by_run[run])
        return [cause for changes in by_cell.values() for cause in causes(changes, self.compared.metrics)]

    def headlines(self, cell: Row, run: str, markup: Markup) -> list[str]:
        """A line for each cause of what changed in a cell; empty where nothing is shown to have changed."""
        return [
            self._headline(cause, markup)
            for cause in self.causes(run, cell)
            if cause.verdict not in UNCHANGED
        ]

    def lines(self, cell: Row, run: str, markup: Markup) -> list[str]:
        """The headlines, and of how many causes no change is shown: ``5 same, 2 same?``."""
        counts = Counter(cause.verdict for cause in self.causes(run, cell))
        unchanged = [f"{counts[verdict]} {verdict}" for verdict in reversed(UNCHANGED) if counts[verdict]]
        return [*self.headlines(cell, run, markup), *([", ".join(unchanged)] if unchanged else [])]

    def _headline(self, cause: Cause, markup: Markup) -> str:
        """``latency **worse** 0.95x to 0.97x (batch 1 and batch 32)``."""
        if cause.changes[0].metric is None:
            (change,) = cause.changes
            reason = textwrap.shorten(
                foreign.to_terminal(change.reason or ""), markdown.ROOM, placeholder=" ..."
            )
            return f"the whole cell {markup.strong(change.verdict)}: {markup.text(reason)}"
        groups: dict[tuple[str, Verdict], list[Change]] = {}
        for change in cause.changes:
            groups.setdefault((change.metric or "", change.verdict), []).append(change)
        by_metric: dict[str, list[str]] = {}
        for (metric, verdict), changes in groups.items():
            word = "changed" if verdict == "changed" else markup.strong(verdict)
            figures = [
                self._figures([change for change in changes if (change.basis == "direct") == direct], markup)
                for direct in (False, True)
            ]
            words = " ".join([word, ", ".join(filter(None, figures))]).rstrip()
            by_metric.setdefault(markup.name(metric), []).append(words)
        return ", ".join(f"{name} {', '.join(words)}" for name, words in by_metric.items())

    def _figures(self, changes: Sequence[Change], markup: Markup) -> str:
        """Changes of one metric by one basis: the figure, or the range of several, and at which sizes."""
        figures = [delta for change in changes if (delta := self.delta(change))]
        if not figures:
            return ""
        if len(figures) > 1:
            ascending = sorted(changes, key=lambda change: change.value or 0.0)
            ends = [evolve(change, ci=None) for change in (ascending[0], ascending[-1])]
            figures = [self.delta(change).removesuffix(" ±?") for change in ends]
        sizes = [Column.of(change.metric or "", change.params).parameters for change in changes]
        at = f" ({wording.listed([markup.text(size) for size in sizes if size])})" if any(sizes) else ""
        directly = "directly " if changes[0].basis == "direct" else ""
        return directly + " to ".join(dict.fromkeys(figures)) + at

    def reasons(self, markup: Markup) -> Iterator[str]:
        """Why there is no figure, and what is remarkable of one."""
        seen: dict[str, list[str]] = {}
        for row, found in self.rows.items():
            for run, change in found.items():
                if change.reason is None or change.verdict == "same":
                    continue
                metric, *about = self.what(row, markup)
                where = f"{markup.name(self.name(row))}, {metric}"
                where += f" ({', '.join(about)})" if about else ""
                told = f"{markup.text(run)}: {change.verdict}: {markup.text(change.reason)}"
                seen.setdefault(told, []).append(where)
        for told, places in seen.items():
            yield f"{'; '.join(places)}: {told}"

    def _side(self, change: Change, side: Any) -> str:
        assert change.metric is not None
        metric = self.compared.metrics[change.metric]
        if change.basis != "own baseline":
            return numbers.value(side, metric)
        if metric.compare == "difference":
            return " ".join(filter(None, numbers.difference(side.value, side.ci, metric.unit)))
        return numbers.ratio(side.value, side.ci)

    def _any(self, row: Row) -> Change:
        return next(iter(self.rows[row].values()))


def _row(change: Change) -> Row:
    options, params = (json.dumps(dict(one), sort_keys=True) for one in (change.options, change.params))
    return change.cell, options, change.threads, change.metric, params, change.basis


def without_same(compared: Compared) -> Compared:
    """The comparison less the rows that are the same in every run."""
    rows = ChangeView(compared).rows
    kept = {row for row, found in rows.items() if any(one.verdict != "same" for one in found.values())}
    return evolve(compared, changes=tuple(one for one in compared.changes if _row(one) in kept))


def correction(compared: Compared) -> str:
    """How the verdicts are protected from having looked at so many changes."""
    if not compared.tests:
        return "No change had to be tested."
    return (
        f"{wording.count(compared.tests, 'change was', 'changes were')} tested. At 5 % each, "
        f"{compared.expected_false_alarms:.1f} false alarms are expected where nothing changed. The verdicts "
        "are corrected for that (Holm): with 95 % probability none is a false alarm. Intervals are of "
        "95 % each. What is measured in launches must also change by more than the control shows."
    )


def counts(view: ChangeView, run: str) -> str:
    """How many causes there are of each verdict, in a line."""
    totals = Counter(cause.verdict for cause in view.causes(run))
    return ", ".join(f"{totals[verdict]} {verdict}" for verdict in ORDER if totals[verdict]) or "nothing"


def legend(compared: Compared, markup: Markup) -> str:
    """How verdicts and marks are to be read; of the marks, those that occur."""
    reasons = {change.why_same for change in compared.changes}
    marks = wording.marks([why for why in numbers.MARKS if why in reasons], markup)
    faster = [SPEEDUPS] if any(change.kind == "speedup" for change in compared.changes) else []
    return " ".join([LEGEND, *faster, *marks, HOW])


def _environments(view: ChangeView, text: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    """What tells the runs apart."""
    header = ["run", "Python", "torch", "qx", "machine", "fingerprint", "started", "id"]
    rows = [
        [
            text(about.label) + (" (base)" if about is view.compared.base else ""),
            text(about.python),
            text(about.versions.get("torch", "unknown")),
            text(about.versions.get("quant-explorer", "unknown")),
            text(about.machine),
            text(about.fingerprint or "not recorded"),
            text((about.started or "unknown").replace("T", " ")[:16]),
            text(about.run),
        ]
        for about in view.compared.runs
    ]
    return header, rows


def _notes(compared: Compared, text: Callable[[str], str]) -> list[str]:
    return [f"{text(about.label)}: {text(note)}" for about in compared.runs for note in about.notes]


def to_markdown(compared: Compared) -> str:
    """The comparison as a page of Markdown."""
    metrics = with_units(compared.metrics, markdown.escape)
    return "\n\n".join(_page(ChangeView(evolve(compared, metrics=metrics)))) + "\n"


def _page(view: ChangeView) -> Iterator[str]:
    compared, markup, cells = view.compared, markdown.MARKUP, markdown.CELL
    labels = [about.label for about in compared.runs[1:]]
    names = wording.listed([markup.name(name) for name in compared.workloads])
    yield f"# What changed: {names}"
    totals = [f"{markup.text(label)}: {counts(view, label)}." for label in labels]
    yield f"From {markup.text(compared.base.label)} to {' To '.join(totals)} {COUNTED}"
    if notes := _notes(compared, markup.text):
        yield markdown.bullets(notes)
    yield markdown.table(
        ["config", *map(markdown.escape, labels)],
        [
            [
                cells.name(view.name(cell)),
                *(markdown.BREAK.join(view.lines(cell, label, cells)) or NOTHING for label in labels),
            ]
            for cell in view.cells
        ],
    )
    yield correction(compared)
    yield "## Every figure"
    rows = []
    for row in view.rows:
        figures = [[view.base(row)], *(view.figure(row, label, cells) for label in labels)]
        if row[3] is not None:
            # Else it is words, which may break.
            figures = [list(map(markdown.unbroken, lines)) for lines in figures]
        drawn = [markdown.BREAK.join(lines) for lines in figures]
        what = markdown.BREAK.join(view.what(row, cells))
        rows.append([cells.name(view.name(row)), what, *drawn])
    yield markdown.table(
        ["config", "metric", *(markdown.escape(about.label) for about in compared.runs)], rows
    )
    yield legend(compared, markup)
    if reasons := list(view.reasons(markup)):
        yield "## Reasons"
        yield markdown.bullets(reasons)
    yield "## Runs"
    yield markdown.table(*_environments(view, markdown.escape))


def to_terminal(compared: Compared, style: str, width: int | None = None) -> str:
    """The comparison for a terminal, in one of tabulate's formats."""
    terminal.check_format(style)
    drawing = terminal.Drawing(style, width)
    metrics = with_units(compared.metrics, drawing.text)
    return "\n\n".join(_screens(ChangeView(evolve(compared, metrics=metrics)), drawing))


def _screens(view: ChangeView, drawing: terminal.Drawing) -> Iterator[str]:
    compared, markup, cells = view.compared, terminal.MARKUP, drawing.markup
    labels = [about.label for about in compared.runs[1:]]
    workloads = wording.listed([markup.name(name) for name in compared.workloads])
    yield f"What changed: {workloads}, from {markup.text(compared.base.label)}"
    if notes := _notes(compared, markup.text):
        yield "\n".join(drawing.sentence(note, "- ") for note in notes)
    for label in labels:
        yield "\n".join(_headlines(view, label, drawing))
    yield drawing.sentence(COUNTED)
    header: Sequence[str] = ["config", "metric", *_heads(drawing, compared)]
    rows = [
        [
            cells.name(view.name(row)),
            drawing.cell(*view.what(row, cells)),
            view.base(row),
            *(drawing.cell(*view.figure(row, label, cells)) for label in labels),
        ]
        for row in view.rows
    ]
    yield drawing.tables(header, rows, keys=2)
    if reasons := list(view.reasons(markup)):
        yield "\n".join(["Reasons:", *(drawing.sentence(reason, "- ") for reason in reasons)])
    yield drawing.sentence(correction(compared))
    yield drawing.sentence(legend(compared, markup))
    header, rows = _environments(view, cells.text)
    yield drawing.tables(header, rows)


def _headlines(view: ChangeView, label: str, drawing: terminal.Drawing) -> Iterator[str]:
    """What changed in a run, config by config; those in which nothing did in one line."""
    markup = terminal.MARKUP
    yield drawing.sentence(f"To {markup.text(label)}: {counts(view, label)}")
    same = []
    for cell in view.cells:
        name = markup.name(view.name(cell))
        if not view.headlines(cell, label, markup):
            same.append(name)
            continue
        yield f"  {name}"
        yield from (drawing.sentence(line, "    ") for line in view.lines(cell, label, markup))
    if same:
        yield drawing.sentence(f"no change is shown: {wording.listed(same)}", "  ")


def _heads(drawing: terminal.Drawing, compared: Compared) -> list[str]:
    labels = [drawing.text(about.label) for about in compared.runs]
    return [drawing.wrapped(label, 20) for label in [f"{labels[0]} (base)", *labels[1:]]]
