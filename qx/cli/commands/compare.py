"""``qx compare``: what changed between runs, and whether that is more than noise."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from qx.cli.arguments import add_files_option, add_verbose_option, style_of, wants_screen

if TYPE_CHECKING:
    from qx.cli import Commands

#: Suffixes of the files that can be written.
SUFFIXES = (".md", ".json", ".html")


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "compare",
        help="tell what changed between runs, environments or machines, and whether that is more than noise",
        description="Compare the results of runs with those of the first: values of items in pairs on the "
        "same items, sizes exactly, latency by each run's ratio to its own baseline, and directly where "
        "both come from one machine. Other workloads or data are refused, and so are other weights, such as "
        "those of a model that was trained again, without --other-weights.",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="[LABEL=]PATH",
        help="a results file or the folder that it lies in, two or more; the first is the base",
    )
    parser.add_argument("--base", metavar="LABEL", help="the run to compare with, by its label or its path")
    parser.add_argument(
        "--changed", action="store_true", help="leave out of the table what is the same in all runs"
    )
    parser.add_argument(
        "--other-calibration",
        action="store_true",
        help="compare runs although they were calibrated on different data",
    )
    parser.add_argument(
        "--other-weights",
        action="store_true",
        help="compare runs although their models have other weights, answer by answer on the same items",
    )
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        help="print the whole comparison as markdown, json, or in any of tabulate's formats (default: on a "
        "terminal one screen, else the whole as simple)",
    )
    add_files_option(parser, SUFFIXES)
    add_verbose_option(parser)
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Read the results, compare them, write the files, print the comparison."""
    from qx.cli import OK, warn_of_broken
    from qx.cli.places import check_written_files
    from qx.comparison import RunComparison, changes, compare, page, read, screen, with_labels
    from qx.errors import UsageError
    from qx.files import write_together
    from qx.host.host import Host
    from qx.report.styled import has_colour

    warn_of_broken(Host.discover(arguments.plugins), debug=arguments.debug)
    style = style_of(arguments)
    check_written_files(arguments.out, SUFFIXES)
    sources = [read(path) for path in arguments.paths]
    if len(sources) < 2:
        raise UsageError("a comparison needs the results of two runs or more")
    sources = with_labels(sources)
    if arguments.base is not None:
        matches = [source for source in sources if arguments.base in (source.label, source.place)]
        if not matches:
            raise UsageError(
                f"--base {arguments.base} is not one of the runs; choose from "
                f"{', '.join(repr(source.label) for source in sources)}"
            )
        base = matches[0]
        sources = [base, *(source for source in sources if source is not base)]
    comparison = compare(
        sources, other_calibration=arguments.other_calibration, other_weights=arguments.other_weights
    )
    shown = changes.without_same(comparison) if arguments.changed else comparison
    writers: dict[str, Callable[[RunComparison], str]] = {
        ".md": changes.to_markdown,
        ".json": RunComparison.to_json,
        ".html": page.to_html,
    }
    if arguments.out:
        # Files come first: the reader of standard output may stop reading.
        write_together({path: writers[path.suffix](shown).encode() for path in arguments.out})
    if style == "markdown":
        print(changes.to_markdown(shown), end="")
    elif style == "json":
        print(shown.to_json(), end="")
    elif wants_screen(arguments):
        print(screen.render(shown, colour=has_colour(sys.stdout), encoding=sys.stdout.encoding))
    else:
        print(changes.to_terminal(shown, style))
    return OK
