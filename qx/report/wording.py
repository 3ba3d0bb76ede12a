"""The sentences under the table, in words that Markdown and a terminal share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from attrs import frozen

from qx.contract.records import as_word
from qx.results import numbers
from qx.results.columns import ANOTHER_NETWORK, Column, View
from qx.results.records import NOT_APPLICABLE
from qx.values import JsonMapping, OptionValues

#: How many names a row has room for.
NAMES_IN_A_ROW = 3

#: Measuring is late that took so many times its budget.
OVER = 1.2

#: Columns that say of each config whether it is on the front.
FRONT_COLUMNS = ("on the front", "resampled runs")
FRONT_EXPLAINED = (
    "yes: no other config dominates it. no: one does, that is, it is shown to be better on some axis and no "
    "worse on any, differences within the metrics' margins aside. perhaps: none is shown to, but in most "
    "resampled runs one does. 12 of 100: it is on the front in so many resampled runs, for which the waves "
    "and the items of this run are drawn anew."
)
CONTROL = "The control is the baseline, measured a second time. Whatever it shows is noise (95 % intervals)."
PAIRS = (
    "The same recipe in two runtimes should behave the same. The columns show on how many items both predict "
    "the same, and how the config compares with its counterpart."
)
PAIR_COLUMNS = ("config", "counterpart", "same prediction")
NO_CONTROL = "The run has no control, so the noise floor is not known."
#: Why a difference is not called clear, by the key of its mark.
UNCLEAR = {
    "interval": 'not clear, the interval includes "no change"',
    "noise floor": "not clear, no larger than the noise that the control shows",
    "correction": "not clear once corrected for the number of tests (Holm)",
    "margin": "too small to matter, within the metric's margin",
}


@frozen
class Markup:
    """How a name, a stressed word and any foreign text are written."""

    name: Callable[[str], str]
    strong: Callable[[str], str]
    text: Callable[[str], str]


def listed(words: Sequence[str], last: str = "and") -> str:
    """``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def count(number: int, word: str, plural: str | None = None) -> str:
    """``1 wave``, ``6 waves``, ``10,000 items``."""
    return f"{number:,} {word if number == 1 else plural or word + 's'}"


def title(view: View, markup: Markup) -> str:
    """The workload's name, where its data come from, and how many items there are."""
    parts = []
    for name, about in view.results.run["workloads"].items():
        source = f" on {markup.text(about['source'])}" if about.get("source") else ""
        items = f" ({count(about['items'], 'item')})" if about.get("items") else ""
        parts.append(markup.name(name) + source + items)
    return listed(parts)


def failed_baselines(view: View, markup: Markup) -> Iterator[str]:
    """That there is nothing to compare with, for each workload whose baseline did not end well."""
    for part in view.parts:
        if part.baseline not in part.rows or part.ended(part.baseline).outcome == "ok" or _unprepared(part):
            continue
        stressed = markup.strong("The baseline failed, so nothing is compared with it and nothing is picked.")
        # With several workloads the id of the cell says which one it is.
        yield f"{stressed} {markup.name(view.name(part.baseline))}: {ending(part, part.baseline, markup)}"


def _unprepared(view: View) -> bool:
    return bool(view.rows) and all(view.ended(cell).stage == "prepare" for cell in view.rows)


def another_network(view: View, markup: Markup) -> str | None:
    """Which cells compute something else than the baseline, where there are any."""
    if not view.another_network:
        return None
    cells = [f"{markup.name(view.name(one.cell))} ({_decibels(one.sqnr_db)})" for one in view.another_network]
    stressed = markup.strong("Not the same network any more:")
    baseline = markup.name(view.name(view.baseline))
    return (
        f"{stressed} {listed(cells)}. Against {baseline} the error of the outputs is larger than the outputs "
        "themselves (below 0 dB), or they are not finite, or have another shape. Such a row is marked with "
        f"{ANOTHER_NETWORK[0]}, and is neither on the front nor picked."
    )


def _decibels(sqnr: float | None) -> str:
    return "no SQNR" if sqnr is None else f"SQNR {sqnr:.1f} dB"


def caveat(view: View, markup: Markup) -> str | None:
    """That nothing is to be learned of accuracy, or that nothing was measured at all."""
    ((name, about),) = view.results.run["workloads"].items()
    if _unprepared(view):
        return f"{markup.strong('Nothing was measured')} of {markup.name(name)}: it could not be prepared."
    if about.get("random_weights"):
        return (
            f"{markup.strong('Not known to be trained')}: no weights were given, so nothing is said of right "
            f"and wrong answers. Sizes, times and memory are those that trained weights have. Give "
            f"{markup.name('--weights FILE')}, or {markup.name('--trained')} where the factory of "
            f"{markup.name('--model')} loads trained weights itself."
        )
    return None


