"""``qx gate``: check results against rules, for CI."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qx.cli.arguments import add_verbose_option, wants_screen

if TYPE_CHECKING:
    from qx.cli import Commands
    from qx.gate.rules import Rules

#: The rules where none are named.
RULES = Path("qx-gate.toml")
#: Keys of a recipe that hold rules.
RULE_KEYS = ("rule", "false_alarms")


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "gate",
        help="hold results against rules, decided on intervals; exit 1 with a line per breach",
        description="Hold the results of a run against the rules in a file. A rule is breached only where "
        "the data show it; what is too wide to tell is said, and fails with --strict.",
    )
    parser.add_argument("path", metavar="RESULT", help="a results file, or the folder that it lies in")
    parser.add_argument("--against", metavar="BASE", help="results that rules against base are about")
    parser.add_argument(
        "--rules",
        type=Path,
        metavar="FILE",
        help="the rules, TOML (default: qx-gate.toml, or those of --recipe)",
    )
    parser.add_argument(
        "--recipe",
        type=Path,
        metavar="FILE",
        help="a recipe that qx search wrote: its constraints are the rules",
    )
    parser.add_argument("--strict", action="store_true", help="fail also where the data are too wide to tell")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a summary in Markdown")
    parser.add_argument(
        "--other-calibration",
        action="store_true",
        help="hold against BASE although it was calibrated on different data",
    )
    parser.add_argument(
        "--other-weights",
        action="store_true",
        help="hold against BASE although its model has other weights, as a model that was trained again has",
    )
    add_verbose_option(parser)
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Read rules and results, decide, write the files, print the decisions."""
    from qx.cli import NOT_WELL, OK, warn_of_broken
    from qx.cli.places import check_writable_file
    from qx.cli.streams import say
    from qx.comparison import how_made, read
    from qx.files import write_together
    from qx.gate import decide, report
    from qx.host.host import Host
    from qx.report.styled import has_colour, screen_width, to_text

    warn_of_broken(Host.discover(arguments.plugins), debug=arguments.debug)
    for file in filter(None, (arguments.junit, arguments.markdown)):
        check_writable_file(file)
    rules = _rules(arguments)
    source = read(arguments.path)
    base = None if arguments.against is None else read(arguments.against)
    if base is not None and not any(rule.against_base for rule in rules.rules):
        note = f'note: no rule of {rules.place} has a limit with against = "base": {base.place} is not used'
        say(f"qx: {note}")
    for origin in filter(None, (source, base)):
        for how in how_made(origin):
            say(f"qx: note: {origin.place}: {how}")
    for cell in (outputs.cell for outputs in source.results.outputs if outputs.is_below_0_db):
        say(f"qx: note: {cell} is not the same network any more: the SQNR of its outputs is below 0 dB")
    ruling = decide(
        rules,
        source,
        base,
        other_calibration=arguments.other_calibration,
        other_weights=arguments.other_weights,
    )
    files = {}
    if arguments.junit is not None:
        files[arguments.junit] = report.to_junit(ruling, source, base, rules.place, strict=arguments.strict)
    if arguments.markdown is not None:
        page = report.to_markdown(ruling, source.place, base.place if base else None, strict=arguments.strict)
        files[arguments.markdown] = page.encode()
    if files:
        write_together(files)
    if wants_screen(arguments):
        lines = report.screen(ruling, screen_width(), strict=arguments.strict)
        print(to_text(lines, colour=has_colour(sys.stdout), encoding=sys.stdout.encoding))
    else:
        for line in (*report.notes(ruling), *report.lines(ruling)):
            print(line)
        print(report.summary(ruling, strict=arguments.strict))
        print(report.protection(ruling))
    return OK if ruling.passes(strict=arguments.strict) else NOT_WELL


def _rules(arguments: argparse.Namespace) -> Rules:
    """Return the rules of ``--rules`` or of ``--recipe``. Raises ``UsageError``."""
    from qx.errors import UsageError
    from qx.gate import read_rules
    from qx.searching.recipe import KEYS, read_recipe

    if arguments.recipe is None:
        return read_rules(arguments.rules or RULES)
    if arguments.rules is not None:
        raise UsageError("give --rules or --recipe, not both: a recipe has rules of its own")
    read_recipe(arguments.recipe)
    return read_rules(arguments.recipe, other_keys=[name for name in KEYS if name not in RULE_KEYS])
