"""Recommend configs in words. Where the noise allows no pick, say what would."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qx.contract.records import Metric
from qx.report.wording import LONGEST, Markup, count, listed, names_in_row
from qx.results import numbers
from qx.results.columns import View
from qx.results.constraints import judges_answers
from qx.results.records import PickResult, UndecidedResult


def sentences(view: View, markup: Markup) -> Iterator[str]:
    """Yield sentences: what holds for all picks, the aims without a pick, then the picks."""
    results = view.results
    if not results.picks and not results.undecided:
        return
    yield from _caveats(view, markup)
    if len(results.front) == 1:
        (only,) = results.front
        yield f"There is only {markup.name(view.name(only))} to pick from."
        return
    for undecided in results.undecided:
        yield _no_pick(view, undecided, markup)
    for pick in results.picks:
        yield _pick(view, pick, markup)


def sentence(view: View, pick: PickResult | UndecidedResult, markup: Markup) -> str:
    """Return the sentence of one pick, or of an aim without one."""
    return _pick(view, pick, markup) if isinstance(pick, PickResult) else _no_pick(view, pick, markup)


def _caveats(view: View, markup: Markup) -> Iterator[str]:
    measuring = view.results.run.measuring
    if measuring is not None and measuring.quick and measuring.waves:
        stressed = markup.strong("This was a quick look")
        waves = count(measuring.waves, "wave")
        yield (
            f"{stressed} of {waves}, whose intervals are too narrow. Take its picks as first "
            f"guesses; a run without {markup.name('--quick')} decides."
        )
    elif measuring is not None and measuring.cut_short and measuring.waves:
        stressed = markup.strong("The time of the run was over")
        waves = count(measuring.waves, "wave")
        yield (
            f"{stressed} after {waves}, whose intervals are too narrow. Take its picks as first guesses; a "
            f"longer {markup.name('--max-time')} decides."
        )
    if not any(judges_answers(view.results.metrics[figure.metric]) for figure in view.axes):
        stressed = markup.strong("Quality is not judged")
        axes = listed([markup.text(str(figure)) for figure in view.axes])
        yield f"{stressed}: no axis of the front judges the answers of configs. Picks go by {axes} alone."


def _is_of_items(metric: Metric) -> bool:
    """Whether more items would make the metric's intervals narrower."""
    return metric.samples in ("per_item", "per_set")


def _pick(view: View, pick: PickResult, markup: Markup) -> str:
    sentence = f"For {_aim_in_words(pick, markup)}, pick {markup.name(view.name(pick.cell))}"
    within = _margin(view.results.metrics[pick.metric])
    if pick.tied_with:
        names, decision = names_in_row(view, pick.tied_with, markup), _explain_choice(view, pick, markup)
        sentence += f"; tied with {names}{within}, {decision}"
    if pick.not_told_apart:
        sentence += f"; {names_in_row(view, pick.not_told_apart, markup)} may be as good{within}"
    return f"{sentence}."


def _explain_choice(view: View, pick: PickResult, markup: Markup) -> str:
    """Say why this cell was picked from those that are tied."""
    if pick.decided_by:
        return f"decided by {markup.name(pick.decided_by)}"
    if all((front := view.front(cell)) is not None and front.dominated_by for cell in pick.tied_with):
        return "the only one that no other dominates"
    return "and no other axis decides"


def _no_pick(view: View, undecided: UndecidedResult, markup: Markup) -> str:
    metric = view.results.metrics[undecided.metric]
    names = names_in_row(view, undecided.contenders, markup)
    stressed = markup.strong("No pick")
    sentence = f"{stressed} for {_aim_in_words(undecided, markup)}: "
    measured = view.measurement(undecided.contenders[0], undecided.figure)
    if measured is not None and measured.without_interval:
        return f"{sentence}{markup.text(measured.without_interval)}."
    if undecided.half_width is None:
        return f"{sentence}too few samples to tell {names} apart. {_advice(view, undecided, markup)}"
    cause = "the items are too few" if _is_of_items(metric) else "the noise is too large"
    half = amount(undecided.half_width, metric)
    return f"{sentence}{cause} (±{half}) to tell {names} apart. {_advice(view, undecided, markup)}"


def _advice(view: View, undecided: UndecidedResult, markup: Markup) -> str:
    """Say what would allow a pick."""
    if _is_of_items(view.results.metrics[undecided.metric]):
        items = undecided.items
        return "More items are needed." if items is None else f"About {rounded(items):,} items are needed."
    quieter = f"a quieter machine (see {markup.name('qx doctor')})"
    if any(floor.alarm and floor.figure == undecided.figure for floor in view.results.noise_floor):
        return (
            f"More seconds would not help, since even the control differs from the baseline: use {quieter}."
        )
    if undecided.seconds is None:
        return f"More seconds ({markup.name('--budget')}) may help, or {quieter}."
    if undecided.seconds > LONGEST:
        return f"More than a day of measuring would be needed: use {quieter}."
    measuring = view.results.run.measuring
    needed = _duration(undecided.seconds)
    spent = _duration(0.0 if measuring is None else measuring.seconds)
    command = markup.name(measuring_options(view, undecided.seconds))
    command += f" without {markup.name('--quick')}" if view.results.run.is_quick else ""
    return f"About {needed} of measuring are needed ({command}; this run: {spent}), or {quieter}."


def measuring_options(view: View, seconds: float) -> str:
    """Return the options of ``qx run`` with which it measures for so many seconds."""
    measuring = view.results.run.measuring
    options = [f"--budget {rounded(seconds)}"]
    if measuring is not None and measuring.ended_by == "precision":
        # Without it the run would end before the budget is spent.
        options.append(f"--precision {float(format(measuring.precision / 2, '.1g')):g}")
    return " ".join(options)


def _duration(seconds: float) -> str:
    """Return an estimate in seconds, minutes or hours, in words."""
    for unit, word in ((3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 5 * unit:
            return f"{rounded(seconds / unit):,} {word}"
    return f"{rounded(seconds):,} s"


def rounded(number: float) -> int:
    """Round an estimate up to two digits."""
    return math.ceil(float(format(number, ".2g")))


def _aim_in_words(pick: PickResult | UndecidedResult, markup: Markup) -> str:
    parameters = pick.figure.parameters
    return markup.strong(markup.text(pick.aim)) + (f" ({markup.text(parameters)})" if parameters else "")


def _margin(metric: Metric) -> str:
    """Return the largest difference within a tie, the metric's margin, as `` within 0.5 %``."""
    return f" within {amount(metric.margin, metric)}" if metric.margin else ""


def amount(size: float, metric: Metric) -> str:
    """Return the size of a difference: in percent for a metric compared by ratio, else in its unit."""
    scale, unit = (1.0, metric.unit) if metric.compare == "difference" else (100.0, "%")
    if unit == "fraction":
        scale, unit = 100.0, "pt"
    number = numbers.significant(scale * size, 2)
    return numbers.with_unit(number.rstrip("0").rstrip(".") if "." in number else number, unit)
