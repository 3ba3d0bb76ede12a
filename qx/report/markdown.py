"""``pareto.md``: the table, the front, the picks, the noise floor, the environment; GitHub's Markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from attrs import evolve

from qx.foreign import to_code, to_code_cell, to_markdown, to_markdown_cell, to_terminal
from qx.report import picks, summary, wording
from qx.report.wording import Markup
from qx.results.columns import Column, View, with_units
from qx.results.numbers import NOTHING
from qx.results.records import Results

BREAK = "<br>"
#: Letters of a cause that a row of the table has room for; the whole of it stands with the front.
ROOM = 100
#: Keeps a figure in one line, however narrow the page.
NO_BREAK = "\N{NO-BREAK SPACE}"


def _strong(text: str) -> str:
    return f"**{text}**"


#: Foreign text in a cell of a table: as it is, and as code.
escape, code = to_markdown_cell, to_code_cell
#: Outside of tables, and in the cells of tables.
MARKUP = Markup(name=to_code, strong=_strong, text=to_markdown)
CELL = Markup(name=code, strong=_strong, text=escape)


def render(results: Results) -> str:
    """The content of ``pareto.md``."""
    metrics = with_units(results.metrics, escape)
    return "\n\n".join(_blocks(View(evolve(results, metrics=metrics)))) + "\n"


def _blocks(view: View) -> Iterator[str]:
    yield f"# {wording.title(view, MARKUP)}"
    yield wording.provenance(view, MARKUP)
    yield from wording.failed_baselines(view, MARKUP)
    parts = view.parts
    if len(parts) > 1:
        yield "## Summary"
        yield summary.EXPLAINED
        yield _summary(view)
    for one in parts:
        if len(parts) > 1:
            yield f"## {wording.title(one, MARKUP)}"
        yield from _workload(one, "##" if len(parts) == 1 else "###")
    yield "## Environment"
    yield bullets(f"{about}: {facts}" for about, facts in wording.environment(view, MARKUP))


def _workload(view: View, level: str) -> Iterator[str]:
    """What there is to say of one workload, under headings of a level."""
    if caveat := wording.caveat(view, MARKUP):
        yield caveat
    if alarm := wording.alarm(view, MARKUP):
        yield alarm
    if other := wording.another_network(view, MARKUP):
        yield other
    yield _figures(view)
    yield wording.legend(view, MARKUP)
    if inapplicable := list(wording.inapplicable(view, MARKUP)):
        yield bullets(inapplicable)
    if failures := list(wording.failures(view, MARKUP)):
        yield "Metrics that could not be measured:"
        yield bullets(failures)
    if notes := list(wording.notes(view, MARKUP)):
        yield "Notes:"
        yield bullets(notes)
    if any(map(view.has_runtime_baseline, view.rows)):
        yield f"{level} Against the runtime's own baseline"
        yield _against_runtime(view)
    if view.results.pairs:
        yield f"{level} One recipe in two runtimes"
        yield wording.PAIRS
        yield _pairs(view)
    yield f"{level} Front"
    yield wording.front(view, MARKUP)
    yield _front(view)
    if told := list(picks.sentences(view, MARKUP)):
        yield f"{level} Picks"
        yield bullets(told)
    yield f"{level} Noise floor"
    yield from _noise_floor(view)
    yield wording.measuring(view, MARKUP)
    if told := [*wording.in_rounds(view, MARKUP), *wording.deaths(view, MARKUP)]:
        yield bullets(told)


def _summary(view: View) -> str:
    titles = [_title(column) for column in summary.columns(view.results)]
    rows = [
        [code(one.row), *(BREAK.join(map(unbroken, lines)) for lines in cells)]
        for one, cells in summary.rows(view.results)
    ]
    return table(["config", "on the front", "ended well", *titles], rows)


def _figures(view: View) -> str:
    header = ["config", *(_title(column) for column in view.columns), "build", "on the front"]
    rows = []
    for cell in view.rows:
        if view.ended(cell).outcome == "ok":
            figures = [_figure(view, cell, column) for column in view.columns]
        else:
            short = textwrap.shorten(to_terminal(view.ended(cell).cause or ""), ROOM, placeholder=" ...")
            told = wording.ending(view, cell, CELL, cause=short)
            figures = [told, *[NOTHING] * (len(view.columns) - 1)]
        build = BREAK.join(view.build(cell)).replace(" ", NO_BREAK)
        rows.append([_config(view, cell), *figures[: len(view.columns)], build, view.on_front(cell)])
    return table(header, rows)


def _title(column: Column) -> str:
    lines = [code(column.metric), escape(column.parameters).replace(" ", NO_BREAK)]
    return BREAK.join(filter(None, lines))


def _config(view: View, cell: str) -> str:
    return BREAK.join([code(view.name(cell)), *view.remarks(cell)])


def _figure(view: View, cell: str, column: Column) -> str:
    figure = view.figure(cell, column)
    compared = " ".join(filter(None, (figure.delta, figure.interval)))
    return BREAK.join(unbroken(line) for line in (figure.value, compared, figure.runtime) if line)


def unbroken(figure: str) -> str:
    """A figure, its unit escaped already, that stays in one line."""
    # Its mark may be one that begins a tag.
    return re.sub(r"(?<!\\)<", "&lt;", figure).replace(" ", NO_BREAK)


def _against_runtime(view: View) -> str:
    rows = [
        [code(view.name(cell)), code(view.runtime_baseline_name(cell))]
        + [unbroken(view.against_runtime(cell, column)) for column in view.columns]
        for cell in view.rows
        if view.has_runtime_baseline(cell)
    ]
    return table(["config", "against", *(_title(column) for column in view.columns)], rows)


def _pairs(view: View) -> str:
    rows = []
    for pair in view.results.pairs:
        cell, counterpart, *figures = view.pair(pair)
        rows.append([code(cell), code(counterpart), *map(unbroken, figures)])
    return table([*wording.PAIR_COLUMNS, *(_title(column) for column in view.pair_columns)], rows)


def _front(view: View) -> str:
    rows = [
        [code(view.name(cell)), view.on_front(cell), view.resampled(cell), wording.why(view, cell, CELL)]
        for cell in view.rows
    ]
    drawn = table(["config", *wording.FRONT_COLUMNS, "why"], rows)
    return f"{drawn}\n\n{wording.FRONT_EXPLAINED}"


def _noise_floor(view: View) -> Iterator[str]:
    floors = list(wording.noise_floor(view))
    if not floors:
        yield wording.NO_CONTROL
        return
    yield wording.CONTROL
    rows = [
        [escape(title), MARKUP.strong(told) if alarm else told, interval or NOTHING]
        for title, told, interval, alarm in floors
    ]
    yield table(["metric", "control against baseline", "95 % interval"], rows)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    every = [list(header), *map(list, rows)]
    widths = [max(3, *map(len, column)) for column in zip(*every, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in every]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def bullets(items: Iterable[str]) -> str:
    """A list of lines that are Markdown already."""
    return "\n".join(f"- {item}" for item in items)
