"""Write ``pareto.md``, in GitHub's Markdown: table, front, picks, noise floor and environment."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from attrs import evolve

from qx.contract.figures import Figure
from qx.foreign import to_code, to_code_cell, to_markdown, to_markdown_cell, to_terminal
from qx.report import builds, limits, picks, summary, threads, wording
from qx.report.wording import Markup
from qx.results import results_file
from qx.results.columns import View, with_units
from qx.results.numbers import NOTHING
from qx.results.records import Results

BREAK = "<br>"
#: The picture beside the table.
PICTURE = f"![The front: two axes with their intervals]({results_file.PICTURE})"
#: Longest cause, in characters, that a row of the table shows. The table of the front shows all of it.
MAX_CAUSE = 100
#: Space at which no line is broken, so that a figure stays in one line on a narrow page.
NO_BREAK = "\N{NO-BREAK SPACE}"


def _strong(text: str) -> str:
    return f"**{text}**"


#: Writers of foreign text in a cell of a table: as plain text, and as code.
escape, code = to_markdown_cell, to_code_cell
#: How sentences outside of tables, and those in the cells of tables, are marked up.
MARKUP = Markup(name=to_code, strong=_strong, text=to_markdown)
CELL = Markup(name=code, strong=_strong, text=escape)


def render(results: Results) -> str:
    """Return the content of ``pareto.md``."""
    metrics = with_units(results.metrics, escape)
    return "\n\n".join(_blocks(View(evolve(results, metrics=metrics)))) + "\n"


def _blocks(view: View) -> Iterator[str]:
    yield f"# {wording.title(view, MARKUP)}"
    yield wording.provenance(view, MARKUP)
    if unfinished := wording.unfinished(view, MARKUP):
        yield unfinished
    yield from wording.failed_baselines(view, MARKUP)
    yield PICTURE
    parts = view.parts
    if view.results.summary:
        yield "## Summary"
        yield summary.EXPLAINED
        yield _summary(view)
    if view.results.thread_speedups:
        yield f"## {threads.HEADING}"
        yield threads.EXPLAINED
        yield _threads(view)
    for part in parts:
        if len(parts) > 1:
            yield f"## {wording.title(part, MARKUP)}"
        yield from _workload(part, "##" if len(parts) == 1 else "###")
    yield "## Environment"
    yield bullets(f"{topic}: {facts}" for topic, facts in wording.environment(view, MARKUP))


def _workload(view: View, level: str) -> Iterator[str]:
    """Yield the blocks about one workload. ``level`` is the mark of their headings, such as ``##``."""
    if caveat := wording.caveat(view, MARKUP):
        yield caveat
    if alarm := wording.alarm(view, MARKUP):
        yield alarm
    if warning := wording.another_network(view, MARKUP):
        yield warning
    yield _figures(view)
    yield wording.legend(view, MARKUP)
    yield from builds.single(view, MARKUP)
    if inapplicable := list(wording.inapplicable(view, MARKUP)):
        yield bullets(inapplicable)
    for title, lines in (
        ("Metrics that could not be measured:", wording.failures(view, MARKUP)),
        ("Notes:", wording.notes(view, MARKUP)),
        ("By layer:", wording.layers(view, MARKUP)),
    ):
        if items := list(lines):
            yield title
            yield bullets(items)
    if any(map(view.has_runtime_baseline, view.rows)):
        yield f"{level} Against the runtime's own baseline"
        yield _against_runtime(view)
    if view.results.pairs:
        yield f"{level} One recipe in two runtimes"
        yield wording.PAIRS
        yield _pairs(view)
    if builds.has_spread(view):
        yield f"{level} Builds"
        yield from _builds(view)
    yield f"{level} Front"
    yield wording.front(view, MARKUP)
    yield _front(view)
    for heading, source in (("Picks", picks), ("Within your limits", limits)):
        yield from _sentences(f"{level} {heading}", source.sentences(view, MARKUP))
    yield f"{level} Noise floor"
    yield from _noise_floor(view)
    yield wording.measuring(view, MARKUP)
    if remarks := [
        *wording.by_sitting(view, MARKUP),
        *wording.cluster(view, MARKUP),
        *wording.differing_in_rounds(view, MARKUP),
        *wording.deaths(view, MARKUP),
        *wording.unkept_outputs(view),
        *wording.item_looks(view, MARKUP),
    ]:
        yield bullets(remarks)


