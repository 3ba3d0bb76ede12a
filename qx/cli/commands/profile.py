"""``qx profile``: where the time of a call goes, by operator and by module."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from qx.cli.arguments import (
    add_build_options,
    add_files_option,
    add_workload_options,
    build_request,
    style_of,
)

if TYPE_CHECKING:
    from qx.cli import Commands
    from qx.runner.profiling import Profiles

#: Suffixes of the files that can be written.
SUFFIXES = (".md", ".json")


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "profile",
        help="say where the time of a call goes, by operator and by module",
        description="Build configs, or find them in the cache, and have the profiler of each runtime watch "
        "calls: operators by time, in 8 bits or in float, conversions that were inserted, and modules where "
        "the runtime keeps their names. A profiled call takes longer, so these times are in no other table.",
    )
    parser.add_argument(
        "-c",
        "--config",
        action="append",
        required=True,
        dest="configs",
        metavar="NAME",
        help="a config to profile (repeatable: modules are then shown side by side)",
    )
    add_workload_options(parser)
    add_build_options(parser)
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="items in a call (default: 1)")
    parser.add_argument(
        "--threads", type=int, action="append", metavar="N", help="threads of a call (default: 1)"
    )
    parser.add_argument("--top", type=int, default=15, metavar="N", help="rows of a table (default: 15)")
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        help="print it as markdown, json, or in any of tabulate's formats (default: simple)",
    )
    add_files_option(parser, SUFFIXES)
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Profile the configs, write the files and print what was found."""
    from qx.cli import NOT_WELL, OK, warn_of_broken
    from qx.cli.display import display
    from qx.cli.places import check_written_files
    from qx.errors import UsageError
    from qx.files import write_together
    from qx.host.host import Host
    from qx.report import profiles as report
    from qx.runner.profiling import profile

    style = style_of(arguments)
    for option, value in (("--batch-size", arguments.batch_size), ("--top", arguments.top)):
        if value < 1:
            raise UsageError(f"{option} must be 1 or more, not {value}")
    check_written_files(arguments.out, SUFFIXES)
    host = Host.discover(arguments.plugins, trust_cache=arguments.trust_cache)
    warn_of_broken(host, debug=arguments.debug)
    names = tuple(dict.fromkeys(arguments.configs))
    threads = arguments.threads or [1]
    if len(threads) > 1:
        raise UsageError(f"--threads: qx profile takes one number, not {len(threads)}")
    request = build_request(arguments, configs=list(names), threads=threads[0])
    request.check()
    with display() as reporter:
        profiles = profile(host, request, names, arguments.batch_size, reporter)
    writers: dict[str, Callable[[Profiles], str]] = {
        ".md": lambda found: report.to_page(found, arguments.top),
        ".json": report.to_json,
    }
    if arguments.out:
        # Files come first: the reader of standard output may stop reading.
        write_together({path: writers[path.suffix](profiles).encode() for path in arguments.out})
    if style == "json":
        print(report.to_json(profiles), end="")
    elif style == "markdown":
        print(report.to_page(profiles, arguments.top), end="")
    else:
        print(report.to_screen(profiles, arguments.top, style))
    return NOT_WELL if any(config.failure for config in profiles.configs) else OK
