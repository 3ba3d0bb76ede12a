"""Show what changed between runs, as Markdown and on a terminal."""

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
from qx.comparison.records import Change, RunComparison, Verdict
from qx.contract.records import Metric
from qx.report import markdown, terminal, wording
from qx.report.wording import Markup
from qx.results import numbers
from qx.results.columns import with_units
from qx.results.numbers import NOTHING
from qx.results.records import Comparison

#: Key of a row: cell, options as JSON, threads, metric, point as text, basis.
Row: TypeAlias = tuple[str, str, int, "str | None", str, "str | None"]

#: Names of the bases that a row states. It states no basis where there is only one.
BASES = {
    "own baseline": "against own baseline",
    "direct": "directly",
    "outputs": "same answers",
}

LEGEND = (
    "A change is from the base to the run of the column. same: no change that matters is shown. same?: none "
    "is shown, but one is not excluded, since the interval reaches beyond the metric's margin."
)
SPEEDUPS = "A speedup is base / other run, so more is faster."
COUNTING = (
    "Each cause counts once: a metric at all batch sizes, however it is compared, and what derives from it. "
    "mixed: better in one figure and worse in another. same?: no change is shown, but the intervals leave "
    "room for one."
)
METHODS = (
    "Values of items are compared on the same items in pairs, sizes exactly. What is measured in launches is "
    "compared by each run's own ratio to its own baseline (difference of independent log ratios, Welch's t; "
    "for calls, ratios of those that nothing disturbed). Where both runs come from one machine it is "
    "compared directly too: what the machine did in between is then part of the change."
)


