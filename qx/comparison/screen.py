"""Show what changed between runs on one screen of a terminal: a decision for each config, the worst first."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from attrs import evolve

from qx.comparison.causes import ORDER, UNCHANGED, CauseVerdict
from qx.comparison.changes import ChangeView, Row
from qx.comparison.records import RunComparison
from qx.foreign import to_terminal
from qx.report.styled import (
    Line,
    Style,
    fitted,
    line,
    listed_within,
    padded,
    screen_width,
    short_names,
    to_text,
    width_of,
    within,
    wrapped,
)
from qx.report.wording import PLAIN, count, listed
from qx.results.columns import with_units

#: Largest number of configs of a run with a line each.
MOST_CONFIGS = 24
#: Verdicts on a config that get a line with what changed; configs with another share a line.
WITH_LINE: tuple[CauseVerdict, ...] = ("worse", "mixed", "better", "changed")
STYLES: Mapping[CauseVerdict, Style] = {"worse": "bad", "mixed": "warning", "better": "good"}
#: Widest name of a config.
NAME_WIDTH = 30
#: What is said of configs without a change.
NO_CHANGE = "no change shown"


def render(
    comparison: RunComparison, width: int | None = None, *, colour: bool = False, encoding: str | None = None
) -> str:
    """Return the text of the screen. ``width`` is that of the terminal, ``encoding`` that of the stream."""
    width = screen_width() if width is None else width
    metrics = with_units(comparison.metrics, to_terminal)
    lines = _lines(ChangeView(evolve(comparison, metrics=metrics)), width)
    return to_text((within(spans, width) for spans in lines), colour=colour, encoding=encoding)


def _lines(view: ChangeView, width: int) -> Iterator[Line]:
    comparison = view.comparison
    workloads = listed([to_terminal(name) for name in comparison.workloads])
    title = f"What changed: {workloads}, from {to_terminal(comparison.base.label)}"
    yield from (line((text, "strong")) for text in wrapped(title, width, indent="  ", most=2))
    for run in comparison.runs:
        for note in run.notes:
            text = f"note: {to_terminal(run.label)}: {to_terminal(note)}"
            yield from map(line, wrapped(text, width, indent="  ", most=2))
    for run in comparison.runs[1:]:
        yield line()
        yield from _run(view, run.label, width)
    yield line()
    tested = "nothing had to be tested"
    if comparison.tests:
        tested = f"{count(comparison.tests, 'change')} tested, corrected for their number (Holm)"
    yield line((fitted(f"{tested}; every figure: qx compare -v", width), "faint"))


def _run(view: ChangeView, label: str, width: int) -> Iterator[Line]:
    """Yield the decision on a run, then what changed in which config, the worst first."""
    by_verdict: dict[CauseVerdict, list[Row]] = {}
    for cell in view.cells:
        by_verdict.setdefault(_verdict(view, label, cell), []).append(cell)
    counts = [
        f"{len(cells)} {NO_CHANGE if verdict == 'same' else verdict}"
        for verdict in (*ORDER[:-2], ORDER[-1])
        if (cells := by_verdict.get(verdict))
    ]
    end = f": {', '.join(counts) or 'nothing to compare'}"
    begin = f"to {fitted(to_terminal(label), max(8, width - width_of(end) - len('to ')))}"
    worst = _worst(by_verdict)
    yield line((begin, "strong"), (fitted(end, width - width_of(begin)), STYLES.get(worst, "strong")))
    names = {cell: to_terminal(view.name(cell)) for cell in view.cells}
    shorts = short_names(list(dict.fromkeys(names.values())), max(8, min(NAME_WIDTH, width // 3)))
    changed = [(verdict, cell) for verdict in WITH_LINE for cell in by_verdict.get(verdict, ())]
    column = max((width_of(shorts[names[cell]]) for _, cell in changed), default=0)
    for verdict, cell in changed[:MOST_CONFIGS]:
        begin = f"  {verdict:<7}  {padded(shorts[names[cell]], column)}  "
        changes = "; ".join(view.headlines(cell, label, PLAIN))
        room = max(8, width - width_of(begin))
        yield line((begin, STYLES.get(verdict, "plain")), fitted(changes, room))
    if (rest := len(changed) - MOST_CONFIGS) > 0:
        yield line(f"  {count(rest, 'more config')} with changes (-v)")
    for verdict in ORDER:
        if verdict in WITH_LINE or verdict not in by_verdict:
            continue
        cells = by_verdict[verdict]
        begin = f"  {NO_CHANGE if verdict == 'same' else verdict} ({len(cells)}): "
        yield line(begin, listed_within([shorts[names[cell]] for cell in cells], width - width_of(begin)))


def _verdict(view: ChangeView, label: str, cell: Row) -> CauseVerdict:
    """Return the worst verdict on a config; ``same`` where no change is shown."""
    verdicts = {cause.verdict for cause in view.causes(label, cell)}
    worst = _worst(verdicts)
    return "same" if worst in UNCHANGED else worst


def _worst(verdicts: Container[CauseVerdict]) -> CauseVerdict:
    for verdict in ORDER:
        if verdict in verdicts:
            return verdict
    return "same"
