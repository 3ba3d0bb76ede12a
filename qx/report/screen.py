"""Show results on one screen of a terminal: a table, the picks, and how far they can be trusted.

Whatever the screen leaves out, ``qx report -v`` prints, in the words of ``terminal``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import evolve

from qx.contract.figures import Figure
from qx.foreign import path_to_terminal, to_terminal
from qx.report import builds, folded, limits, picks, threads, wording
from qx.report.compact import FittedTable, Table, is_nearness
from qx.report.precision import budget_in_words, reached
from qx.report.styled import (
    Line,
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
    wrapped_parts,
)
from qx.report.wording import count, listed
from qx.results import numbers
from qx.results.columns import View, with_units
from qx.results.constraints import judges_answers
from qx.results.records import NoiseFloor, PickResult, Results, UndecidedResult

#: Largest number of rows of a table, shared by the workloads, and the least that each of them has.
ROWS, LEAST_ROWS = 28, 10
#: Number of lines of a screen from which on it has no empty lines.
MOST_LINES = 40
#: Widest line of a sentence, whatever the terminal.
SENTENCE_WIDTH = 120
#: Marks before the names of configs.
FRONT, PERHAPS, OTHER_NETWORK = "*", "+", "!"
#: Widest name in the lines below a table, whose names the terminal has room for.
NAME_WIDTH = 40
#: Smallest share that a noise floor is written as.
SMALLEST_SHARE = 0.0001
#: Largest number of lines of picks, of a run whose metrics have many aims.
MOST_PICKS = 8


def render(
    results: Results,
    files: Iterable[str] = (),
    width: int | None = None,
    *,
    logs: str | None = None,
    colour: bool = False,
    encoding: str | None = None,
) -> str:
    """Return the text of the screen.

    Parameters
    ----------
    results : Results
        Results of a run.
    files : iterable of str
        Paths of the report that was written; the last line names them.
    width : int, optional
        Width in columns, by default that of the terminal.
    logs : str, optional
        Path of the folder of the logs, if there are any; the line before the last names it.
    colour : bool
        Whether to write the terminal's sequences for colours.
    encoding : str, optional
        Encoding of the stream, by default one that has every character.
    """
    width = screen_width() if width is None else width
    metrics = with_units(results.metrics, to_terminal)
    # A path is not cut off, so that it can be copied.
    lines = [within(spans, width) for spans in _lines(View(evolve(results, metrics=metrics)), width)]
    if logs is not None:
        lines.append(line("logs: ", (path_to_terminal(logs), "strong")))
    lines += _files([*files], width)
    if len(lines) > MOST_LINES:
        lines = [spans for spans in lines if spans]
    return to_text(lines, colour=colour, encoding=encoding)


def _lines(view: View, width: int) -> Iterator[Line]:
    parts = view.parts
    yield from _title(view, width)
    if unfinished := wording.unfinished(view, wording.PLAIN):
        yield from _warning(unfinished, width)
    rows = max(LEAST_ROWS, ROWS // len(parts))
    for part in parts:
        if len(parts) > 1:
            yield line()
            yield line((_subject(part, width), "strong"))
        yield from _workload(part, rows, width)
    yield from _threads(view, width)
    yield from _ending(view, width)


def _threads(view: View, width: int) -> Iterator[Line]:
    """Yield the speedups from threads of the first figure that has them, in few lines."""
    columns = threads.columns(view.results)
    if not columns:
        return
    figures = (f"{name} {speedup}" for name, _, speedup, *_ in threads.rows(view.results, to_terminal))
    text = f"{threads.HEADING}, not paired ({to_terminal(str(columns[0]))}): " + ", ".join(figures)
    yield line()
    yield from (line(part) for part in wrapped(text, min(width, SENTENCE_WIDTH), most=4))


def _subject(view: View, width: int) -> str:
    """Return the model, its data and its items; where they are too long the number of items stays."""
    ((name, workload),) = view.results.run.workloads.items()
    source = f" on {to_terminal(workload.source)}" if workload.source else ""
    items = wording.evaluated_items(workload)
    end = f": {items}" if items else ""
    return fitted(f"{to_terminal(name)}{source}", max(8, width - width_of(end))) + end


def _title(view: View, width: int) -> Iterator[Line]:
    """Yield the title: model, data, items, threads, and the time that the run took."""
    run = view.results.run
    facts = [threads.counts(run), f"in {duration(run.seconds['total'])}"]
    end = f", {', '.join(facts)}"
    room = max(8, width - width_of(end))
    names = [*run.workloads]
    subject = _subject(view, room) if len(names) == 1 else count(len(names), "workload")
    yield line((fitted(subject, room), "strong"), end)


def duration(seconds: float) -> str:
    """Return a time as ``78 s`` or ``14 min 22 s``."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


