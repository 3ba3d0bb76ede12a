"""``qx layers``: find the layers that cost a config quality."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from qx.cli.arguments import (
    add_build_options,
    add_files_option,
    add_workload_options,
    build_request,
    shared_words,
)

if TYPE_CHECKING:
    from qx.cli import Commands
    from qx.runner.layers import LayersReport

#: Suffixes of the files that can be written.
SUFFIXES = (".html", ".md", ".json")
#: Formats of what is printed.
FORMATS = ("simple", "markdown", "json")


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "layers",
        help="find the layers that cost a config quality",
        description="Compare every layer that a config quantizes with the same layer in fp32, then build the "
        "config anew with each of the worst in float, and tell what that gives back.",
    )
    parser.add_argument("-c", "--config", required=True, metavar="NAME", help="the config to look into")
    add_workload_options(parser)
    add_build_options(parser)
    parser.add_argument(
        "--list", action="store_true", help="print the names of the layers that float_layers takes, and stop"
    )
    parser.add_argument("--quick", action="store_true", help="compare layers only, and build nothing anew")
    parser.add_argument(
        "--top", type=int, default=10, metavar="K", help="layers that are tried in float (default: 10)"
    )
    parser.add_argument(
        "--items", type=int, default=64, metavar="N", help="items on which layers are compared (default: 64)"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default=FORMATS[0], help="how it is printed (default: simple)"
    )
    add_files_option(parser, SUFFIXES)
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare the layers, and print what was found on standard output."""
    from qx.cli import NOT_WELL, OK, warn_of_broken
    from qx.cli.display import display
    from qx.cli.places import check_written_files
    from qx.cli.streams import say
    from qx.contract.float_layers import chosen_names
    from qx.errors import UsageError
    from qx.files import write_together
    from qx.foreign import to_terminal
    from qx.host.host import Host
    from qx.processes.workers import Failure
    from qx.report import layers as shown
    from qx.report.html.layers import to_html
    from qx.runner.layers import find_costly_layers, list_layers

    for option, value in (("--top", arguments.top), ("--items", arguments.items)):
        if value < 1:
            raise UsageError(f"{option} must be at least 1, not {value}")
    check_written_files(arguments.out, SUFFIXES)
    host = Host.discover(arguments.plugins, trust_cache=arguments.trust_cache)
    warn_of_broken(host, debug=arguments.debug)
    request = build_request(arguments)
    with display() as reporter:
        if arguments.list:
            names = list_layers(host, request, arguments.config, reporter)
        else:
            try:
                report = find_costly_layers(
                    host,
                    request,
                    arguments.config,
                    reporter,
                    items=arguments.items,
                    top=0 if arguments.quick else arguments.top,
                )
            except Failure as failure:
                say(f"qx: {arguments.config}: {failure}")
                return NOT_WELL
    if arguments.list:
        for name in names:
            # As a pattern: a name may have signs of patterns in it.
            print(to_terminal(chosen_names([name])))
        return OK
    command = shared_words(arguments, but=arguments.config)
    writers: dict[str, Callable[[LayersReport], str]] = {
        ".html": lambda one: to_html(one, command),
        ".md": lambda one: shown.to_markdown(one, command),
        ".json": shown.to_json,
        "markdown": lambda one: shown.to_markdown(one, command),
        "json": shown.to_json,
        "simple": lambda one: shown.to_terminal_text(one, command) + "\n",
    }
    if arguments.out:
        write_together({path: writers[path.suffix](report).encode() for path in arguments.out})
    print(writers[arguments.format](report), end="")
    return OK