def _sentences(heading: str, sentences: Iterable[str]) -> Iterator[str]:
    """Yield a heading and a list of sentences; nothing where there is no sentence."""
    if items := list(sentences):
        yield heading
        yield bullets(items)


def _summary(view: View) -> str:
    titles = [_title(column) for column in summary.columns(view.results)]
    rows = [
        [code(result.row), *(BREAK.join(map(without_breaks, lines)) for lines in cells)]
        for result, cells in summary.rows(view.results)
    ]
    return table(["config", "on the front", "ended well", *titles], rows)


def _threads(view: View) -> str:
    titles = [_title(column) for column in threads.columns(view.results)]
    rows = [
        [name, *(without_breaks(cell) for cell in cells)] for name, *cells in threads.rows(view.results, code)
    ]
    return table([*threads.KEYS, *titles], rows)


def _figures(view: View) -> str:
    header = ["config", *(_title(column) for column in view.columns), "build", "on the front"]
    rows = []
    for cell in view.rows:
        if view.ended(cell).outcome == "ok":
            figures = [figure(view, cell, column) for column in view.columns]
        else:
            cause = textwrap.shorten(to_terminal(view.ended(cell).cause or ""), MAX_CAUSE, placeholder=" ...")
            ending = wording.ending(view, cell, CELL, cause=cause)
            figures = [ending, *[NOTHING] * (len(view.columns) - 1)]
        build = BREAK.join(view.build(cell)).replace(" ", NO_BREAK)
        rows.append([_config(view, cell), *figures[: len(view.columns)], build, view.on_front(cell)])
    return table(header, rows)


def _title(figure: Figure) -> str:
    lines = [code(figure.metric), escape(figure.parameters).replace(" ", NO_BREAK)]
    return BREAK.join(filter(None, lines))


def _config(view: View, cell: str) -> str:
    return BREAK.join([code(view.name(cell)), *view.remarks(cell)])


def figure(view: View, cell: str, figure: Figure) -> str:
    """Return a figure of a cell with how it compares, for a cell of a table."""
    text = view.figure(cell, figure)
    compared = " ".join(filter(None, (text.delta, text.interval)))
    return BREAK.join(without_breaks(line) for line in (text.value, compared, text.runtime) if line)


def without_breaks(figure: str) -> str:
    """Return a figure with spaces at which no line is broken. Its unit is escaped already."""
    # A figure's mark may be the character that begins a tag.
    return re.sub(r"(?<!\\)<", "&lt;", figure).replace(" ", NO_BREAK)


def _against_runtime(view: View) -> str:
    rows = [
        [code(view.name(cell)), code(view.runtime_baseline_name(cell))]
        + [without_breaks(view.against_runtime(cell, column)) for column in view.columns]
        for cell in view.rows
        if view.has_runtime_baseline(cell)
    ]
    return table(["config", "against", *(_title(column) for column in view.columns)], rows)


def _pairs(view: View) -> str:
    rows = []
    for pair in view.results.pairs:
        cell, counterpart, *figures = view.pair(pair)
        rows.append([code(cell), code(counterpart), *map(without_breaks, figures)])
    return table([*wording.PAIR_COLUMNS, *(_title(column) for column in view.pair_columns)], rows)


def _builds(view: View) -> Iterator[str]:
    yield builds.explained(view)
    columns = builds.columns(view)
    rows = []
    for cell in builds.rows(view):
        cells = [builds.count_builds(view, cell), *(builds.figure(view, cell, column) for column in columns)]
        rows.append([code(view.name(cell)), *(BREAK.join(map(without_breaks, lines)) for lines in cells)])
    yield table([*builds.COLUMNS, *map(_title, columns)], rows)
    if remarks := list(builds.remarks(view, MARKUP)):
        yield bullets(remarks)


def _front(view: View) -> str:
    rows = [
        [
            code(view.name(cell)),
            view.on_front(cell),
            view.resampled(cell),
            wording.explain_place(view, cell, CELL),
        ]
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
        [escape(title), MARKUP.strong(figure) if alarm else figure, interval or NOTHING]
        for title, figure, interval, alarm in floors
    ]
    yield table(["metric", "control against baseline", "95 % interval"], rows)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. Header and cells are Markdown already."""
    all_rows = [list(header), *map(list, rows)]
    widths = [max(3, *map(len, column)) for column in zip(*all_rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in all_rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def bullets(items: Iterable[str]) -> str:
    """Return a bulleted list. The items are Markdown already."""
    return "\n".join(f"- {item}" for item in items)