# One workload -------------------------------------------------------------------------------------


def _workload(view: View, rows: int, width: int) -> Iterator[Line]:
    yield from _warnings(view, width)
    table = Table(view)
    shown = table.fitted(width, rows)
    if table.cells:
        yield line()
        yield from shown.lines(lambda cell: _mark(view, cell))
        yield from _legend(view, shown, width)
    yield line()
    names = _names_in_sentences(view, width)
    yield from folded.lines(view, names, width)
    yield from _failed_metrics(view, names, width)
    picked = [*_picks(view, shown, names, width), *_limits(view, names, width)]
    if picked and any(view.ended(cell).outcome != "ok" for cell in view.rows):
        yield line()
    yield from picked
    if trust := _trust(view, shown, width):
        yield line(trust)


def _mark(view: View, cell: str) -> str:
    if any(outputs.cell == cell for outputs in view.another_network):
        return OTHER_NETWORK
    return {"yes": FRONT, "perhaps": PERHAPS}.get(view.on_front(cell), "")


def _names_in_sentences(view: View, width: int) -> Mapping[str, str]:
    """Return the names of all cells for sentences, where the longest would leave no room for the rest."""
    names = {cell: to_terminal(view.name(cell)) for cell in view.rows}
    shorts = short_names(list(dict.fromkeys(names.values())), max(8, min(NAME_WIDTH, width // 3)))
    return {cell: shorts[name] for cell, name in names.items()}


def _warnings(view: View, width: int) -> Iterator[Line]:
    """Yield what must be known before the figures are read, in a few lines each."""
    for text in _warning_texts(view):
        yield from _warning(text, width)
    markup = wording.PLAIN
    if caveat := wording.caveat(view, markup):
        yield from (line(text) for text in wrapped(caveat, min(width, SENTENCE_WIDTH), indent="  ", most=3))
    measuring = view.results.run.measuring
    if measuring is not None and measuring.quick and measuring.waves:
        text = f"A quick look of {count(measuring.waves, 'wave')}: intervals claim more than they hold."
        yield line(fitted(text, width))


def _warning(text: str, width: int) -> Iterator[Line]:
    """Yield a warning in at most two lines."""
    for drawn in wrapped(f"WARNING: {text}", min(width, SENTENCE_WIDTH), indent="  ", most=2):
        yield line((drawn, "warning"))


def _warning_texts(view: View) -> Iterator[str]:
    markup = wording.PLAIN
    yield from wording.failed_baselines(view, markup)
    if alarms := [floor for floor in view.results.noise_floor if floor.alarm]:
        titles = listed([to_terminal(str(floor.figure)) for floor in alarms])
        yield (
            f"{titles} cannot be trusted: the control, which is a copy of the baseline, differs from the "
            "baseline by more than chance (99.9 %); qx doctor says what to look at"
        )
    if view.another_network:
        names = listed([to_terminal(view.name(outputs.cell)) for outputs in view.another_network])
        yield f"not the same network any more ({OTHER_NETWORK}): {names}, whose outputs are below 0 dB"


def _legend(view: View, shown: FittedTable, width: int) -> Iterator[Line]:
    """Explain the marks that occur, and name what the table has no room for."""
    places = {view.on_front(cell) for cell in shown.cells}
    marks = [f"{FRONT} on the front"] * ("yes" in places) + [f"{PERHAPS} perhaps"] * ("perhaps" in places)
    parts = [", ".join(marks)] if marks else ["no config is on the front"] * bool(view.axes)
    shown_entries = [column.entries[cell] for column in shown.columns for cell in shown.cells]
    is_compared = any(entry.comparison.number for entry in shown_entries) or any(
        is_nearness(view.results.metrics[column.figure.metric]) for column in shown.columns
    )
    if view.baseline in shown.cells and is_compared:
        parts.append(f"compared with {shown.names[view.baseline]}")
    all_marks = {entry.comparison.mark for entry in shown_entries}
    if numbers.MARKS["interval"] in all_marks:
        parts.append("? not clear: its interval includes no change")
    if numbers.MARKS["noise floor"] in all_marks:
        parts.append("~ not clear: no larger than noise")
    if any(entry.value.half or entry.comparison.half for entry in shown_entries):
        which = " of one build" if builds.are_single(view) else ""
        parts.append(f"± half of a 95 % interval{which}{_halves_of_values(shown)}")
    if any(column.is_spread for column in shown.columns):
        parts.append("sd: between builds with other calibration items; all else is of the first build")
    moved = [axis for axis in view.axes if not _is_shown(axis, shown) and _is_at_another_point(axis, shown)]
    parts += [f"the front goes by {to_terminal(str(axis))}" for axis in moved]
    if hidden := shown.left_out:
        names = listed_within([column.heading for column in hidden], width // 2)
        parts.append(f"no room for {names} (-v)")
    if rest := shown.rows_left_out:
        on_front = sum(view.on_front(cell) != "no" for cell in rest)
        also = f", {on_front} of them on the front" if on_front else ", none on the front"
        parts.append(f"{count(len(rest), 'more config')}{also} (-v)")
    for text in wrapped_parts(parts, min(width, SENTENCE_WIDTH), most=4):
        yield line((text, "faint"))


def _is_shown(axis: Figure, shown: FittedTable) -> bool:
    return any(column.figure == axis for column in shown.table.columns)


def _is_at_another_point(axis: Figure, shown: FittedTable) -> bool:
    return any(column.figure.metric == axis.metric for column in shown.table.columns)


def _halves_of_values(shown: FittedTable) -> str:
    """Say how wide the intervals of values are at most, where those are not in the table."""
    if shown.layout.whole:
        return ""
    widest = []
    for column in shown.columns:
        halves = [entry.value.half for cell in shown.cells if (entry := column.entries[cell]).value.half]
        if halves and any(column.entries[cell].comparison.number for cell in shown.cells):
            largest = max(halves, key=lambda half: float(half.strip("±%")))
            metric = width_fitted_name(column.heading)
            widest.append(f"{metric} {largest}")
    return f" (values at most: {', '.join(widest)})" if widest else ""


def width_fitted_name(heading: str) -> str:
    """Return the name of a metric for a sentence, without the point that it was measured at."""
    return fitted(heading.partition(",")[0], NAME_WIDTH // 2)


def _failed_metrics(view: View, names: Mapping[str, str], width: int) -> Iterator[Line]:
    """Yield a line for each reason why a metric failed in configs that have a row."""
    cells: dict[tuple[str, str, str], list[str]] = {}
    for measured in view.without_figures:
        if view.ended(measured.cell).control:
            continue
        key = (to_terminal(measured.metric), measured.outcome.replace("_", " "), measured.cause or "")
        cells.setdefault(key, []).append(names[measured.cell])
    for (metric, outcome, cause), affected in list(cells.items())[: folded.MOST_LINES]:
        begin = f"{fitted(metric, NAME_WIDTH // 2)} {outcome} ({len(set(affected))}): "
        reason = f"{listed_within(affected, width // 3)}: {to_terminal(cause or 'no cause is known')}"
        yield line((begin, "bad"), fitted(reason, max(8, width - width_of(begin))))


# Picks --------------------------------------------------------------------------------------------


def _picks(view: View, shown: FittedTable, names: Mapping[str, str], width: int) -> Iterator[Line]:
    """Yield a line for each aim: what to pick for it, or what would allow a pick."""
    results = view.results
    if len(results.front) < 2:
        return
    if (results.picks or results.undecided) and not any(
        judges_answers(results.metrics[figure.metric]) for figure in view.axes
    ):
        yield line(
            (fitted("Nothing is known of quality: no axis judges what the configs answer.", width), "strong")
        )
    entries: list[PickResult | UndecidedResult] = [*results.picks, *results.undecided]
    figures = [column.figure for column in shown.columns]
    aims = [_aim(entry, with_point=entry.figure not in figures) for entry in entries]
    shorts = short_names(list(dict.fromkeys(aims)), max(12, min(NAME_WIDTH, width // 3)))
    column = max(map(width_of, shorts.values()), default=0)
    for entry, aim in list(zip(entries, aims, strict=True))[:MOST_PICKS]:
        begin = padded(shorts[aim], column) + "  "
        room = width - width_of(begin)
        if isinstance(entry, PickResult):
            name, rest = fitted(names[entry.cell], room), _tied(view, entry, names, room)
            yield line(begin, (name, "strong"), rest)
        else:
            yield line(begin, ("no pick", "warning"), _no_pick(view, entry, names, room))


def _limits(view: View, names: Mapping[str, str], width: int) -> Iterator[Line]:
    """Yield what is within the limits that the user set, and a line for each limit that judges nothing."""
    for limit in view.results.limits:
        if not limit.verdicts:
            yield line((fitted(to_terminal(limit.reason), width), "warning"))
    if not view.limits:
        return
    begin = f"{to_terminal(limits.names_of_limits(view))}: "
    begin = begin if width_of(begin) <= width // 2 else "within your limits: "
    surely, maybe = (
        [names[cell] for cell in limits.cells(view, verdict)] for verdict in ("surely", "perhaps")
    )
    rest = f"; maybe {listed_within(maybe, width // 4)}" if maybe else ""
    room = max(8, width - width_of(begin) - width_of(rest))
    if surely:
        yield line(begin, (listed_within(surely, room), "strong"), rest)
    else:
        yield line(begin, ("none surely", "warning"), rest)


def _aim(entry: PickResult | UndecidedResult, *, with_point: bool) -> str:
    """Return the aim, with the point of its metric if no heading of the table says it."""
    # The line begins with the aim, which is written as part of a sentence.
    aim = to_terminal(entry.aim).removeprefix("the ")
    return aim + (f" ({entry.figure.parameters})" if entry.point and with_point else "")


def _tied(view: View, pick: PickResult, names: Mapping[str, str], room: int) -> str:
    """Return what stands behind the name of a picked config: which others are as good."""
    left = room - width_of(names[pick.cell])
    tied, maybe = ([names[cell] for cell in cells] for cells in (pick.tied_with, pick.not_told_apart))
    decided = f" ({fitted(to_terminal(pick.decided_by), NAME_WIDTH // 2)} decides)" if pick.decided_by else ""
    for ending in dict.fromkeys((decided, "")):
        text = ""
        if tied:
            others = len("; maybe 99 others") if maybe else 0
            share = left - width_of(ending) - len(", tied with ") - others
            text = f", tied with {listed_within(tied, share, 'other')}{ending}"
        if maybe:
            share = left - width_of(text) - len("; maybe ")
            text += f"; maybe {listed_within(maybe, share, 'other')}"
        if width_of(text) <= left:
            return text
    return ""


def _no_pick(view: View, undecided: UndecidedResult, names: Mapping[str, str], room: int) -> str:
    """Return why there is no pick, and what would allow one."""
    left = room - len("no pick")
    measured = view.measurement(undecided.contenders[0], undecided.figure)
    if measured is not None and measured.without_interval:
        return fitted(f": {to_terminal(measured.without_interval)}", left)
    half = (
        ""
        if undecided.half_width is None
        else f"±{picks.amount(undecided.half_width, view.results.metrics[undecided.metric])} "
    )
    remedy = ""
    if undecided.items is not None:
        remedy = f"; needs about {picks.rounded(undecided.items):,} items"
    elif undecided.seconds is not None:
        remedy = f"; needs {picks.measuring_options(view, undecided.seconds)}"
    begin = f", {half}does not tell "
    share = left - width_of(begin) - len(" apart") - width_of(remedy)
    listed_names = listed_within([names[cell] for cell in undecided.contenders], share)
    if width_of(listed_names) > share:
        listed_names = f"{len(undecided.contenders)} configs"
    return fitted(f"{begin}{listed_names} apart{remedy}", left)


# How far it can be trusted ------------------------------------------------------------------------


def _trust(view: View, shown: FittedTable, width: int) -> str:
    """Return one line: the noise floor, what ended the measuring, and what would make it more precise."""
    floors, ends = [*_floors(view, shown)], [*_ended(view)]
    # Fewer words about the end first, then fewer about the noise.
    texts = ["; ".join(filter(None, (floor, end))) for floor in floors for end in ends]
    return next((text for text in texts if width_of(text) <= width), fitted(texts[-1], width))


def _floors(view: View, shown: FittedTable) -> Iterator[str]:
    """Yield what the control shows in the figures of the table, in ever fewer words."""
    figures = {column.figure for column in shown.table.columns}
    floors = [floor for floor in view.results.noise_floor if floor.figure in figures]
    floors = floors or list(view.results.noise_floor)
    if not floors:
        yield ""
        return
    sizes = [f"{_size(view, floor)} ({width_fitted_name(to_terminal(floor.metric))})" for floor in floors]
    yield f"noise floor {', '.join(sizes)}: trust differences above that"
    shares = [floor for floor in floors if floor.kind != "difference"] or floors
    largest = _size(view, max(shares, key=lambda floor: abs(floor.value - _neutral(floor))))
    yield f"noise floor {largest}: trust differences above that"
    yield f"noise floor {largest}"


def _neutral(floor: NoiseFloor) -> float:
    return 0.0 if floor.kind == "difference" else 1.0


def _size(view: View, floor: NoiseFloor) -> str:
    """Return how far the control seems to be from the baseline, which it is."""
    size = abs(floor.value - _neutral(floor))
    if floor.kind != "difference" and size < SMALLEST_SHARE:
        return f"<{100 * SMALLEST_SHARE:g} %"
    return picks.amount(size, view.results.metrics[floor.metric])


def _ended(view: View) -> Iterator[str]:
    """Yield what ended the measuring and what more of it would bring, in ever fewer words."""
    measuring = view.results.run.measuring
    if measuring is None or measuring.ended_by == "nothing to repeat":
        yield ""
        return
    wanted = f"±{100 * measuring.precision:g} %"
    if measuring.ended_by == "precision":
        finer = f"--precision {measuring.precision / 2:g}"
        yield f"ended with every speedup within {wanted}; more precise: {finer}"
        yield f"ended with every speedup within {wanted}"
        yield f"every speedup within {wanted}"
        return
    state = reached(view)
    if measuring.ended_by == "budget" and state is not None:
        widest = f"±{numbers.significant(100 * state.widest, 2)} %"
        spent, cause = f"{measuring.budget:g} s", f"its budget of {measuring.budget:g} s"
        if measuring.seconds > wording.LATE_RATIO * measuring.budget:
            spent = f"{measuring.seconds:.0f} s"
            cause = f"the least number of waves, {spent}"
        if state.seconds is None:
            missing = "" if state.widest <= measuring.precision else f", {wanted} is out of reach"
            yield f"ended by {cause}, widest interval {widest}{missing}"
            yield f"{spent} reached {widest}{missing}"
            return
        budget = f"--budget {budget_in_words(state.seconds)}{', not --quick' if measuring.quick else ''}"
        yield f"ended by {cause}, widest interval {widest}; for {wanted}: {budget}"
        yield f"{spent} reached {widest}, for {wanted}: {budget}"
        yield f"{widest} in {spent}, {wanted}: {budget}"
        return
    yield f"measuring ended: {to_terminal(measuring.ended_by)}"


def _ending(view: View, width: int) -> Iterator[Line]:
    """Yield a line that counts what only the whole report says."""
    measuring = view.results.run.measuring
    remarks = []
    if measuring is not None and measuring.deaths:
        remarks.append(f"{count(len(measuring.deaths), 'launch', 'launches')} died")
    if differing := {measured.cell for measured, _ in wording.measurements_differing_in_rounds(view)}:
        compared = "1 config compares" if len(differing) == 1 else f"{len(differing)} configs compare"
        remarks.append(f"{compared} differently when no call is left out")
    if remarks:
        yield line((fitted(f"note: {', '.join(remarks)} (-v)", width), "plain"))


def _files(files: Sequence[str], width: int) -> Iterator[Line]:
    if not files:
        return
    paths, more = ", ".join(map(path_to_terminal, files)), "; all figures: qx report -v"
    is_short = width_of(f"report: {paths}{more}") <= width
    yield line("report: ", (paths, "strong"), more if is_short else "")
