"""What changed between runs, as Markdown and for a terminal."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeAlias

from attrs import evolve, frozen

from qx.comparison.records import Change, Compared, Verdict
from qx.report import markdown, numbers, terminal, wording
from qx.report.numbers import NOTHING
from qx.report.tables import Column
from qx.report.wording import Markup
from qx.results import Comparison

#: Cell with its options and threads, metric, parameters, basis: what makes a row.
Row: TypeAlias = tuple[str, str, int, "str | None", str, "str | None"]

VERDICTS: tuple[Verdict, ...] = ("worse", "better", "changed", "gone", "new", "not comparable", "same")
#: How a row says what it was compared by, where that is not plain.
BASES = {
    "own baseline": "against own baseline",
    "direct": "directly, same machine",
    "outputs": "same answers",
}

LEGEND = (
    "A change is told from the base to the run of the column. same: nothing is told apart from no change; "
    "same?: so it is, but the interval leaves room for a change that matters (the metric's margin). "
    "A change marked slightly is real and smaller than the margin."
)
HOW = (
    "Values of items are compared on the same items in pairs, sizes exactly. What is measured in launches is "
    "compared by each run's own ratio to its own baseline (difference of independent log ratios, Welch's t; "
    "of calls the ratios of those that nothing disturbed), and directly only where both runs come "
    "from one machine: what it did in between is then part of it."
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

    def what(self, row: Row, markup: Markup) -> tuple[str, str]:
        """The metric, and what it was compared by."""
        change = self._any(row)
        if change.metric is None:
            return "the whole cell", ""
        parameters = Column.of(change.metric, change.params).parameters
        about = [parameters, BASES.get(change.basis or "", "")]
        return markup.name(change.metric), ", ".join(filter(None, about))

    def base(self, row: Row) -> str:
        """What the base has."""
        return next((self._side(one, one.base) for one in self.rows[row].values() if one.base), NOTHING)

    def figure(self, row: Row, run: str, markup: Markup) -> list[str]:
        """What another run has: its figure, the change, the verdict."""
        change = self.rows[row].get(run)
        if change is None:
            return [NOTHING]
        if change.metric is None:
            reason = textwrap.shorten(change.reason or "", markdown.ROOM, placeholder=" ...")
            return [self.verdict(change, markup), markup.text(reason)]
        own = self._side(change, change.ours) if change.ours else ""
        return [line for line in (own, self.delta(change), self.verdict(change, markup)) if line]

    def delta(self, change: Change) -> str:
        """The change with its interval."""
        if change.value is None or change.kind is None or change.metric is None:
            return ""
        if change.kind == "agreeing":
            exact = change.value in (0.0, 1.0)
            return f"{100 * change.value:.{0 if exact else 2}f} %"
        compared = Comparison(
            kind=change.kind, value=change.value, ci=change.ci, p=change.p, clear=change.verdict != "same"
        )
        return " ".join(filter(None, numbers.comparison(compared, self.compared.metrics[change.metric])))

    def verdict(self, change: Change, markup: Markup) -> str:
        """The verdict in words, stressed where it is one to look at."""
        if change.verdict == "same":
            return "same?" if change.within_margin is False else "same"
        slightly = " slightly" if change.beyond_margin is False else ""
        if change.verdict == "changed":
            return f"changed{slightly}"
        return markup.strong(change.verdict) + slightly

    def summary(self, cell: Row, run: str, markup: Markup) -> str:
        """A cell in one run: what is not the same, and how much is."""
        changes = [
            one
            for row, found in self.rows.items()
            if row[:3] == cell[:3]
            for name, one in found.items()
            if name == run
        ]
        told = []
        for verdict, slight in ((one, slight) for one in VERDICTS[:-1] for slight in (False, True)):
            of = [one for one in changes if one.verdict == verdict and (one.beyond_margin is False) == slight]
            if of:
                names = dict.fromkeys(self._short(one, markup) for one in of)
                said = f"slightly {verdict}" if slight else markup.strong(verdict)
                told.append(f"{said} {wording.listed(list(names))}")
        same = sum(one.verdict == "same" for one in changes)
        if same:
            told.append(f"same {same} of {len(changes)}")
        return "; ".join(told) or NOTHING

    def reasons(self, markup: Markup) -> Iterator[str]:
        """Why there is no figure, and what is remarkable of one."""
        seen: dict[str, list[str]] = {}
        for row, found in self.rows.items():
            for run, change in found.items():
                if change.reason is None or change.verdict == "same":
                    continue
                metric, about = self.what(row, markup)
                where = f"{markup.name(self.name(row))}, {metric}{f' ({about})' if about else ''}"
                told = f"{markup.text(run)}: {change.verdict}: {markup.text(change.reason)}"
                seen.setdefault(told, []).append(where)
        for told, places in seen.items():
            yield f"{'; '.join(places)}: {told}"

    def _short(self, change: Change, markup: Markup) -> str:
        metric, basis = self.what(_row(change), markup)
        about = basis.replace("against own baseline", "").strip(", ")
        delta = self.delta(change) if change.verdict in ("worse", "better") else ""
        return f"{metric}{f' ({about})' if about else ''}{f' {delta}' if delta else ''}"

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
        f"{wording.count(compared.tests, 'change was', 'changes were')} tested. Each by itself, at 5 %, "
        f"{compared.expected_false_alarms:.1f} would be false alarms where nothing changed; the verdicts are "
        "corrected for that (Holm): with 95 % probability none of them is. Intervals are 95 % each. "
        "A change of launches must also be larger than what the control shows."
    )


def counts(compared: Compared) -> str:
    """How many changes there are of each verdict, in a line."""
    found = Counter(change.verdict for change in compared.changes)
    return (
        ", ".join(f"{found[verdict]} {verdict}" for verdict in VERDICTS if found[verdict])
        or "nothing to compare"
    )


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
    return "\n\n".join(_page(ChangeView(compared))) + "\n"


def _page(view: ChangeView) -> Iterator[str]:
    compared, markup = view.compared, markdown.MARKUP
    labels = [about.label for about in compared.runs[1:]]
    names = wording.listed([markup.name(name) for name in compared.workloads])
    yield f"# What changed: {names}"
    yield f"Base: {markdown.escape(compared.base.label)}. {counts(compared).capitalize()}."
    if notes := _notes(compared, markdown.escape):
        yield markdown.bullets(notes)
    yield markdown.table(
        ["config", *map(markdown.escape, labels)],
        [
            [
                markup.name(view.name(cell)),
                *(view.summary(cell, label, markup).replace("|", "\\|") for label in labels),
            ]
            for cell in view.cells
        ],
    )
    yield correction(compared)
    yield "## Every figure"
    rows = []
    for row in view.rows:
        figures = [[view.base(row)], *(view.figure(row, label, markup) for label in labels)]
        drawn = [markdown.BREAK.join(markdown.unbroken(line) for line in lines) for lines in figures]
        metric, about = view.what(row, markup)
        rows.append([markup.name(view.name(row)), markdown.BREAK.join(filter(None, (metric, about))), *drawn])
    yield markdown.table(
        ["config", "metric", *(markdown.escape(about.label) for about in compared.runs)], rows
    )
    yield f"{LEGEND} {HOW}"
    if reasons := list(view.reasons(markup)):
        yield "## Reasons"
        yield markdown.bullets(reasons)
    yield "## Runs"
    yield markdown.table(*_environments(view, markdown.escape))


def to_terminal(compared: Compared, style: str, width: int | None = None) -> str:
    """The comparison for a terminal, in one of tabulate's formats."""
    terminal.check_format(style)
    return "\n\n".join(_screens(ChangeView(compared), terminal.Drawing(style, width)))


