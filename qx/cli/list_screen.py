"""Show the list of plugins on one screen of a terminal: what is ready, what is not and why, the names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from qx.contract.installation import install_command
from qx.contract.requirements import install_arguments
from qx.foreign import to_terminal
from qx.host.catalogue import Entry, State
from qx.report.styled import Line, Style, fitted, line, listed_within, width_of, wrapped

#: States of plugins in words, in the order in which a screen lists them.
STATES: dict[State, str] = {
    "broken": "BROKEN",
    "conflict": "CONFLICT",
    "incompatible": "INCOMPATIBLE",
    "left_out": "left out",
    "unavailable": "not usable here",
}
#: Indent, in characters, of the names on a screen.
NAMES_INDENT = 11


def screen(entries: Sequence[Entry], width: int) -> Iterator[Line]:
    """Yield what is ready, what is not and why, and the names of what is ready by kind."""
    ready = [entry for entry in entries if entry.state == "ready"]
    states = Counter(entry.state for entry in entries)
    kinds = Counter(entry.kind or "plugin" for entry in ready)
    counts = [f"{number} {kind}{'s' * (number > 1)}" for kind, number in kinds.items()]
    rest = [f"{states[state]} {word}" for state, word in STATES.items() if states[state]]
    text = "; ".join([f"ready: {', '.join(counts) or 'nothing'}", *rest])
    yield line((fitted(text, width), "strong"))
    yield from _not_ready(entries, width)
    for kind in kinds:
        names = ", ".join(to_terminal(entry.name) for entry in ready if (entry.kind or "plugin") == kind)
        yield line()
        begin = f"{kind}s"
        first, *more = wrapped(names, width - NAMES_INDENT)
        yield line((f"{begin:<{NAMES_INDENT}}", "strong"), first)
        yield from (line(" " * NAMES_INDENT + text) for text in more)
    yield line()
    yield line(("qx list -v says what each is, qx show NAME all about one", "faint"))


def _not_ready(entries: Sequence[Entry], width: int) -> Iterator[Line]:
    """Yield a line for each reason why plugins are not ready, and one for all that pip can install."""
    by_reason: dict[tuple[State, str], list[str]] = {}
    arguments: list[str] = []
    to_install: list[Entry] = []
    for entry in entries:
        if entry.state == "ready":
            continue
        name, reason = to_terminal(entry.name), to_terminal(entry.reason)
        if entry.state == "unavailable" and (required := install_arguments(reason)):
            to_install.append(entry)
            arguments += required
        else:
            by_reason.setdefault((entry.state, reason), []).append(name)
    for state, word in STATES.items():
        style: Style = "bad" if word.isupper() else "plain"
        for (reason_state, reason), names in by_reason.items():
            if reason_state == state:
                begin = f"{word} ({len(names)}): "
                room = width // 3
                named = fitted(names[0], room) if len(names) == 1 else listed_within(names, room, "plugin")
                yield line((begin, style), fitted(f"{named}: {reason}", max(8, width - width_of(begin))))
    if to_install:
        distributions = (entry.distribution for entry in to_install if entry.distribution)
        command = to_terminal(install_command(arguments, distributions))
        yield from (
            line((text, "plain")) for text in wrapped(f"not installed ({len(to_install)}): {command}", width)
        )
