"""Write the sentences around the tables, which Markdown and a terminal share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from attrs import frozen

from qx.amounts import duration_in_words, size_in_words
from qx.contract.devices import DeviceFacts
from qx.contract.figures import Figure
from qx.contract.records import LayerRow, as_word
from qx.foreign import to_terminal
from qx.report import threads
from qx.report.precision import budget_in_words, reached
from qx.results import numbers
from qx.results.columns import ANOTHER_NETWORK, View
from qx.results.quality_precision import words_of
from qx.results.records import NOT_APPLICABLE, Comparison, Measurement
from qx.results.run_record import Measuring, WorkloadRecord
from qx.statistics.sequential import level_at_a_look
from qx.values import OptionValues

#: Number of names that a row of a table has room for.
NAMES_IN_A_ROW = 3
#: Largest number of cells that a sentence about rounds names.
MOST_NAMED = 5

#: Number of layers, and of numbers of bits, that a sentence about a table by layer names.
LAYERS_IN_A_SENTENCE, BITS_IN_A_SENTENCE = 5, 6

#: Ratio of measuring time to budget above which measuring is said to have taken longer.
LATE_RATIO = 1.2
#: Longest measuring that is recommended, in seconds: of a longer one the machine will not be the same.
LONGEST = 24 * 3600

#: Headers of the columns that say whether a config is on the front.
FRONT_COLUMNS = ("on the front", "resampled runs")
FRONT_EXPLAINED = (
    "yes: no other config dominates it. no: one does, that is, it is shown to be better on some axis, and on "
    "none worse by more than the metric's margin. perhaps: none is shown to dominate it, but in most "
    "resampled runs one does. 12 of 100: it is on the front in 12 of 100 resampled runs, which draw the "
    "waves and the items of this run again."
)
CONTROL = "The control is the baseline, measured a second time. Whatever it shows is noise (95 % intervals)."
PAIRS = (
    "The same recipe in two runtimes should behave the same. The columns show on how many items both predict "
    "the same, and how the config compares with its counterpart."
)
PAIR_COLUMNS = ("config", "counterpart", "same prediction")
NO_CONTROL = "The run has no control, so the noise floor is not known."
#: Reasons why a difference is not called clear, by the key of its mark.
UNCLEAR = {
    "interval": 'not clear, the interval includes "no change"',
    "noise floor": "not clear, no larger than the noise that the control shows",
    "correction": "not clear once corrected for the number of tests (Holm)",
    "builds": "no larger than what another draw of calibration items may change",
    "margin": "too small to matter, within the metric's margin",
}


@frozen
class Markup:
    """Functions that write a name, a stressed word and foreign text in one medium."""

    name: Callable[[str], str]
    strong: Callable[[str], str]
    text: Callable[[str], str]


#: Markup of lines on a terminal, which stress no word.
PLAIN = Markup(name=to_terminal, strong=str, text=to_terminal)


def listed(words: Sequence[str], last: str = "and") -> str:
    """Return words as a list in a sentence: ``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def count(number: int, word: str, plural: str | None = None) -> str:
    """Return a number with its noun: ``1 wave``, ``6 waves``, ``10,000 items``."""
    return f"{number:,} {word if number == 1 else plural or word + 's'}"


def evaluated_items(workload: WorkloadRecord) -> str:
    """Return how many items were evaluated, and of how many: ``200 of 1,000 items``; empty if not known."""
    if workload.items is None:
        return ""
    if workload.total_items is None or workload.total_items <= workload.items:
        return count(workload.items, "item")
    return f"{workload.items:,} of {count(workload.total_items, 'item')}"


def title(view: View, markup: Markup) -> str:
    """Name the workloads, where their data come from, and how many items they have."""
    parts = []
    for name, workload in view.results.run.workloads.items():
        source = f" on {markup.text(workload.source)}" if workload.source else ""
        items = evaluated_items(workload)
        parts.append(markup.name(name) + source + (f" ({items})" if items else ""))
    return listed(parts)


