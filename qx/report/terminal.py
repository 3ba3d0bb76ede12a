"""Print what ``pareto.md`` says on a terminal, in any of tabulate's formats."""

from __future__ import annotations

import html
import shutil
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence

from attrs import evolve

from qx.contract.figures import Figure
from qx.errors import UsageError
from qx.foreign import to_markdown_cell, to_terminal
from qx.report import builds, limits, picks, summary, threads, wording
from qx.report.wording import Markup
from qx.results.columns import View, with_units
from qx.results.numbers import NOTHING
from qx.results.records import Results

#: What breaks a line within a cell, for formats in which a newline does not.
BREAKS = {"github": "<br>", "pipe": "<br>", "unsafehtml": "<br>"}
#: Characters in a line: at least, at most, and where there is no terminal to ask.
MIN_WIDTH, MAX_WIDTH, DEFAULT_WIDTH = 80, 120, 110
#: Least width, in characters, of the reasons in the table of the front.
MIN_REASON_WIDTH = 24

MARKUP = Markup(name=to_terminal, strong=lambda text: text, text=to_terminal)


def _to_html(text: str) -> str:
    return html.escape(to_terminal(text))


#: Writers of foreign text in tables, by format. In all other formats tabulate escapes what it must.
FOREIGN: Mapping[str, Callable[[str], str]] = {
    "github": to_markdown_cell,
    "pipe": to_markdown_cell,
    "unsafehtml": _to_html,
}


def check_format(name: str) -> None:
    """Raise ``UsageError`` unless tabulate knows the format."""
    from tabulate import tabulate_formats

    if name not in tabulate_formats:
        raise UsageError(f"unknown format {name!r} (choose from {', '.join(tabulate_formats)})")


def render(results: Results, style: str, width: int | None = None) -> str:
    """Return the text to print. ``width`` is that of a line, by default the terminal's."""
    check_format(style)
    drawing = Drawing(style, width)
    metrics = with_units(results.metrics, drawing.text)
    return "\n\n".join(_blocks(View(evolve(results, metrics=metrics)), drawing))


class Drawing:
    """Draw tables and sentences in one format at one width."""

    def __init__(self, style: str, width: int | None = None) -> None:
        """Set the format and the width of a line, by default the terminal's, within bounds."""
        from tabulate import multiline_formats

        self._style = style
        self.width = min(
            max(width or shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns, MIN_WIDTH), MAX_WIDTH
        )
        self.cuts = style in multiline_formats and style not in BREAKS
        self._joint = "\n" if self.cuts else BREAKS.get(style, ", ")
        #: How foreign text is written in a cell.
        self.text = FOREIGN.get(style, to_terminal)
        self.markup = Markup(name=self.text, strong=lambda text: text, text=self.text)

    def cell(self, *lines: str) -> str:
        """Join lines within a cell. Foreign text in them is written by ``text`` already."""
        return self._joint.join(line for line in lines if line)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        """Draw one table. Foreign text in its cells is written by ``text`` already."""
        from tabulate import tabulate

        # With `disable_numparse` off, tabulate reads figures as numbers and drops digits of them.
        return tabulate(rows, header, tablefmt=self._style, disable_numparse=True)

    def tables(self, header: Sequence[str], rows: Sequence[Sequence[str]], keys: int = 1) -> str:
        """Draw as many tables as the width asks for, each with the first ``keys`` columns."""
        if not self.cuts:
            return self.table(header, rows)
        parts: list[str] = []
        start = keys
        while start < len(header) or not parts:
            end = start + 1
            while end < len(header) and self._fits(header, rows, keys, start, end + 1):
                end += 1
            parts.append(self.table(*_part(header, rows, keys, start, end)))
            start = end
        return "\n\n".join(parts)

    def _fits(
        self, header: Sequence[str], rows: Sequence[Sequence[str]], keys: int, start: int, end: int
    ) -> bool:
        drawn = self.table(*_part(header, rows, keys, start, end))
        return max(map(len, drawn.splitlines())) <= self.width

    def sentence(self, text: str, mark: str = "") -> str:
        """Wrap a sentence into lines of the drawing's width, the first after ``mark``."""
        return textwrap.fill(
            text,
            self.width,
            initial_indent=mark,
            subsequent_indent=" " * len(mark),
            break_long_words=False,
            break_on_hyphens=False,
        )

    def wrapped(self, text: str, width: int) -> str:
        """Wrap a text within a cell, where the format allows lines in it."""
        if not self.cuts:
            return text
        return "\n".join(textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False))


