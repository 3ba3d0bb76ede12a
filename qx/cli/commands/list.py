"""``qx list``: list every plugin, with its kind and state."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from qx.cli.arguments import add_cache_options, add_verbose_option, wants_screen
from qx.foreign import to_terminal
from qx.report.styled import (
    Line,
    Style,
    fitted,
    has_colour,
    line,
    listed_within,
    screen_width,
    to_text,
    width_of,
    wrapped,
)
from qx.values import JsonObject

if TYPE_CHECKING:
    from qx.cli import Commands
    from qx.host.catalogue import Entry, State


#: Least width, in characters, of a summary beside the names.
MIN_SUMMARY_WIDTH = 30
#: Indent, in characters, of the names on a screen.
NAMES_INDENT = 11
#: Longest line, in characters.
MAX_WIDTH = 120
#: States of plugins in words, in the order in which a screen lists them.
STATES: dict[State, str] = {
    "broken": "BROKEN",
    "conflict": "CONFLICT",
    "incompatible": "INCOMPATIBLE",
    "left_out": "left out",
    "unavailable": "not usable here",
}
#: Indent, in characters, of a summary below the names.
SUMMARY_INDENT = 12


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "list",
        help="list every plugin with its kind and state",
        description="List every plugin with its kind, state, and summary or the reason why it is not ready.",
    )
    kinds = ("config", "metric", "workload", "loader", "wrapper")
    parser.add_argument("--kind", choices=kinds, help="only these, and those whose kind is not known")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    add_cache_options(parser)
    add_verbose_option(parser)
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the list of plugins."""
    from qx.host.host import Host

    # The kind of a broken plugin may not be known, so such plugins are shown for every kind.
    kinds = (arguments.kind, None)
    entries = Host.discover(arguments.plugins, trust_cache=arguments.trust_cache).entries
    shown = [entry for entry in entries if arguments.kind is None or entry.kind in kinds]
    if arguments.json:
        print(json.dumps([as_json(entry) for entry in shown], indent=2))
    elif shown and wants_screen(arguments):
        text = to_text(_screen(shown, min(screen_width(), MAX_WIDTH)), colour=has_colour(sys.stdout))
        print(text)
    elif shown:
        # Summaries fit beside the names from 80 columns, and lines beyond 120 are hard to read.
        width = min(max(shutil.get_terminal_size((100, 24)).columns, 80), MAX_WIDTH)
        print("\n".join(_lines(shown, width)))
    else:
        print("There are no plugins.")
    return 0


def as_json(entry: Entry) -> JsonObject:
    """Return the JSON object that describes a plugin."""
    reference = entry.reference
    return {
        "kind": entry.kind,
        "name": entry.name,
        "state": entry.state,
        "reason": entry.reason,
        "summary": entry.record.summary if entry.record else "",
        "distribution": entry.distribution,
        "version": entry.version,
        "module": reference.module if reference else None,
        "path": reference.path if reference else None,
        "attribute": reference.attribute if reference else None,
    }


def _lines(entries: Sequence[Entry], width: int) -> Iterator[str]:
    """Yield a table for each provider. Its name is a heading, which leaves rows room for the summaries."""
    names = max(len(to_terminal(entry.name)) for entry in entries)
    states = max(len(entry.state) for entry in entries)
    providers = list(dict.fromkeys(entry.provider for entry in entries))
    ordered = sorted(entries, key=lambda entry: providers.index(entry.provider))
    for provider, rows in groupby(ordered, key=lambda entry: entry.provider):
        if provider != providers[0]:
            yield ""
        yield to_terminal(provider)
        for entry in rows:
            start = f"  {entry.kind or '?':<8}  {to_terminal(entry.name):<{names}}  {entry.state:<{states}}  "
            text = to_terminal(entry.reason or (entry.record.summary if entry.record else _wraps(entry)))
            # The summary stands beside the names, or below where they leave it no room.
            is_beside = width - len(start) >= MIN_SUMMARY_WIDTH
            indent = len(start) if is_beside else SUMMARY_INDENT
            first, *rest = textwrap.wrap(text, width - indent, break_on_hyphens=False) or [""]
            yield (start + first if is_beside else start).rstrip()
            yield from (" " * indent + line for line in (rest if is_beside else (first, *rest)))


def _screen(entries: Sequence[Entry], width: int) -> Iterator[Line]:
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
    from qx.contract.requirements import install_arguments, install_command

    by_reason: dict[tuple[State, str], list[str]] = {}
    arguments: list[str] = []
    to_install: list[str] = []
    for entry in entries:
        if entry.state == "ready":
            continue
        name, reason = to_terminal(entry.name), to_terminal(entry.reason)
        if entry.state == "unavailable" and (required := install_arguments(reason)):
            to_install.append(name)
            arguments += required
        else:
            by_reason.setdefault((entry.state, reason), []).append(name)
    for state, word in STATES.items():
        style: Style = "bad" if word.isupper() else "plain"
        for (reason_state, reason), names in by_reason.items():
            if reason_state == state:
                begin = f"{word} ({len(names)}): "
                named = listed_within(names, width // 3, "plugin")
                yield line((begin, style), fitted(f"{named}: {reason}", max(8, width - width_of(begin))))
    if to_install:
        yield from (
            line((text, "plain"))
            for text in wrapped(f"not installed ({len(to_install)}): {install_command(arguments)}", width)
        )


def _wraps(entry: Entry) -> str:
    return f"wraps {', '.join(entry.hooks)}"