def failed_baselines(view: View, markup: Markup) -> Iterator[str]:
    """Say for each workload whose baseline failed that there is nothing to compare with."""
    for part in view.parts:
        if (
            part.baseline not in part.rows
            or part.ended(part.baseline).outcome == "ok"
            or _is_unprepared(part)
        ):
            continue
        stressed = markup.strong("The baseline failed, so nothing is compared with it and nothing is picked.")
        # With several workloads the id of the cell names its workload.
        yield f"{stressed} {markup.name(view.name(part.baseline))}: {ending(part, part.baseline, markup)}"


def _is_unprepared(view: View) -> bool:
    """Whether the workload of every cell could not be prepared."""
    return bool(view.rows) and all(view.ended(cell).stage == "prepare" for cell in view.rows)


def another_network(view: View, markup: Markup) -> str | None:
    """Name the cells that compute something other than the baseline. None where there is no such cell."""
    if not view.another_network:
        return None
    cells = [
        f"{markup.name(view.name(outputs.cell))} ({_decibels(outputs.sqnr_db)})"
        for outputs in view.another_network
    ]
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
    """Say that the results show no accuracy, or that nothing was measured. None where neither is so."""
    ((name, workload),) = view.results.run.workloads.items()
    if _is_unprepared(view):
        return f"{markup.strong('Nothing was measured')} of {markup.name(name)}: it could not be prepared."
    if workload.trained is False:
        return (
            f"{markup.strong('Not known to be trained')}: no trained weights were given, so nothing is "
            f"said of right and wrong answers. Give {markup.name('--weights FILE')}, or "
            f"{markup.name('--trained')} where the model is made with trained weights. "
            f"{_nearness(view, markup)}Sizes, times and memory are those that trained weights have."
        )
    return None


def _nearness(view: View, markup: Markup) -> str:
    """Say which axes of the front compare outputs with the baseline's; empty where none does."""
    metrics = view.results.metrics
    names = [markup.name(axis.metric) for axis in view.axes if "outputs" in metrics[axis.metric].derived_from]
    if not names:
        return ""
    baseline = markup.name(view.name(view.baseline))
    return f"Quality is how near outputs are to those of {baseline} ({listed(names)}). "


#: What was not done for cells for which a run's time was too short, by the phase.
UNDONE = {"build": "not built", "evaluate": "not evaluated", "measure": "not timed", "derive": "not derived"}


#: What ended a run, by the signal.
SIGNALS = {"SIGINT": "Ctrl-C", "SIGTERM": "SIGTERM"}


def unfinished(view: View, markup: Markup) -> str | None:
    """Say what the run's time was too short for, or the user's interruption left out. None if nothing."""
    run = view.results.run
    limit, measuring, interruption = run.time_limit, run.measuring, run.interruption
    if limit is None and interruption is None:
        return None
    left_out = [
        *(() if limit is None else limit.left_out),
        *(() if interruption is None else interruption.left_out),
    ]
    missing = [
        f"{UNDONE.get(part.phase, part.phase)}: {_names(view, part.cells, markup)}" for part in left_out
    ]
    if measuring is not None and measuring.cut_short and measuring.waves:
        waves = count(measuring.waves, "wave")
        missing.append(f"{waves} in all, which is too few: the intervals are too narrow, if there are any")
    if interruption is not None:
        signal = SIGNALS.get(interruption.signal, interruption.signal)
        rest = (
            f": {'; '.join(missing)}" if missing else ", before its intervals were as narrow as was asked for"
        )
        return f"{markup.strong('Results of a part')}, since the run was interrupted ({signal}){rest}."
    if not missing or limit is None:
        return None
    option = markup.name(f"--max-time {duration_in_words(limit.seconds)}")
    return f"{markup.strong('The time of the run was over')} ({option}): {'; '.join(missing)}."


