"""``qx quantize``: build one artifact and say where it is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from qx.cli.arguments import (
    add_build_options,
    add_recipe_option,
    add_workload_options,
    build_request,
    take_recipe,
)

if TYPE_CHECKING:
    from qx.cli import Commands


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "quantize",
        help="build the artifact of one config and say where it is",
        description="Build the artifact of one config, or find it in the cache, and print its folder.",
    )
    parser.add_argument("-c", "--config", metavar="NAME", help="the config to build (or --recipe)")
    add_recipe_option(parser)
    add_workload_options(parser)
    add_build_options(parser)
    parser.add_argument(
        "--to",
        type=Path,
        metavar="DIR",
        help="copy the artifact into this folder, to be made, with a program that serves it without qx",
    )
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Build the artifact. Print its folder on standard output, the rest on standard error."""
    from qx.cli import NOT_WELL, OK, warn_of_broken
    from qx.cli.display import display
    from qx.cli.places import check_writable
    from qx.cli.streams import say
    from qx.errors import UsageError
    from qx.foreign import path_to_terminal, to_terminal
    from qx.host.host import Host
    from qx.processes.workers import Failure
    from qx.runner.one import quantize

    arguments.configs = [arguments.config] if arguments.config is not None else []
    take_recipe(arguments)
    if len(arguments.configs) != 1:
        raise UsageError("one config is built: give -c NAME, or --recipe FILE")
    (name,) = arguments.configs
    host = Host.discover(arguments.plugins, trust_cache=arguments.trust_cache)
    warn_of_broken(host, debug=arguments.debug)
    request = build_request(arguments, configs=[name])
    request.check()
    entry = host.get_ready("config", name)
    if arguments.to is not None:
        if arguments.to.exists():
            raise UsageError(f"{arguments.to} exists already: give --to a folder that does not exist yet")
        check_writable(arguments.to)
    with display() as reporter:
        try:
            build, refusal = quantize(host, request, entry.name, reporter, arguments.to)
        except Failure as failure:
            say(f"qx: {entry.name}: {failure}")
            return NOT_WELL
    artifact = build.artifact if arguments.to is None else arguments.to
    total = sum(build.manifest.sizes.values())
    origin = "found in the cache, built" if build.cached else "built"
    say(f"qx: {', '.join(build.manifest.files)}: {total:,} bytes, {origin} in {build.seconds:.1f} s")
    if refusal:
        say(f"qx: no serve.py, which would serve it without qx: {to_terminal(refusal)}")
    print(path_to_terminal(artifact))
    return OK
