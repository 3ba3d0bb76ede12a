"""``qx history``: figures over many runs, and where they have changed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from qx.cli.arguments import add_files_option, style_of

if TYPE_CHECKING:
    from qx.cli import Commands

#: Suffixes of the files that can be written.
SUFFIXES = (".md", ".json", ".html")


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "history",
        help="follow figures over the runs of many commits or dates, and find where they changed",
        description="Make a series of each figure of each cell over the results of many runs, in the order "
        "of their start, and find the steps in it with their commits.",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="a folder of results, a results file, or a folder with folders of results in it (repeatable)",
    )
    parser.add_argument(
        "-m",
        "--metric",
        action="append",
        default=[],
        dest="metrics",
        metavar="NAME",
        help="follow this metric alone (repeatable)",
    )
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        help="print it as markdown, json, or in any of tabulate's formats (default: simple)",
    )
    add_files_option(parser, SUFFIXES)
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Read the results, find the steps, write the files, print the history."""
    from attrs import evolve

    from qx.cli import OK, warn_of_broken
    from qx.cli.places import check_written_files
    from qx.errors import UsageError
    from qx.files import write_together
    from qx.history import collect, page, read_runs
    from qx.history.report import to_markdown, to_terminal_text
    from qx.history.series import to_json
    from qx.host.host import Host

    warn_of_broken(Host.discover(arguments.plugins), debug=arguments.debug)
    style = style_of(arguments)
    check_written_files(arguments.out, SUFFIXES)
    history = collect(read_runs(arguments.paths))
    for name in arguments.metrics:
        if name not in history.metrics:
            raise UsageError(f"-m {name}: no run has this metric (choose from {', '.join(history.metrics)})")
    if arguments.metrics:
        chosen = tuple(series for series in history.series if series.figure.metric in arguments.metrics)
        history = evolve(history, series=chosen)
    writers = {".md": to_markdown, ".json": to_json, ".html": page.to_html}
    if arguments.out:
        write_together({path: writers[path.suffix](history).encode() for path in arguments.out})
    if style in ("markdown", "json"):
        print(to_markdown(history) if style == "markdown" else to_json(history), end="")
    else:
        print(to_terminal_text(history, style))
    return OK