def provenance(view: View, markup: Markup) -> str:
    """Name the command, the seed, the run's id, when it started and how long it took."""
    run = view.results.run
    parts = [
        f"Command {markup.name(' '.join(run.command) or 'unknown')}",
        f"seed {run.seed}",
        f"run {markup.text(run.id)}",
        f"started {datetime.fromisoformat(run.started):%Y-%m-%d %H:%M} UTC",
        f"took {run.seconds['total']:.0f} s",
    ]
    if len(run.sittings) > 1:
        # The last sitting is what the seconds of the run are of.
        total = sum(sitting.seconds for sitting in run.sittings)
        parts[-1] = f"took {total:.0f} s in {len(run.sittings)} sittings"
    return ", ".join(parts) + "."


def legend(view: View, markup: Markup) -> str:
    """Explain how to read the figures of the table."""
    metrics = view.results.metrics.values()
    sides = {
        side: [markup.name(metric.name) for metric in metrics if metric.better == side]
        for side in ("higher", "lower")
    }
    better = [f"{side} {listed(names)}" for side, names in sides.items() if names]
    sentences = []
    if any(measured.vs_baseline is not None for measured in view.results.measurements):
        sentences.append(f"Under each value: how it compares with {markup.name(view.name(view.baseline))}.")
    if any(metric.compare == "speedup" for metric in metrics):
        sentences.append("Speedups are baseline / config, so more is faster.")
        if any(map(view.has_runtime_baseline, view.rows)):
            sentences.append("runtime: the speedup over the fp32 config of the same runtime.")
    sentences.append("± and [ ]: 95 % interval (± its longer half).")
    if any(metric.unit == "fraction" for metric in metrics):
        sentences.append("pt: percentage points.")
    sentences += explain_marks(view.unclear, markup)
    sentences += [f"Better: {'; '.join(better)}."] if better else []
    settings = [
        f"{markup.name(name)} {markup.text(text)}"
        for name, values in view.results.run.metric_options.items()
        if (text := _settings(values))
    ]
    return " ".join([*sentences, f"Options: {'; '.join(settings)}."] if settings else sentences)


def explain_marks(reasons: Iterable[str], markup: Markup) -> list[str]:
    """Return a sentence for each mark that says what it means. ``reasons`` are keys of marks."""
    return [f"{markup.name(numbers.MARKS[reason])} behind a figure: {UNCLEAR[reason]}." for reason in reasons]


def _settings(options: OptionValues) -> str:
    """Return the options with their values, without texts that are empty."""
    return ", ".join(f"{name}={as_word(value)}" for name, value in options.items() if value != "")


# How cells ended, and the front -------------------------------------------------------------------


def ending(view: View, cell: str, markup: Markup, cause: str | None = None) -> str:
    """Say how a cell failed: outcome, stage and cause, which is the recorded one by default."""
    result = view.ended(cell)
    place = f" in {markup.text(result.stage)}" if result.stage else ""
    reason = markup.text(cause or result.cause or "no cause is known")
    return f"{markup.strong(result.outcome.replace('_', ' '))}{place}: {reason}"


def log_of(view: View, cell: str, markup: Markup) -> str:
    """Name the file with the tracebacks of a cell and what plugins printed for it; empty if there is none."""
    log = view.ended(cell).log
    return f" (log: {markup.name(log)})" if log else ""


def explain_place(view: View, cell: str, markup: Markup) -> str:
    """Say why a cell is on the front or not: what dominates it, what it is tied with, how it ended."""
    if view.ended(cell).outcome != "ok":
        return ending(view, cell, markup) + log_of(view, cell, markup)
    if any(outputs.cell == cell for outputs in view.another_network):
        return "not judged: not the same network any more"
    front = view.front(cell)
    if front is None:
        missing = [str(figure) for figure in view.axes if not _has_value(view, cell, figure)]
        if missing:
            return f"no figures of {listed([markup.text(title) for title in missing])}"
        return "not judged: samples that are not positive have no ratio" if view.axes else "not judged"
    if front.dominated_by:
        return f"dominated by {names_in_row(view, front.dominated_by, markup)}"
    reasons = [f"tied with {names_in_row(view, front.tied_with, markup)}"] if front.tied_with else []
    if view.on_front(cell) == "perhaps":
        reasons.append("probably dominated, but not shown to be")
    return "; ".join(reasons) or "nothing dominates it"