def provenance(view: View, markup: Markup) -> str:
    """The command, the seed, the run's id and when it was."""
    run = view.results.run
    command = " ".join(run.get("command", ())) or "unknown"
    taken = run.get("seconds", {}).get("total")
    parts = [
        f"Command {markup.name(command)}",
        f"seed {run.get('seed')}",
        f"run {markup.text(str(run.get('id')))}",
    ]
    if started := run.get("started"):
        parts.append(f"started {datetime.fromisoformat(started):%Y-%m-%d %H:%M} UTC")
    if taken is not None:
        parts.append(f"took {taken:.0f} s")
    return ", ".join(parts) + "."


def legend(view: View, markup: Markup) -> str:
    """How the figures of the table are to be read."""
    metrics = view.results.metrics.values()
    sides = {
        side: [markup.name(metric.name) for metric in metrics if metric.better == side]
        for side in ("higher", "lower")
    }
    better = [f"{side} {listed(names)}" for side, names in sides.items() if names]
    told = []
    if any(one.vs_baseline is not None for one in view.results.measurements):
        told.append(f"Under each value: how it compares with {markup.name(view.name(view.baseline))}.")
    if any(metric.compare == "speedup" for metric in metrics):
        told.append("Speedups are baseline / config, so more is faster.")
        if any(map(view.has_runtime_baseline, view.rows)):
            told.append("runtime: the speedup over the fp32 config of the same runtime.")
    told.append("± and [ ]: 95 % interval (± its longer half).")
    if any(metric.unit == "fraction" for metric in metrics):
        told.append("pt: percentage points.")
    told += marks(view.unclear, markup)
    told += [f"Better: {'; '.join(better)}."] if better else []
    options = view.results.run.get("metric_options", {})
    set_to = [f"{markup.name(name)} {markup.text(_settings(given))}" for name, given in options.items()]
    return " ".join([*told, f"Options: {'; '.join(set_to)}."] if set_to else told)


def marks(reasons: Iterable[str], markup: Markup) -> list[str]:
    """What each of these marks says, a sentence for each."""
    return [f"{markup.name(numbers.MARKS[why])} behind a figure: {UNCLEAR[why]}." for why in reasons]


def _settings(options: OptionValues) -> str:
    return ", ".join(f"{name}={as_word(value)}" for name, value in options.items())


# How cells ended, and the front -------------------------------------------------------------------


def ending(view: View, cell: str, markup: Markup, cause: str | None = None) -> str:
    """Outcome, stage and cause of a cell that did not end well."""
    result = view.ended(cell)
    place = f" in {markup.text(result.stage)}" if result.stage else ""
    told = markup.text(cause or result.cause or "no cause is known")
    return f"{markup.strong(result.outcome.replace('_', ' '))}{place}: {told}"


def why(view: View, cell: str, markup: Markup) -> str:
    """Why a cell is on the front or not: who dominates it, who it is tied with, how it ended."""
    if view.ended(cell).outcome != "ok":
        return ending(view, cell, markup)
    if any(one.cell == cell for one in view.another_network):
        return "not judged: not the same network any more"
    front = view.front(cell)
    if front is None:
        lacking = [column.title for column in view.axes if not _has(view, cell, column)]
        if lacking:
            return f"no figures of {listed([markup.text(title) for title in lacking])}"
        return "not judged: samples that are not positive have no ratio" if view.axes else "not judged"
    if front.dominated_by:
        return f"dominated by {some(view, front.dominated_by, markup)}"
    told = [f"tied with {some(view, front.tied_with, markup)}"] if front.tied_with else []
    if view.on_front(cell) == "perhaps":
        told.append("probably dominated, but not shown to be")
    return "; ".join(told) or "nothing dominates it"


def front(view: View, markup: Markup) -> str:
    """The front in a sentence or two."""
    there, perhaps = (
        [cell for cell in view.rows if view.on_front(cell) == word] for word in ("yes", "perhaps")
    )
    axes = listed([markup.text(column.title) for column in view.axes])
    if not there and not perhaps:
        return "There is no front: no config has figures on all axes" + (f" ({axes})." if axes else ".")
    if there:
        told = f"On the front, by {axes}: {_names(view, there, markup)}."
        told += f" Perhaps too: {_names(view, perhaps, markup)}." if perhaps else ""
    else:
        told = f"Perhaps on the front, by {axes}: {_names(view, perhaps, markup)}."
    for tie in _ties(view, [*there, *perhaps]):
        told += f" {_names(view, tie, markup)} are tied: no axis tells them apart by more than its margin."
    return told


