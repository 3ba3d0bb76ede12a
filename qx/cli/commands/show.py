"""``qx show``: show everything about one plugin."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from qx.cli.arguments import add_cache_options
from qx.foreign import to_lines, to_printed, to_terminal
from qx.values import JsonObject

if TYPE_CHECKING:
    from qx.cli import Commands
    from qx.contract.records import Option
    from qx.host.catalogue import Entry


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "show",
        help="show all that is known of one plugin",
        description="Show all that is known of one plugin: its record, options, hooks, and where it is.",
    )
    parser.add_argument("name", metavar="NAME", help="a plugin's name, as `qx list` gives it")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    add_cache_options(parser)
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the plugin, or every plugin that claims the name."""
    from qx.cli import warn_of_broken
    from qx.host.host import Host

    host = Host.discover(arguments.plugins, trust_cache=arguments.trust_cache)
    warn_of_broken(host, debug=arguments.debug)
    entries = host.named(arguments.name)
    if arguments.json:
        print(json.dumps([_as_json(entry) for entry in entries], indent=2))
    else:
        print("\n\n".join("\n".join(_lines(entry)) for entry in entries))
    return 0


def _as_json(entry: Entry) -> JsonObject:
    from attrs import asdict

    from qx.cli.commands.list import as_json

    return {
        **as_json(entry),
        "hooks": entry.hooks,
        "record": asdict(entry.record) if entry.record else None,
        "documentation": _documentation(entry),
        "traceback": entry.traceback,
    }


def _lines(entry: Entry) -> Iterator[str]:
    name = to_terminal(entry.name)
    yield f"{name}: {entry.kind or 'a plugin of unknown kind'}, {entry.state}"
    if entry.record:
        yield f"  {to_terminal(entry.record.summary)}"
    yield ""
    facts = {
        "reason": entry.reason,
        "from": entry.provider,
        **_module(entry),
        "hooks": ", ".join(entry.hooks),
    }
    facts |= _record_facts(entry)
    width = max(map(len, facts)) + 2
    for label, value in facts.items():
        if value:
            yield f"  {label:<{width}}{to_terminal(value)}"
    options = entry.record.options if entry.record else ()
    if options:
        yield f"\n  options, set with --set {name}.OPTION=VALUE"
        for option in options:
            yield from _option_lines(option)
    if entry.traceback:
        yield "\n" + textwrap.indent(to_printed(entry.traceback), "  ")
    if documentation := _documentation(entry):
        yield "\n" + textwrap.indent(to_lines(documentation), "  ")


def _module(entry: Entry) -> dict[str, str]:
    return {"module": entry.reference.target} if entry.reference else {}


def _record_facts(entry: Entry) -> dict[str, str]:
    """Return the fields of the record in words, also those that a later version of it adds."""
    if entry.record is None:
        return {}
    from attrs import fields

    names = [field.name for field in fields(type(entry.record))]
    shown = ("name", "summary", "options")
    return {
        name.replace("_", " "): _words(getattr(entry.record, name)) for name in names if name not in shown
    }


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _option_lines(option: Option) -> Iterator[str]:
    facts = [option.type.__name__, f"default {_written(option.default)}"]
    facts += [f"one of {', '.join(map(_written, option.choices))}"] if option.choices else []
    facts += [f"at least {option.minimum}"] if option.minimum is not None else []
    facts += [f"at most {option.maximum}"] if option.maximum is not None else []
    yield f"    {option.name} ({to_terminal(', '.join(facts))})"
    yield f"      {to_terminal(option.help)}"


def _written(value: object) -> str:
    """Return a value as it is written after ``--set NAME.OPTION=``, with text in quotes."""
    from qx.contract.records import as_word

    return repr(value) if isinstance(value, str) else as_word(value)


def _documentation(entry: Entry) -> str:
    """Return the docstring of the plugin's module, or nothing where it has none or cannot be imported."""
    return entry.description.documentation if entry.description else ""