def front(view: View, markup: Markup) -> str:
    """Describe the front in a sentence or two."""
    members, perhaps = (
        [cell for cell in view.rows if view.on_front(cell) == word] for word in ("yes", "perhaps")
    )
    axes = listed([markup.text(str(figure)) for figure in view.axes])
    if not members and not perhaps:
        return "There is no front: no config has figures on all axes" + (f" ({axes})." if axes else ".")
    if members:
        text = f"On the front, by {axes}: {_names(view, members, markup)}."
        text += f" Perhaps too: {_names(view, perhaps, markup)}." if perhaps else ""
    else:
        text = f"Perhaps on the front, by {axes}: {_names(view, perhaps, markup)}."
    for tie in _ties(view, [*members, *perhaps]):
        text += f" {_names(view, tie, markup)} are tied: no axis tells them apart by more than its margin."
    return text


def _ties(view: View, members: Iterable[str]) -> list[tuple[str, ...]]:
    """Return groups of cells in which each is tied with every other; no group is part of an earlier one."""
    tied = {cell: set(result.tied_with) for cell in members if (result := view.front(cell)) is not None}
    groups: list[tuple[str, ...]] = []
    for cell in tied:
        group = [cell]
        for other in tied:
            if other not in group and all(other in tied[member] for member in group):
                group.append(other)
        if len(group) > 1 and not any(set(group) <= set(earlier) for earlier in groups):
            groups.append(tuple(member for member in tied if member in group))
    return groups


def failures(view: View, markup: Markup) -> Iterator[str]:
    """Say which metrics failed in cells that otherwise ended well, and why."""
    failed = {(measured.cell, measured.metric): measured for measured in view.without_figures}
    for measured in failed.values():
        cell, metric = markup.name(view.name(measured.cell)), markup.name(measured.metric)
        cause = markup.text(measured.cause or "no cause is known")
        log = log_of(view, measured.cell, markup)
        yield f"{cell}: {metric} {markup.strong(measured.outcome.replace('_', ' '))}: {cause}{log}"


def inapplicable(view: View, markup: Markup) -> Iterator[str]:
    """Say which metrics do not apply to this workload, and why."""
    names_by_cause: dict[str | None, dict[str, None]] = {}
    for measured in view.results.measurements:
        outcomes = measured.outcome, view.ended(measured.cell).outcome
        if outcomes == ("unsupported", "ok") and measured.cause != NOT_APPLICABLE:
            names_by_cause.setdefault(measured.cause, {})[measured.metric] = None
    for cause, names in names_by_cause.items():
        shown = listed([markup.name(name) for name in names])
        verb = "does" if len(names) == 1 else "do"
        yield f"{shown} {verb} not apply: {markup.text(cause or 'no reason is known')}."


def notes(view: View, markup: Markup) -> Iterator[str]:
    """Yield the notes of configs on their artifacts."""
    for cell in view.rows:
        for note in view.ended(cell).notes:
            yield f"{markup.name(view.name(cell))}: {markup.text(note)}"


def layers(view: View, markup: Markup) -> Iterator[str]:
    """Yield a sentence about each table by layer, with the layers of the largest errors."""
    for cell in view.rows:
        if rows := view.ended(cell).layers:
            sentences = [f"{count(len(rows), 'layer')}{_bits(rows)}.", *_worst_layers(rows, markup)]
            yield f"{markup.name(view.name(cell))}: {' '.join(sentences)}"