def _ties(view: View, members: Iterable[str]) -> list[tuple[str, ...]]:
    """Sets of cells that are all tied with each other; then the pairs that belong to none of them."""
    tied = {cell: set(result.tied_with) for cell in members if (result := view.front(cell)) is not None}
    groups: list[tuple[str, ...]] = []
    for cell in tied:
        group = [cell]
        for other in tied:
            if other not in group and all(other in tied[one] for one in group):
                group.append(other)
        if len(group) > 1 and not any(set(group) <= set(known) for known in groups):
            groups.append(tuple(one for one in tied if one in group))
    return groups


def failures(view: View, markup: Markup) -> Iterator[str]:
    """Metrics that failed in cells that else ended well."""
    seen = {(one.cell, one.metric): one for one in view.without_figures}
    for one in seen.values():
        cell, cause = markup.name(view.name(one.cell)), markup.text(one.cause or "no cause is known")
        yield f"{cell}: {markup.name(one.metric)} {markup.strong(one.outcome.replace('_', ' '))}: {cause}"


def inapplicable(view: View, markup: Markup) -> Iterator[str]:
    """Metrics that mean nothing of this workload, each with the reason."""
    reasons = {
        (one.metric, one.cause): None
        for one in view.results.measurements
        if (one.outcome, view.ended(one.cell).outcome) == ("unsupported", "ok")
        and one.cause != NOT_APPLICABLE
    }
    for name, cause in reasons:
        yield f"{markup.name(name)} does not apply: {markup.text(cause or 'no reason is known')}."


def notes(view: View, markup: Markup) -> Iterator[str]:
    """What configs want told of their artifacts."""
    for cell in view.rows:
        for note in view.ended(cell).notes:
            yield f"{markup.name(view.name(cell))}: {markup.text(note)}"


# How far it can be trusted ------------------------------------------------------------------------


def alarm(view: View, markup: Markup) -> str | None:
    """That the timings are not to be trusted, where the control says so."""
    loud = [floor for floor in view.results.noise_floor if floor.alarm]
    if not loud:
        return None
    titles = listed([markup.text(Column.of(floor.metric, floor.params).title) for floor in loud])
    timed = any(view.results.metrics[floor.metric].phase == "block" for floor in loud)
    stressed = markup.strong(f"The {'timings' if timed else 'figures'} of this run are not to be trusted.")
    return (
        f"{stressed} In {titles} the control, which is a copy of the baseline, differs from it by more than "
        f"chance (99.9 %). Something disturbed the run: {markup.name('qx doctor')} says what to look at."
    )


def noise_floor(view: View) -> Iterator[tuple[str, str, str, bool]]:
    """Metric, what the control shows, its interval, and whether that is an alarm."""
    shown = {floor.metric for floor in view.results.noise_floor}
    for floor in view.results.noise_floor:
        if shown & {*view.results.metrics[floor.metric].derived_from}:
            continue
        unit = view.results.metrics[floor.metric].unit
        if floor.kind == "difference":
            told = numbers.difference(floor.value, floor.ci, unit)
        else:
            told = numbers.ratio_interval(floor.value, floor.ci)
        yield (Column.of(floor.metric, floor.params).title, *told, floor.alarm)


def measuring(view: View, markup: Markup) -> str:
    """What ended the measuring, how much was measured, and how sharp it became."""
    about = view.results.run.get("measuring", {})
    if not about.get("ended_by"):
        return "Nothing was measured."
    precision, budget = about.get("precision", 0.0), about.get("budget", 0.0)
    late = about.get("seconds", 0.0) > OVER * budget
    over = f" (the least number of waves took {about['seconds']:.0f} s)" if late else ""
    ended = {
        "precision": f"Measuring ended with the precision asked for, ±{100 * precision:g} %",
        "budget": f"Measuring ended with its budget of {budget:g} s{over}, before the precision of "
        f"±{100 * precision:g} % was reached",
        "waves": "Measuring ended after the least number of waves, since no speedup was measured in them",
    }.get(about["ended_by"], f"Measuring ended: {markup.text(str(about['ended_by']))}")
    launches = sum(result.launches for result in view.results.cells.values())
    told = f"{ended}: {count(about.get('waves', 0), 'wave')}, {count(launches, 'launch', 'launches')}"
    rounds = [number for sizes in about.get("rounds", {}).values() for number in sizes.values()]
    told += f", up to {count(max(rounds), 'round')} a wave" if rounds else ""
    widths = [
        half
        for one in view.results.measurements
        if view.results.metrics[one.metric].phase == "block"
        and one.vs_baseline is not None
        and one.vs_baseline.kind != "difference"
        and one.cell != view.baseline
        and (half := numbers.relative_half(one.vs_baseline)) is not None
    ]
    if widths:
        told += f"; the widest interval of a speedup is ±{numbers.significant(100 * max(widths), 2)} %"
    told += "."
    if about.get("quick") and about.get("waves"):
        stressed = markup.strong("This was a quick look")
        told = f"{stressed}: with so few waves the intervals claim more than they hold. {told}"
    if unsteady := about.get("unsteady"):
        pairs = [f"{markup.name(view.name(cell))} (batch {size})" for cell, size in unsteady]
        told += f" Calls were not steady yet when warming ended: {listed(pairs)}."
    return told