def _part(
    header: Sequence[str], rows: Sequence[Sequence[str]], keys: int, start: int, end: int
) -> tuple[list[str], list[list[str]]]:
    return [*header[:keys], *header[start:end]], [[*row[:keys], *row[start:end]] for row in rows]


def _blocks(view: View, drawing: Drawing) -> Iterator[str]:
    sentence = drawing.sentence
    yield sentence(wording.title(view, MARKUP)) + "\n" + sentence(wording.provenance(view, MARKUP))
    if unfinished := wording.unfinished(view, MARKUP):
        yield sentence(f"WARNING: {unfinished}")
    for failed in wording.failed_baselines(view, MARKUP):
        yield sentence(f"WARNING: {failed}")
    parts = view.parts
    if view.results.summary:
        yield _summary(view, drawing)
        yield sentence(summary.EXPLAINED)
    if view.results.thread_speedups:
        yield _threads(view, drawing)
        yield sentence(threads.EXPLAINED)
    for part in parts:
        if len(parts) > 1:
            yield sentence(f"== {wording.title(part, MARKUP)}")
        yield from _workload(part, drawing)
    yield "\n".join(sentence(f"{topic}: {facts}") for topic, facts in wording.environment(view, MARKUP))


def _workload(view: View, drawing: Drawing) -> Iterator[str]:
    """Yield the blocks about one workload."""
    sentence = drawing.sentence
    if caveat := wording.caveat(view, MARKUP):
        yield sentence(caveat)
    if alarm := wording.alarm(view, MARKUP):
        yield sentence(f"WARNING: {alarm}")
    if warning := wording.another_network(view, MARKUP):
        yield sentence(f"WARNING: {warning}")
    yield _figures(view, drawing)
    yield sentence(wording.legend(view, MARKUP))
    yield from map(sentence, builds.single(view, MARKUP))
    if inapplicable := list(wording.inapplicable(view, MARKUP)):
        yield "\n".join(sentence(reason) for reason in inapplicable)
    if failures := list(wording.failures(view, MARKUP)):
        yield "\n".join(["Metrics that could not be measured:", *(sentence(line, "- ") for line in failures)])
    if notes := list(wording.notes(view, MARKUP)):
        yield "\n".join(["Notes:", *(sentence(note, "- ") for note in notes)])
    if layers := list(wording.layers(view, MARKUP)):
        yield "\n".join(["By layer:", *(sentence(line, "- ") for line in layers)])
    if any(map(view.has_runtime_baseline, view.rows)):
        yield "Against the runtime's own baseline:\n\n" + _against_runtime(view, drawing)
    if view.results.pairs:
        yield sentence(f"One recipe in two runtimes. {wording.PAIRS}") + "\n\n" + _pairs(view, drawing)
    if builds.has_spread(view):
        yield from _builds(view, drawing)
    yield _front(view, drawing)
    yield sentence(wording.front(view, MARKUP)) + "\n" + sentence(wording.FRONT_EXPLAINED)
    yield from _picks(view, drawing)
    yield "\n".join(_noise_floor(view, drawing))
    yield "\n".join(_measuring(view, drawing))


def _picks(view: View, drawing: Drawing) -> Iterator[str]:
    for title, source in (("Picks", picks), ("Limits", limits)):
        if lines := list(source.sentences(view, MARKUP)):
            yield "\n".join([f"{title}:", *(drawing.sentence(line, "- ") for line in lines)])


def _summary(view: View, drawing: Drawing) -> str:
    titles = [_title(column, drawing) for column in summary.columns(view.results)]
    rows = [
        [drawing.text(result.row), *(drawing.cell(*lines) for lines in cells)]
        for result, cells in summary.rows(view.results)
    ]
    return drawing.tables(["config", "on the front", "ended well", *titles], rows)


def _threads(view: View, drawing: Drawing) -> str:
    titles = [_title(column, drawing) for column in threads.columns(view.results)]
    rows = threads.rows(view.results, drawing.text)
    return f"{threads.HEADING}:\n\n" + drawing.tables([*threads.KEYS, *titles], rows, len(threads.KEYS))