def _bits(rows: Sequence[LayerRow]) -> str:
    """Say how many layers have weights of how many bits; empty where that is not known of any."""
    by_bits = Counter(row.bits for row in rows if row.bits is not None)
    ascending = sorted(by_bits.items())
    shown = [f"{number:,} in {bits:g} bits" for bits, number in ascending[:BITS_IN_A_SENTENCE]]
    if rest := sum(number for _, number in ascending[BITS_IN_A_SENTENCE:]):
        shown.append(f"{rest:,} in more")
    return f", {listed(shown)}" if shown else ""


def _worst_layers(rows: Sequence[LayerRow], markup: Markup) -> Iterator[str]:
    errors = [(row.error, row) for row in rows if row.error is not None]
    worst = sorted(errors, key=lambda pair: pair[0], reverse=True)[:LAYERS_IN_A_SENTENCE]
    if worst:
        shown = [
            f"{markup.name(row.name)} {numbers.significant(100 * error)} %"
            + ("" if row.bits is None else f" ({row.bits:g} bits)")
            for error, row in worst
        ]
        yield f"Largest relative errors: {', '.join(shown)}."


# How far it can be trusted ------------------------------------------------------------------------


def alarm(view: View, markup: Markup) -> str | None:
    """Say that the timings are not to be trusted. None where the control raises no alarm."""
    alarms = [floor for floor in view.results.noise_floor if floor.alarm]
    if not alarms:
        return None
    titles = listed([markup.text(str(floor.figure)) for floor in alarms])
    is_timed = any(view.results.metrics[floor.metric].phase == "block" for floor in alarms)
    stressed = markup.strong(f"The {'timings' if is_timed else 'figures'} of this run are not to be trusted.")
    return (
        f"{stressed} In {titles} the control, which is a copy of the baseline, differs from it by more than "
        f"chance (99.9 %). Something disturbed the run: {markup.name('qx doctor')} says what to look at."
    )


def noise_floor(view: View) -> Iterator[tuple[str, str, str, bool]]:
    """Yield a title, the control's difference, its interval and whether it is an alarm, for each metric."""
    metrics_shown = {floor.metric for floor in view.results.noise_floor}
    for floor in view.results.noise_floor:
        if metrics_shown & {*view.results.metrics[floor.metric].derived_from}:
            continue
        unit = view.results.metrics[floor.metric].unit
        if floor.kind == "difference":
            figure = numbers.difference(floor.value, floor.ci, unit)
        else:
            figure = numbers.ratio_interval(floor.value, floor.ci)
        yield (str(floor.figure), *figure, floor.alarm)