def in_rounds(view: View, markup: Markup) -> Iterator[str]:
    """Cells that compare otherwise when no call is left out."""
    for one in view.results.measurements:
        # Details of other metrics are their authors'.
        timed = view.results.metrics[one.metric].phase == "block"
        compared = (one.details.get("in_rounds") if timed else None) or {}
        if one.vs_baseline is None or not compared.get("differs"):
            continue
        title = markup.text(Column.of(one.metric, one.params).title)
        told, interval = numbers.ratio_interval(compared["value"], compared["ci"])
        undisturbed = " ".join(numbers.ratio_interval(one.vs_baseline.value, one.vs_baseline.ci))
        cell, fares = markup.name(view.name(one.cell)), compared["differs"]
        yield (
            f"{cell}, {title}: {told} {interval} over all calls, {undisturbed} over those that nothing "
            f"disturbed, which the table shows. So at times, by itself or for what else the machine does, it "
            f"fares {fares} against the baseline than the table says."
        )


def deaths(view: View, markup: Markup) -> Iterator[str]:
    """Launches that died."""
    for death in view.results.run.get("measuring", {}).get("deaths", ()):
        cell, outcome = markup.name(view.name(death["cell"])), death["outcome"].replace("_", " ")
        stage = f" in {markup.text(death['stage'])}" if death["stage"] else ""
        cause = markup.text(death["cause"] or "no cause is known")
        yield f"A launch of {cell} died in wave {death['wave'] + 1} ({outcome}{stage}): {cause}"


def environment(view: View, markup: Markup) -> Iterator[tuple[str, str]]:
    """The environment in five lines, each with what it is about."""
    found, run = view.results.environment, view.results.run
    memory = found.get("memory_bytes")
    threads = f"{count(run.get('threads', 1), 'thread')} serving" if run.get("threads") else None
    yield (
        "CPU",
        _facts(
            markup,
            found.get("cpu", "unknown"),
            found.get("machine"),
            f"{count(found['cpus'], 'CPU')} to run on" if found.get("cpus") else None,
            threads,
            f"{memory / 2**30:.0f} GiB of memory" if memory else None,
        ),
    )
    yield "Instruction sets", _facts(markup, *(found.get("cpu_flags") or ["none of those that matter"]))
    engines = [str(one) for one in (found.get("runtime") or {}).get("engines", ())]
    yield (
        "Engine",
        _facts(markup, run.get("engine") or "none", f"of {listed(engines)}" if engines else None),
    )
    versions: JsonMapping = found.get("distributions") or {}
    yield (
        "Software",
        _facts(
            markup,
            f"Python {found.get('python')}",
            *(f"{name} {version}" for name, version in versions.items()),
            found.get("system"),
        ),
    )
    load = found.get("load_before")
    yield (
        "Quiet",
        _facts(
            markup,
            None if load is None else f"load {load:.1f}",
            "under a hypervisor" if found.get("hypervisor") else "no hypervisor seen",
            f"frequency governor {found.get('governor') or 'unknown'}",
        ),
    )


def _facts(markup: Markup, *facts: str | None) -> str:
    return ", ".join(markup.text(fact) for fact in facts if fact)


def _has(view: View, cell: str, column: Column) -> bool:
    measured = view.measurement(cell, column)
    return measured is not None and measured.value is not None


def _names(view: View, cells: Iterable[str], markup: Markup) -> str:
    return listed([markup.name(view.name(cell)) for cell in cells])


def some(view: View, cells: Sequence[str], markup: Markup) -> str:
    """The names of cells, as many as a row has room for."""
    names = [markup.name(view.name(cell)) for cell in cells]
    if len(names) > NAMES_IN_A_ROW + 1:
        names[NAMES_IN_A_ROW:] = [f"{len(names) - NAMES_IN_A_ROW} more"]
    return listed(names)
