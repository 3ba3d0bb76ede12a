"""``qx layers``: find the layers that cost a config quality."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
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
    from qx.report.layers_part import LayersPart
    from qx.results.records import Results
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
    add_files_option(parser, SUFFIXES, folder="the folder of a run, whose report.html then has it as a part")
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
    from qx.report.layers_part import part_of
    from qx.runner.layers import find_costly_layers, list_layers

    for option, value in (("--top", arguments.top), ("--items", arguments.items)):
        if value < 1:
            raise UsageError(f"{option} must be at least 1, not {value}")
    folders = [path for path in arguments.out if path.is_dir()]
    files = [path for path in arguments.out if path not in folders]
    check_written_files(files, SUFFIXES)
    runs = {folder: _results_of(folder, arguments.config) for folder in folders}
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
    if files:
        write_together({path: writers[path.suffix](report).encode() for path in files})
    print(writers[arguments.format](report), end="")
    for folder, results in runs.items():
        _add_to_report(folder, results, part_of(report, command))
    return OK


def _results_of(folder: Path, config: str) -> Results:
    """Return the results of the run in a folder, which a config took part in. Raises ``UsageError``."""
    from qx.cli.places import check_writable
    from qx.errors import UsageError
    from qx.foreign import path_to_terminal, to_terminal
    from qx.results import results_file

    results = results_file.read(check_writable(folder))
    if config not in results.configs:
        shown = to_terminal(", ".join(results.configs))
        raise UsageError(
            f"--out {path_to_terminal(folder)}: config {config} took no part in its run (those that did: "
            f"{shown})"
        )
    return results


def _add_to_report(folder: Path, results: Results, part: LayersPart) -> None:
    """Keep what was found beside the results of a run, and write its page anew. Raises ``UsageError``."""
    from qx.analysis.recompute import read_samples
    from qx.cli.streams import say
    from qx.errors import UsageError
    from qx.files import write_together
    from qx.foreign import path_to_terminal
    from qx.report.layers_part import FILE, read_parts
    from qx.report.written import pictures
    from qx.results.results_file import PAGE

    if part.workload not in results.run.workloads:
        names = ", ".join(results.run.workloads)
        raise UsageError(
            f"--out {path_to_terminal(folder)}: its run was of {names}, and not of {part.workload}; what was "
            f"found is printed alone"
        )
    found = read_parts(folder, results).with_part(part)
    samples = folder / Path(results.run.samples).name
    recording = read_samples(samples) if samples.is_file() else None
    page = pictures(results, recording, found.parts)[PAGE]
    write_together({folder / FILE: found.to_text().encode(), folder / PAGE: page.encode()})
    say(f"qx: {path_to_terminal(folder / PAGE)} has a part about the layers of {part.row}")