def measuring(view: View, markup: Markup) -> str:
    """Say what ended the measuring, how much was measured, and how precise it became."""
    measuring = view.results.run.measuring
    if measuring is None:
        return "Nothing was measured."
    precision, budget = measuring.precision, measuring.budget
    is_late = measuring.seconds > LATE_RATIO * budget
    over = f" (the least number of waves took {measuring.seconds:.0f} s)" if is_late else ""
    reason = {
        "precision": f"Measuring ended with the precision asked for, ±{100 * precision:g} %",
        "budget": f"Measuring ended with its budget of {budget:g} s{over}, before the precision of "
        f"±{100 * precision:g} % was reached",
        "time limit": "Measuring ended with the time of the run, before the precision of "
        f"±{100 * precision:g} % was reached",
        "waves": "Measuring ended after the least number of waves, since no speedup was measured in them",
    }.get(measuring.ended_by, f"Measuring ended: {markup.text(measuring.ended_by)}")
    launches = sum(result.launches for result in view.results.cells.values())
    text = f"{reason}: {count(measuring.waves, 'wave')}, {count(launches, 'launch', 'launches')}"
    rounds = [number for counts in measuring.rounds.values() for number in counts.values()]
    text += f", up to {count(max(rounds), 'round')} a wave" if rounds else ""
    if measuring.fresh_waves and measuring.fresh_waves < measuring.waves:
        text += f", memory and start-up in {measuring.fresh_waves} of the waves"
    if (state := reached(view)) is not None:
        text += f"; the widest interval of a speedup is ±{numbers.significant(100 * state.widest, 2)} %"
        if state.seconds is not None and measuring.ended_by == "budget" and state.seconds > LONGEST:
            text += (
                f". By the variances seen, more than a day of measuring would be needed to reach it: use a "
                f"quieter machine (see {markup.name('qx doctor')}), or a wider {markup.name('--precision')}"
            )
        elif state.seconds is not None and measuring.ended_by == "budget":
            needed = budget_in_words(state.seconds)
            text += (
                f". By the variances seen, about {needed} s of measuring would reach it "
                f"({markup.name(f'--budget {needed}')})"
            )
    text += "."
    if measuring.quick and measuring.waves:
        stressed = markup.strong("This was a quick look")
        text = f"{stressed}: with so few waves the intervals are too narrow. {text}"
    if measuring.unsteady:
        pairs = [
            f"{markup.name(view.name(unsteady.cell))} ({unsteady.point.words})"
            for unsteady in measuring.unsteady
        ]
        text += f" Calls were not steady yet when warming ended: {listed(pairs)}."
    text += _fewer_rounds(view, markup)
    for loader, reason in measuring.not_forked.items():
        text += (
            f" Launches of {markup.name(loader)} could not be forked, so all were started fresh: "
            f"{markup.text(reason)}."
        )
    return text


def _fewer_rounds(view: View, markup: Markup) -> str:
    """Say which cells had fewer rounds than others, in how many waves, and why; else nothing."""
    run = view.results.run
    cells_by_waves: dict[tuple[int, int], list[str]] = {}
    for workload in run.workloads.values():
        measuring = workload.measuring or run.measuring
        if measuring is None:
            continue
        for cell, waves in measuring.fewer_rounds.items():
            if cell in view.rows:
                cells_by_waves.setdefault((waves, measuring.waves), []).append(cell)
    parts = []
    for (waves, total), cells in sorted(cells_by_waves.items(), reverse=True):
        names = [markup.name(view.name(cell)) for cell in cells]
        who = listed(names) if len(names) <= MOST_NAMED else f"{len(names)} configs"
        parts.append(f"for {who} in {waves} of {count(total, 'wave')}")
    if not parts:
        return ""
    return f" Fewer rounds were enough {listed(parts)}, since nothing that is decided here needs more."


def item_looks(view: View, markup: Markup) -> Iterator[str]:
    """Say after how many items the evaluation ended, where a precision was asked for, and why."""
    for workload in view.results.run.workloads.values():
        if (looks := workload.looks) is None:
            continue
        cell = "" if looks.widest_cell is None else markup.name(view.name(looks.widest_cell))
        judge = view.results.metrics.get(looks.metric or "")
        numbers_of_items = listed([f"{number:,}" for number in looks.planned])
        looked = (
            f" Widths were looked at after {numbers_of_items} items, which were fixed in advance, so "
            f"intervals over items are computed at {100 * level_at_a_look(0.95):.1f} % to hold with 95 %."
        )
        sentence = words_of(looks, judge, cell)
        yield f"{sentence[:1].upper()}{sentence[1:]}.{looked if len(looks.planned) > 1 else ''}"


def unkept_outputs(view: View) -> Iterator[str]:
    """Say that the outputs are too large to be kept, and which figures cannot be computed anew without."""
    for workload in view.results.run.workloads.values():
        if workload.outputs_not_kept is not None:
            yield (
                f"The outputs ({size_in_words(workload.outputs_not_kept)}) are too large to be kept with the "
                f"samples. How far they are from the baseline's was computed in the run, and is not computed "
                f"anew by qx report; all else is."
            )


