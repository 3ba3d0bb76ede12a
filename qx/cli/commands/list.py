"""``qx list``: list every plugin, with its kind and state."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from qx.cli.arguments import add_cache_options, add_verbose_option, wants_screen
from qx.foreign import to_terminal
from qx.values import JsonObject

if TYPE_CHECKING:
    from qx.cli import Commands
    from qx.host.catalogue import Entry


#: Least width, in characters, of a summary beside the names.
MIN_SUMMARY_WIDTH = 30
#: Longest line, in characters.
MAX_WIDTH = 120
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
        from qx.cli.list_screen import screen
        from qx.report.styled import has_colour, screen_width, to_text

        print(to_text(screen(shown, min(screen_width(), MAX_WIDTH)), colour=has_colour(sys.stdout)))
    elif shown:
        # Summaries fit beside the names from 80 columns, and lines beyond 120 are hard to read.
        width = min(max(shutil.get_terminal_size((100, 24)).columns, 80), MAX_WIDTH)
        print("\n".join(_lines(shown, width)))
    else:
        print("There are no plugins.")
    _show_tracebacks(shown, debug=arguments.debug)
    return 0


def _show_tracebacks(entries: Sequence[Entry], *, debug: bool) -> None:
    """With ``debug``, print the tracebacks of plugins that are broken on standard error."""
    from qx.cli.streams import say, say_printed

    for entry in entries if debug else ():
        if entry.traceback:
            say(f"qx: {entry.complaint}")
            say_printed(entry.traceback)


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


def _wraps(entry: Entry) -> str:
    return f"wraps {', '.join(entry.hooks)}"