def _screens(view: ChangeView, drawing: terminal.Drawing) -> Iterator[str]:
    compared, markup = view.compared, terminal.MARKUP
    labels = [about.label for about in compared.runs[1:]]
    yield f"What changed: {wording.listed(list(compared.workloads))}, from {compared.base.label}"
    for note in _notes(compared, wording.printable):
        yield drawing.sentence(note, "- ")
    header: Sequence[str] = ["config", "metric", *_heads(drawing, compared)]
    rows = [
        [
            view.name(row),
            drawing.cell(*view.what(row, markup)),
            view.base(row),
            *(drawing.cell(*view.figure(row, label, markup)) for label in labels),
        ]
        for row in view.rows
    ]
    yield drawing.tables(header, rows, keys=2)
    for reason in view.reasons(markup):
        yield drawing.sentence(reason, "- ")
    yield f"In all: {counts(compared)}."
    yield drawing.sentence(correction(compared))
    yield drawing.sentence(LEGEND)
    yield drawing.sentence(HOW)
    header, rows = _environments(view, wording.printable)
    yield drawing.tables(header, rows)


def _heads(drawing: terminal.Drawing, compared: Compared) -> list[str]:
    labels = [wording.printable(about.label) for about in compared.runs]
    return [drawing.wrapped(label, 20) for label in [f"{labels[0]} (base)", *labels[1:]]]