@frozen(slots=False, eq=False)
class ChangeView:
    """A comparison of runs, arranged for tables."""

    comparison: RunComparison

    @cached_property
    def rows(self) -> dict[Row, dict[str, Change]]:
        """The rows in order, each with its change in every run that has one."""
        rows: dict[Row, dict[str, Change]] = {}
        for change in self.comparison.changes:
            rows.setdefault(_row(change), {})[change.run] = change
        cells = list(dict.fromkeys(row[:3] for row in rows))
        return {row: rows[row] for row in sorted(rows, key=lambda row: cells.index(row[:3]))}

    @cached_property
    def cells(self) -> list[Row]:
        """One row for each cell."""
        return list({row[:3]: row for row in self.rows}.values())

    def name(self, row: Row) -> str:
        """Return the config's name, with the cell's id or options where several cells have this config."""
        change = self._first_change(row)
        same_config = [cell for cell in self.cells if self._first_change(cell).config == change.config]
        if len(same_config) == 1:
            return change.config
        options = ", ".join(f"{name}={value}" for name, value in change.options.items())
        ids = {cell[0] for cell in same_config}
        return f"{change.cell} ({options})" if len(ids) < len(same_config) else change.cell

    def subject(self, row: Row, markup: Markup) -> list[str]:
        """Return the metric, its parameters and the basis of the comparison."""
        change = self._first_change(row)
        if change.figure is None or change.metric is None:
            return ["the whole cell"]
        details = [markup.text(change.figure.parameters), BASES.get(change.basis or "", "")]
        return [markup.name(change.metric), *filter(None, details)]

    def base(self, row: Row) -> str:
        """Return the figure of the base, or a dash."""
        sides = (self._side(change, change.base) for change in self.rows[row].values() if change.base)
        return next(sides, NOTHING)

    def figure(self, row: Row, run: str, markup: Markup) -> list[str]:
        """Return the lines of another run: its figure, the change, the verdict."""
        change = self.rows[row].get(run)
        if change is None:
            return [NOTHING]
        if change.metric is None:
            reason = textwrap.shorten(
                foreign.to_terminal(change.reason or ""), markdown.MAX_CAUSE, placeholder=" ..."
            )
            return [self.verdict(change, markup), markup.text(reason)]
        own = self._side(change, change.ours) if change.ours else ""
        return [line for line in (own, self.delta(change), self.verdict(change, markup)) if line]

    def delta(self, change: Change) -> str:
        """Return the change with its interval, and the difference where both sides are rounded alike."""
        if change.value is None or change.kind is None or change.metric is None:
            return ""
        if change.kind == "agreeing":
            exact = change.value in (0.0, 1.0)
            return f"{100 * change.value:.{0 if exact else 2}f} %"
        metric = self.comparison.metrics[change.metric]
        comparison = Comparison(kind=change.kind, value=change.value, ci=change.ci, p=change.p, clear=True)
        figure = " ".join(filter(None, numbers.comparison(comparison, metric, change.why_same)))
        return figure + self._difference_of_sides(change, metric)

    def _difference_of_sides(self, change: Change, metric: Metric) -> str:
        """Return the difference of two exact values that look the same once rounded, else nothing."""
        base, ours = change.base, change.ours
        if change.basis != "exact" or change.kind == "difference" or base is None or ours is None:
            return ""
        if base.value == ours.value or numbers.value(base, metric) != numbers.value(ours, metric):
            return ""
        return f" ({ours.value - base.value:+,.12g} {metric.unit})"

    def verdict(self, change: Change, markup: Markup) -> str:
        """Return the verdict in words, stressed unless it is ``same`` or ``changed``."""
        if change.verdict == "same":
            return "same?" if change.within_margin is False else "same"
        return "changed" if change.verdict == "changed" else markup.strong(change.verdict)

    def causes(self, run: str, cell: Row | None = None) -> list[Cause]:
        """Return the causes of what changed in a run, in one cell or in all."""
        by_cell: dict[tuple[str, str, int], list[Change]] = {}
        for row, by_run in self.rows.items():
            if run in by_run and (cell is None or row[:3] == cell[:3]):
                by_cell.setdefault(row[:3], []).append(by_run[run])
        return [cause for changes in by_cell.values() for cause in causes(changes, self.comparison.metrics)]

    def headlines(self, cell: Row, run: str, markup: Markup) -> list[str]:
        """Return a line for each cause of a change that is shown in a cell."""
        return [
            self._headline(cause, markup)
            for cause in self.causes(run, cell)
            if cause.verdict not in UNCHANGED
        ]

    def lines(self, cell: Row, run: str, markup: Markup) -> list[str]:
        """Return the headlines, and a count of the causes without a change, such as ``5 same, 2 same?``."""
        counts = Counter(cause.verdict for cause in self.causes(run, cell))
        unchanged = [f"{counts[verdict]} {verdict}" for verdict in reversed(UNCHANGED) if counts[verdict]]
        return [*self.headlines(cell, run, markup), *([", ".join(unchanged)] if unchanged else [])]

    def _headline(self, cause: Cause, markup: Markup) -> str:
        """Return a line such as ``latency **worse** 0.95x to 0.97x (batch 1 and batch 32)``."""
        if cause.changes[0].metric is None:
            (change,) = cause.changes
            reason = textwrap.shorten(
                foreign.to_terminal(change.reason or ""), markdown.MAX_CAUSE, placeholder=" ..."
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
        """Return how much a metric changed, with batch sizes: ``1.2x to 1.4x (batch 1 and batch 32)``."""
        figures = [delta for change in changes if (delta := self.delta(change))]
        if not figures:
            return ""
        if len(figures) > 1:
            ascending = sorted(changes, key=lambda change: change.value or 0.0)
            ends = [evolve(change, ci=None) for change in (ascending[0], ascending[-1])]
            figures = [self.delta(change).removesuffix(" ±?") for change in ends]
        sizes = [change.figure.parameters if change.figure else "" for change in changes]
        sizes_text = (
            f" ({wording.listed([markup.text(size) for size in sizes if size])})" if any(sizes) else ""
        )
        directly = "directly " if changes[0].basis == "direct" else ""
        return directly + " to ".join(dict.fromkeys(figures)) + sizes_text

    def reasons(self, markup: Markup) -> Iterator[str]:
        """Say why a figure is missing, or what is remarkable about it, with the rows for which this holds."""
        places_by_reason: dict[str, list[str]] = {}
        for row, by_run in self.rows.items():
            for run, change in by_run.items():
                if change.reason is None or change.verdict == "same":
                    continue
                metric, *details = self.subject(row, markup)
                where = f"{markup.name(self.name(row))}, {metric}"
                where += f" ({', '.join(details)})" if details else ""
                reason = f"{markup.text(run)}: {change.verdict}: {markup.text(change.reason)}"
                places_by_reason.setdefault(reason, []).append(where)
        for reason, places in places_by_reason.items():
            yield f"{'; '.join(places)}: {reason}"

    def _side(self, change: Change, side: Any) -> str:
        assert change.metric is not None
        metric = self.comparison.metrics[change.metric]
        if change.basis != "own baseline":
            return numbers.value(side, metric)
        if metric.compare == "difference":
            return " ".join(filter(None, numbers.difference(side.value, side.ci, metric.unit)))
        return numbers.ratio(side.value, side.ci)

    def _first_change(self, row: Row) -> Change:
        return next(iter(self.rows[row].values()))


def _row(change: Change) -> Row:
    options = json.dumps(dict(change.options), sort_keys=True)
    return change.cell, options, change.threads, change.metric, str(change.point or ""), change.basis


def without_same(comparison: RunComparison) -> RunComparison:
    """Return the comparison without the rows that are the same in every run."""
    rows = ChangeView(comparison).rows
    changed = {
        row for row, by_run in rows.items() if any(change.verdict != "same" for change in by_run.values())
    }
    kept = tuple(change for change in comparison.changes if _row(change) in changed)
    return evolve(comparison, changes=kept)


def correction(comparison: RunComparison) -> str:
    """Explain how the verdicts are corrected for the number of tests."""
    if not comparison.tests:
        return "No change had to be tested."
    return (
        f"{wording.count(comparison.tests, 'change was', 'changes were')} tested. At 5 % each, "
        f"{comparison.expected_false_alarms:.1f} false alarms are expected where nothing changed. The "
        "verdicts are corrected for that (Holm): with 95 % probability none is a false alarm. Intervals are "
        "of 95 % each. What is measured in launches must also change by more than the control shows."
    )


def counts(view: ChangeView, run: str) -> str:
    """Count the causes by verdict, in a line."""
    totals = Counter(cause.verdict for cause in view.causes(run))
    return ", ".join(f"{totals[verdict]} {verdict}" for verdict in ORDER if totals[verdict]) or "nothing"


def legend(comparison: RunComparison, markup: Markup) -> str:
    """Explain how to read the verdicts, and the marks that occur."""
    reasons = {change.why_same for change in comparison.changes}
    marks = wording.explain_marks([why for why in numbers.MARKS if why in reasons], markup)
    faster = [SPEEDUPS] if any(change.kind == "speedup" for change in comparison.changes) else []
    return " ".join([LEGEND, *faster, *marks, METHODS])


def environments(view: ChangeView, text: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the table of runs."""
    header = ["run", "Python", "torch", "qx", "machine", "fingerprint", "commit", "started", "id"]
    rows = [
        [
            text(run.label) + (" (base)" if run is view.comparison.base else ""),
            text(run.python),
            text(run.versions.get("torch", "unknown")),
            text(run.versions.get("quant-explorer", "unknown")),
            text(run.machine),
            text(run.fingerprint or "not recorded"),
            text(run.commit or "not recorded"),
            text((run.started or "unknown").replace("T", " ")[:16]),
            text(run.run),
        ]
        for run in view.comparison.runs
    ]
    return header, rows


def notes_on_runs(comparison: RunComparison, text: Callable[[str], str]) -> list[str]:
    """Return what a reader should know of the runs before trusting their figures."""
    return [f"{text(run.label)}: {text(note)}" for run in comparison.runs for note in run.notes]


def to_markdown(comparison: RunComparison) -> str:
    """Return the comparison as a page of Markdown."""
    metrics = with_units(comparison.metrics, markdown.escape)
    return "\n\n".join(_page(ChangeView(evolve(comparison, metrics=metrics)))) + "\n"


def _page(view: ChangeView) -> Iterator[str]:
    comparison, markup, cell_markup = view.comparison, markdown.MARKUP, markdown.CELL
    labels = [run.label for run in comparison.runs[1:]]
    names = wording.listed([markup.name(name) for name in comparison.workloads])
    yield f"# What changed: {names}"
    totals = [f"{markup.text(label)}: {counts(view, label)}." for label in labels]
    yield f"From {markup.text(comparison.base.label)} to {' To '.join(totals)} {COUNTING}"
    if notes := notes_on_runs(comparison, markup.text):
        yield markdown.bullets(notes)
    yield markdown.table(
        ["config", *map(markdown.escape, labels)],
        [
            [
                cell_markup.name(view.name(cell)),
                *(markdown.BREAK.join(view.lines(cell, label, cell_markup)) or NOTHING for label in labels),
            ]
            for cell in view.cells
        ],
    )
    yield correction(comparison)
    yield "## Every figure"
    rows = []
    for row in view.rows:
        figures = [[view.base(row)], *(view.figure(row, label, cell_markup) for label in labels)]
        if row[3] is not None:
            # Rows about whole cells hold sentences, in which lines may be broken.
            figures = [list(map(markdown.without_breaks, lines)) for lines in figures]
        drawn = [markdown.BREAK.join(lines) for lines in figures]
        subject = markdown.BREAK.join(view.subject(row, cell_markup))
        rows.append([cell_markup.name(view.name(row)), subject, *drawn])
    yield markdown.table(["config", "metric", *(markdown.escape(run.label) for run in comparison.runs)], rows)
    yield legend(comparison, markup)
    if reasons := list(view.reasons(markup)):
        yield "## Reasons"
        yield markdown.bullets(reasons)
    yield "## Runs"
    yield markdown.table(*environments(view, markdown.escape))


def to_terminal(comparison: RunComparison, style: str, width: int | None = None) -> str:
    """Return the comparison as text for a terminal, in one of tabulate's formats."""
    terminal.check_format(style)
    drawing = terminal.Drawing(style, width)
    metrics = with_units(comparison.metrics, drawing.text)
    return "\n\n".join(_screens(ChangeView(evolve(comparison, metrics=metrics)), drawing))


def _screens(view: ChangeView, drawing: terminal.Drawing) -> Iterator[str]:
    comparison, markup, cell_markup = view.comparison, terminal.MARKUP, drawing.markup
    labels = [run.label for run in comparison.runs[1:]]
    workloads = wording.listed([markup.name(name) for name in comparison.workloads])
    yield f"What changed: {workloads}, from {markup.text(comparison.base.label)}"
    if notes := notes_on_runs(comparison, markup.text):
        yield "\n".join(drawing.sentence(note, "- ") for note in notes)
    for label in labels:
        yield "\n".join(_headlines(view, label, drawing))
    yield drawing.sentence(COUNTING)
    header: Sequence[str] = ["config", "metric", *_heads(drawing, comparison)]
    rows = [
        [
            cell_markup.name(view.name(row)),
            drawing.cell(*view.subject(row, cell_markup)),
            view.base(row),
            *(drawing.cell(*view.figure(row, label, cell_markup)) for label in labels),
        ]
        for row in view.rows
    ]
    yield drawing.tables(header, rows, keys=2)
    if reasons := list(view.reasons(markup)):
        yield "\n".join(["Reasons:", *(drawing.sentence(reason, "- ") for reason in reasons)])
    yield drawing.sentence(correction(comparison))
    yield drawing.sentence(legend(comparison, markup))
    header, rows = environments(view, cell_markup.text)
    yield drawing.tables(header, rows)


def _headlines(view: ChangeView, label: str, drawing: terminal.Drawing) -> Iterator[str]:
    """Yield what changed in a run, config by config, then one line with the configs without a change."""
    markup = terminal.MARKUP
    yield drawing.sentence(f"To {markup.text(label)}: {counts(view, label)}")
    unchanged = []
    for cell in view.cells:
        name = markup.name(view.name(cell))
        if not view.headlines(cell, label, markup):
            unchanged.append(name)
            continue
        yield f"  {name}"
        yield from (drawing.sentence(line, "    ") for line in view.lines(cell, label, markup))
    if unchanged:
        yield drawing.sentence(f"no change is shown: {wording.listed(unchanged)}", "  ")


def _heads(drawing: terminal.Drawing, comparison: RunComparison) -> list[str]:
    labels = [drawing.text(run.label) for run in comparison.runs]
    return [drawing.wrapped(label, 20) for label in [f"{labels[0]} (base)", *labels[1:]]]