def measurements_differing_in_rounds(view: View) -> Iterator[tuple[Measurement, Comparison]]:
    """Yield what compares differently when no call is left out, with the comparison in which some are."""
    for measured in view.results.measurements:
        # Details of metrics that time no calls belong to their authors.
        is_timed = view.results.metrics[measured.metric].phase == "block"
        compared = (measured.details.get("in_rounds") if is_timed else None) or {}
        if measured.vs_baseline is not None and compared.get("differs"):
            yield measured, measured.vs_baseline


def differing_in_rounds(view: View, markup: Markup) -> Iterator[str]:
    """Name the cells that compare differently when no call is left out."""
    for measured, baseline in measurements_differing_in_rounds(view):
        compared = measured.details["in_rounds"]
        title = markup.text(str(measured.figure))
        ratio, interval = numbers.ratio_interval(compared["value"], compared["ci"])
        undisturbed = " ".join(numbers.ratio_interval(baseline.value, baseline.ci))
        cell, direction = markup.name(view.name(measured.cell)), compared["differs"]
        yield (
            f"{cell}, {title}: {ratio} {interval} over all calls, {undisturbed} over those that nothing "
            f"disturbed, which the table shows. So at times, by itself or because of what else the machine "
            f"does, it fares {direction} against the baseline than the table says."
        )


def cluster(view: View, markup: Markup) -> Iterator[str]:
    """Say which machines of a cluster took part, what was lost on them, and what disturbed them."""
    record = view.results.run.cluster
    if record is None:
        return
    measured = [node for node in record.nodes if node.waves]
    names = listed([markup.text(node.name) for node in measured])
    on = f" named {markup.name(record.on)}" if record.on else ""
    yield (
        f"Made by {markup.name(record.executor)} on {len(record.nodes)} "
        f"machine{'s' * (len(record.nodes) != 1)} of one kind{on}"
        + (f"; timed on {names}." if measured else "; nothing was timed.")
    )
    for lost in record.lost:
        node = "" if lost.node is None else f" on {markup.text(lost.node)}"
        yield f"{markup.text(lost.task)} was lost{node} ({markup.text(lost.cause)})."
    for note in record.notes:
        yield f"{markup.text(note)}."


def by_sitting(view: View, markup: Markup) -> Iterator[str]:
    """Give values by sitting where they differ between the sittings of a run."""
    if len(view.results.run.sittings) < 2:
        return
    for measured in view.results.measurements:
        metric = view.results.metrics[measured.metric]
        parts = measured.details.get("by_sitting")
        if metric.phase not in ("fresh", "block") or not isinstance(parts, list):
            continue
        listed_values = [part.get("value") for part in parts if isinstance(part, dict)]
        values = [value for value in listed_values if isinstance(value, (int, float))]
        if len(values) < len(listed_values):
            continue
        shown = listed([markup.text(numbers.quantity(value, metric.unit)) for value in values])
        yield (
            f"{markup.name(view.name(measured.cell))}, {markup.text(str(measured.figure))}: it differs "
            f"between the sittings of this run ({shown}), so its interval is as wide as all of theirs. "
            f"Ratios to the baseline are taken within a wave, and so within a sitting."
        )


def deaths(view: View, markup: Markup) -> Iterator[str]:
    """Say which launches died, where and why."""
    measuring = view.results.run.measuring
    for death in () if measuring is None else measuring.deaths:
        if death.cell not in view.results.cells:
            continue
        cell, outcome = markup.name(view.name(death.cell)), death.outcome.replace("_", " ")
        stage = f" in {markup.text(death.stage)}" if death.stage else ""
        cause = markup.text(death.cause or "no cause is known")
        log = log_of(view, death.cell, markup)
        yield f"A launch of {cell} died in wave {death.wave + 1} ({outcome}{stage}): {cause}{log}"


