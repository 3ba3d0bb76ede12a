"""Show what a search gave: on a terminal, as Markdown, as JSON, and as the file of the recipe."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

from attrs import asdict

from qx.foreign import to_terminal
from qx.report.wording import count, listed
from qx.results import numbers
from qx.searching.race import BREAKS, DOMINATED
from qx.searching.recipe import write_recipe
from qx.searching.report import Finalist, Held, SearchReport, Step

#: Words for the verdict of the final.
VERDICTS = {"surely": "within", "perhaps": "not shown", "no": "beyond"}


def to_json(report: SearchReport) -> str:
    """Return everything as JSON."""
    fields = asdict(report)
    for name in ("recipe", "best_so_far"):
        recipe = getattr(report, name)
        fields[name] = None if recipe is None else {**asdict(recipe), "settings": list(recipe.settings)}
    return json.dumps(fields, indent=2) + "\n"


def to_recipe(report: SearchReport) -> str:
    """Return the text of the recipe's file. There must be a recipe."""
    assert report.recipe is not None
    facts = {
        "model": report.workload,
        "searched_for": f"least {report.minimized} with {', '.join(report.constraints)}",
        "verified_on": f"{report.held_out_items} items that took no part in the choice",
    }
    final = next(one for one in report.finalists if one.row == report.row)
    facts |= {f"sha256 {name}": digest for name, digest in final.files.items()}
    comment = "Taken by qx run, qx quantize and qx gate: --recipe FILE"
    return write_recipe(report.recipe, report.rules, facts, comment)


def to_terminal_text(report: SearchReport, command: Sequence[str]) -> str:
    """Return tables and sentences in plain text.

    ``command`` is the command line of a run of the same model and data, without the config.
    """
    return "\n".join(_lines(report, command, "simple"))


def to_markdown(report: SearchReport, command: Sequence[str]) -> str:
    """Return the same as Markdown."""
    return "\n".join(_lines(report, command, "github")) + "\n"


def _lines(report: SearchReport, command: Sequence[str], style: str) -> Iterator[str]:
    title = f"{report.workload}: least {report.minimized} with {', '.join(report.constraints)}"
    yield f"# {to_terminal(title)}" if style == "github" else to_terminal(title)
    yield ""
    yield (
        f"{count(report.candidates, 'candidate')} in the race; {report.choosing_items:,} items chose, and "
        f"{report.held_out_items:,} others verified."
    )
    for note in report.notes:
        yield f"{'- ' if style == 'github' else ''}{to_terminal(note)}"
    if report.path:
        yield ""
        yield _path(report.path, style)
    if report.finalists:
        yield ""
        yield _final(report.finalists, report, style)
        yield ""
        yield (
            f"The final measured afresh, on items that took no part in the choice. The intervals share an "
            f"error of 5 % between {count(len(report.finalists), 'finalist')}."
        )
    yield ""
    yield from _conclusion(report, command)


def _path(path: Sequence[Step], style: str) -> str:
    rows = [
        [
            str(step.look),
            f"{step.items:,}",
            str(step.waves) if step.waves else "",
            f"{step.entered:,}",
            _departures(step),
            step.best or "",
        ]
        for step in path
    ]
    return _table(["look", "items", "waves", "candidates", "left the race", "best so far"], rows, style)


def _departures(step: Step) -> str:
    """Return how many candidates left for each reason."""
    counts = Counter((departure.reason, _by(departure.reason, departure.by)) for departure in step.left)
    words = {BREAKS: "beyond {}", DOMINATED: "no better than {}"}
    parts = [f"{number} {words.get(reason, 'failed').format(by)}" for (reason, by), number in counts.items()]
    return "; ".join(parts) or "none"


def _by(reason: str, by: str) -> str:
    return by if reason in (BREAKS, DOMINATED) else ""


def _final(finalists: Sequence[Finalist], report: SearchReport, style: str) -> str:
    constraints = list(dict.fromkeys(held.constraint for one in finalists for held in one.held))
    rows = []
    for one in finalists:
        by_constraint = {held.constraint: held for held in one.held}
        figures = [_held(by_constraint.get(words)) for words in constraints]
        objective = "" if one.objective is None else numbers.exact_ratio(one.objective)
        rows.append([one.row, objective, *figures])
    return _table(["finalist", f"{report.metric} of fp32's", *constraints], rows, style)


def _held(held: Held | None) -> str:
    if held is None:
        return "not known"
    return f"{_figure(held)}: {VERDICTS[held.verdict]}"


def _figure(held: Held) -> str:
    ci = None if held.ci is None or held.ci[0] == held.ci[1] else held.ci
    if held.kind == "difference":
        parts = numbers.difference(held.value, ci, held.unit)
    elif held.kind == "ratio":
        parts = numbers.ratio_interval(held.value, ci)
    else:
        ends = "" if ci is None else f"[{', '.join(numbers.quantity(end, held.unit) for end in ci)}]"
        parts = numbers.quantity(held.value, held.unit), ends
    return " ".join(filter(None, parts))


def _conclusion(report: SearchReport, command: Sequence[str]) -> Iterator[str]:
    if report.recipe is not None:
        yield f"Recipe: {to_terminal(str(report.row))}"
        yield ""
        yield f"    {to_terminal(_command(command, report.recipe.config, report.recipe.settings))}"
        return
    if report.stopped or (report.best_so_far is not None and report.nearest is None):
        yield f"Stopped{': ' + report.stopped if report.stopped else ''}."
        if report.best_so_far is None:
            yield "Nothing can be said yet."
            return
        best = report.best_so_far
        yield "What seems best so far, which nothing has verified:"
        yield ""
        yield f"    {to_terminal(_command(command, best.config, best.settings))}"
        return
    yield f"None of {report.candidates:,} candidates is shown to meet {listed(report.constraints)}."
    if report.nearest is not None:
        figures = "; ".join(f"{held.metric} {_held(held)}" for held in report.nearest.held)
        yield to_terminal(f"Nearest: {report.nearest.row} ({figures}).")


def _command(command: Sequence[str], config: str, settings: Sequence[str]) -> str:
    return shlex.join([*command, "-c", config, *(word for text in settings for word in ("--set", text))])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], style: str) -> str:
    from tabulate import tabulate

    return tabulate(
        [list(map(to_terminal, row)) for row in rows], list(header), tablefmt=style, disable_numparse=True
    )
