"""What a screen says of configs that have no row: one line for each reason, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from qx.contract.installation import install_command
from qx.contract.requirements import install_arguments
from qx.foreign import to_terminal
from qx.report.styled import Line, Style, fitted, line, listed_within, width_of
from qx.results.columns import View

#: Largest number of lines, so that a run of many failures stays on a screen.
MOST_LINES = 8
#: What is said of cells without figures, by their outcome; of other outcomes the outcome itself.
TITLES = {"unsupported": "cannot treat this model", "unavailable": "not usable here"}
NOT_INSTALLED = "not installed"
#: Widest name of a stage.
STAGE_WIDTH = 24
#: Share of the width of a line that names of configs may take, where a reason follows.
NAMES_SHARE = 0.5


def lines(view: View, names: Mapping[str, str], width: int) -> list[Line]:
    """Return a line for each reason why configs have no row, those that failed first.

    ``names`` are the names of the cells, safe for a terminal and short.
    """
    drawn = list(_lines(view, names, width))
    if len(drawn) <= MOST_LINES:
        return drawn
    rest = len(drawn) - MOST_LINES + 1
    return [*drawn[: MOST_LINES - 1], line((f"and {rest} further reasons", "faint"))]


def _lines(view: View, names: Mapping[str, str], width: int) -> Iterator[Line]:
    by_reason: dict[tuple[str, str, str], list[str]] = {}
    to_install: dict[str, list[str]] = {}
    for cell in view.rows:
        result = view.ended(cell)
        if result.outcome == "ok":
            continue
        cause = to_terminal(result.cause or "no cause is known")
        if result.outcome == "unavailable" and (arguments := install_arguments(cause)):
            to_install[names[cell]] = arguments
        else:
            stage = "" if result.outcome in TITLES else fitted(to_terminal(result.stage or ""), STAGE_WIDTH)
            by_reason.setdefault((result.outcome, stage, cause), []).append(names[cell])
    order = ["unsupported", "unavailable"]
    reasons = sorted(by_reason, key=lambda reason: order.index(reason[0]) if reason[0] in order else -1)
    for reason in reasons:
        yield _reason(*reason, by_reason[reason], width)
    if to_install:
        yield _installation(to_install, width)


def _reason(outcome: str, stage: str, cause: str, cells: Sequence[str], width: int) -> Line:
    """Return the line of one reason: how many, why, and which."""
    title = TITLES.get(outcome, outcome.upper().replace("_", " ") + (f" in {stage}" if stage else ""))
    style: Style = "plain" if outcome in TITLES else "bad"
    begin = f"{title} ({len(cells)}): " if len(cells) > 1 else f"{title}: "
    listed = listed_within(cells, int(NAMES_SHARE * (width - width_of(begin))))
    return line((begin, style), fitted(f"{listed}: {cause}", max(8, width - width_of(begin))))


def _installation(to_install: Mapping[str, Sequence[str]], width: int) -> Line:
    """Return the line of configs whose packages are not installed, with the command that installs them."""
    command = install_command(argument for arguments in to_install.values() for argument in arguments)
    cells = list(to_install)
    begin = f"{NOT_INSTALLED} ({len(cells)}): "
    room = width - width_of(begin)
    if width_of(command) > room:
        command = "qx list says how to install them"
    left = room - width_of(command) - len(": ")
    listed = listed_within(cells, left)
    if width_of(listed) <= left and len(cells) <= 2:
        return line(begin, f"{listed}: ", (command, "strong"))
    return line(begin, (fitted(command, room), "strong"))