def environment(view: View, markup: Markup) -> Iterator[tuple[str, str]]:
    """Yield the environment in lines, each with its topic."""
    environment, run = view.results.environment, view.results.run
    memory = environment.memory_bytes
    yield (
        "CPU",
        _facts(
            markup,
            environment.cpu,
            environment.machine,
            f"{count(environment.cpus, 'CPU')} to run on" if environment.cpus else None,
            f"{threads.counts(run)} serving",
            f"{memory / 2**30:.0f} GiB of memory" if memory else None,
        ),
    )
    yield (
        "Instruction sets",
        _facts(markup, *(environment.cpu_flags or ["none of those that matter"])),
    )
    for name, facts in environment.devices.items():
        yield f"Device {name}", _facts(markup, *_device(facts))
    if environment.devices and run.measuring is not None:
        yield "State of the device", _facts(markup, *_device_state(run.measuring))
    engines = f"of {listed(environment.engines)}" if environment.engines else None
    if environment.commit:
        yield "Commit", _facts(markup, environment.commit)
    yield "Engine", _facts(markup, run.engine or "none", engines)
    versions = [f"{name} {version}" for name, version in environment.distributions.items()]
    yield "Software", _facts(markup, f"Python {environment.python}", *versions, environment.system)
    load = environment.load_before
    yield (
        "Quiet",
        _facts(
            markup,
            None if load is None else f"load {load:.1f}",
            "under a hypervisor" if environment.hypervisor else "no hypervisor seen",
            f"frequency governor {environment.governor or 'unknown'}",
        ),
    )


def _device(facts: DeviceFacts) -> Iterator[str | None]:
    """Yield what a device is."""
    yield facts.product
    yield f"{facts.memory / 2**30:.0f} GiB" if facts.memory else None
    yield f"compute capability {facts.capability}" if facts.capability else None
    yield f"driver {facts.driver}" if facts.driver else None
    yield f"CUDA {facts.torch_cuda} in torch" if facts.torch_cuda else None
    yield f"clocks up to {facts.max_clock:,.0f} MHz" if facts.max_clock else None
    if facts.power_limit:
        is_default = facts.default_power_limit in (None, facts.power_limit)
        own = "" if is_default else f" of {facts.default_power_limit:.0f} W"
        yield f"power limit {facts.power_limit:.0f} W{own}"
    if facts.module_loading:
        yield f"kernels loaded {'at their first call' if facts.module_loading == 'LAZY' else 'at the start'}"


def _device_state(measuring: Measuring) -> Iterator[str | None]:
    """Yield what launches read of the device when they had warmed up."""
    readings = measuring.readings
    units = {"clock": "clocks {} MHz", "temperature": "{} °C", "power": "{} W"}
    for name, words in units.items():
        values = [value for reading in readings if (value := getattr(reading, name)) is not None]
        if values:
            ends = dict.fromkeys(f"{value:,.0f}" for value in (min(values), max(values)))
            yield words.format(" to ".join(ends))
    if not any(reading.clock is not None for reading in readings):
        yield "clocks, power and other processes not read"
    limits = Counter(limit for reading in readings for limit in reading.limits)
    for limit, times in limits.items():
        yield f"clocks held down in {times} of {len(readings)} readings ({limit})"
    if others := dict.fromkeys(other for reading in readings for other in reading.others):
        yield f"other processes used it: {'; '.join(list(others)[:3])}"


def _facts(markup: Markup, *facts: str | None) -> str:
    return ", ".join(markup.text(fact) for fact in facts if fact)


def _has_value(view: View, cell: str, figure: Figure) -> bool:
    measured = view.measurement(cell, figure)
    return measured is not None and measured.value is not None


def _names(view: View, cells: Iterable[str], markup: Markup) -> str:
    return listed([markup.name(view.name(cell)) for cell in cells])


def names_in_row(view: View, cells: Sequence[str], markup: Markup) -> str:
    """Name cells in words, as many as a row of a table has room for."""
    names = [markup.name(view.name(cell)) for cell in cells]
    if len(names) > NAMES_IN_A_ROW + 1:
        names[NAMES_IN_A_ROW:] = [f"{len(names) - NAMES_IN_A_ROW} more"]
    return listed(names)