def _figures(view: View, drawing: Drawing) -> str:
    header = ["config", *_titles(view, drawing)]
    rows = []
    for cell in view.rows:
        figures = [view.figure(cell, column) for column in view.columns]
        drawn = [
            drawing.cell(figure.value, figure.delta, figure.interval, figure.runtime) for figure in figures
        ]
        result = view.ended(cell)
        if result.outcome != "ok":
            # The cause stands in the next table, which has room for it.
            place = f"in {drawing.text(result.stage)}" if result.stage else ""
            ending = drawing.cell(result.outcome.replace("_", " "), place)
            drawn = [ending, *[NOTHING] * len(drawn)][: len(drawn)]
        rows.append([drawing.cell(drawing.text(view.name(cell)), *view.remarks(cell)), *drawn])
    return drawing.tables(header, rows)


def _titles(view: View, drawing: Drawing) -> list[str]:
    return [_title(column, drawing) for column in view.columns]


def _title(figure: Figure, drawing: Drawing) -> str:
    return drawing.cell(drawing.text(figure.metric), drawing.text(figure.parameters))


def _against_runtime(view: View, drawing: Drawing) -> str:
    header = ["config", "against", *_titles(view, drawing)]
    rows = [
        [drawing.text(view.name(cell)), drawing.text(view.runtime_baseline_name(cell))]
        + [view.against_runtime(cell, column) for column in view.columns]
        for cell in view.rows
        if view.has_runtime_baseline(cell)
    ]
    return drawing.tables(header, rows, keys=2)


def _pairs(view: View, drawing: Drawing) -> str:
    header = [*wording.PAIR_COLUMNS, *(_title(column, drawing) for column in view.pair_columns)]
    rows = []
    for pair in view.results.pairs:
        cell, counterpart, *figures = view.pair(pair)
        rows.append([drawing.text(cell), drawing.text(counterpart), *figures])
    return drawing.tables(header, rows, keys=2)


def _builds(view: View, drawing: Drawing) -> Iterator[str]:
    yield drawing.sentence(f"Builds. {builds.explained(view)}")
    columns = builds.columns(view)
    rows = [
        [
            drawing.text(view.name(cell)),
            drawing.cell(*builds.count_builds(view, cell)),
            *(drawing.cell(*builds.figure(view, cell, column)) for column in columns),
        ]
        for cell in builds.rows(view)
    ]
    yield drawing.tables([*builds.COLUMNS, *(_title(column, drawing) for column in columns)], rows, keys=2)
    if remarks := list(builds.remarks(view, MARKUP)):
        yield "\n".join(drawing.sentence(remark, "- ") for remark in remarks)


def _front(view: View, drawing: Drawing) -> str:
    header = ["config", "build", wording.FRONT_COLUMNS[0], "why"]

    def rows(room: int | None) -> list[list[str]]:
        """Return the rows, with reasons of this width; without reasons where it is None."""
        reasons = {
            cell: wording.explain_place(view, cell, drawing.markup) if room else "" for cell in view.rows
        }
        return [
            [
                drawing.text(view.name(cell)),
                drawing.cell(*view.build(cell)),
                drawing.cell(view.on_front(cell), view.resampled(cell).replace(NOTHING, "")),
                drawing.wrapped(reason, room or MIN_REASON_WIDTH),
            ]
            for cell, reason in reasons.items()
        ]

    bare = drawing.table(header, rows(None))
    room = drawing.width - max(map(len, bare.splitlines())) + len("why")
    return drawing.tables(header, rows(max(MIN_REASON_WIDTH, room)))


def _noise_floor(view: View, drawing: Drawing) -> Iterator[str]:
    floors = list(wording.noise_floor(view))
    if not floors:
        yield drawing.sentence(f"Noise floor. {wording.NO_CONTROL}")
        return
    yield drawing.sentence(f"Noise floor. {wording.CONTROL}")
    width = max(len(to_terminal(title)) for title, *_ in floors)
    for title, figure, interval, alarm in floors:
        yield f"  {to_terminal(title):<{width}}  {figure} {interval}".rstrip() + ("  alarm" if alarm else "")


def _measuring(view: View, drawing: Drawing) -> Iterator[str]:
    yield drawing.sentence(wording.measuring(view, MARKUP))
    remarks = (
        *wording.by_sitting(view, MARKUP),
        *wording.cluster(view, MARKUP),
        *wording.differing_in_rounds(view, MARKUP),
        *wording.deaths(view, MARKUP),
    )
    for remark in (*remarks, *wording.unkept_outputs(view), *wording.item_looks(view, MARKUP)):
        yield drawing.sentence(remark, "- ")
