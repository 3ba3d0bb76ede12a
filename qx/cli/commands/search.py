"""``qx search``: find the best recipe that meets constraints."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qx.cli.arguments import (
    LIMITS,
    add_build_options,
    add_files_option,
    add_limit_options,
    add_score_options,
    add_workload_options,
    build_request,
    constraints_of,
    shared_words,
)

if TYPE_CHECKING:
    from qx.cli import Commands
    from qx.searching.report import SearchReport

#: Suffixes of the files that can be written.
SUFFIXES = (".toml", ".md", ".json")
#: Formats of what is printed.
FORMATS = ("simple", "markdown", "json")
#: The file of the recipe where none is named.
RECIPE = Path("recipe.toml")
#: What can be minimized.
AIMS = tuple(option.removeprefix("--max-") for option in LIMITS if option != "--max-drop")


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "search",
        help="find the fastest or smallest recipe that meets constraints",
        description="Race configs, values of their options and layers in float on growing samples of items "
        "and waves, and verify the best on items that took no part in the choice.",
        epilog="exit codes: 0 a recipe is verified; 1 none is; 2 wrong usage, or too few items for the "
        "constraints; 130 interrupted, with what seems best so far",
    )
    add_workload_options(parser)
    add_build_options(parser)
    parser.add_argument(
        "-c",
        "--config",
        action="append",
        default=[],
        metavar="NAME",
        dest="configs",
        help="a config to try (repeatable; default: all that quantize and are ready and do not train)",
    )
    add_limit_options(parser)
    parser.add_argument(
        "--minimize", choices=AIMS, default=AIMS[0], help=f"what is to be small (default: {AIMS[0]})"
    )
    parser.add_argument(
        "--range",
        action="append",
        default=[],
        dest="ranges",
        metavar="CONFIG.OPTION=VALUES",
        help="values of an option to try: LOW..HIGH, or VALUE,VALUE (repeatable)",
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=32,
        metavar="N",
        help="candidates that are drawn from the ranges of a config with too many values (default: 32)",
    )
    parser.add_argument(
        "--no-float-layers", action="store_true", help="leave no layers in float but those of --set"
    )
    add_score_options(parser)
    parser.add_argument(
        "--batch-size", type=int, default=1, metavar="N", help="the batch size to time (default: 1)"
    )
    parser.add_argument(
        "--budget", type=float, metavar="SECONDS", help="for the launches of the final (default: 60)"
    )
    parser.add_argument(
        "--max-time",
        metavar="TIME",
        help="after which the race ends, such as 600, 10m or 1h, with what seems best so far",
    )
    parser.add_argument(
        "--quick", action="store_true", help="three waves in the final, with intervals that are too narrow"
    )
    parser.add_argument("--yes", action="store_true", help="search more than 1,000 candidates")
    parser.add_argument(
        "--format", choices=FORMATS, default=FORMATS[0], help="how it is printed (default: simple)"
    )
    add_files_option(parser, SUFFIXES)
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Search, write the recipe, and print how it was found."""
    from qx.amounts import to_seconds
    from qx.cli import NOT_WELL, OK, warn_of_broken
    from qx.cli.display import display
    from qx.cli.places import check_written_files
    from qx.cli.streams import say
    from qx.files import write_together
    from qx.foreign import path_to_terminal
    from qx.host.host import Host
    from qx.processes.workers import Failure
    from qx.report import search as shown
    from qx.report.wording import listed
    from qx.searching.search import search
    from qx.searching.task import Task, make_report

    max_time = None if arguments.max_time is None else to_seconds(arguments.max_time, "--max-time")
    task = Task(
        constraints=constraints_of(arguments),
        minimize=arguments.minimize,
        ranges=tuple(arguments.ranges),
        trials=arguments.trials,
        has_layers=not arguments.no_float_layers,
        max_time=max_time,
    )
    task.check()
    files = [*arguments.out, *([] if any(file.suffix == ".toml" for file in arguments.out) else [RECIPE])]
    check_written_files(files, SUFFIXES)
    host = Host.discover(arguments.plugins, trust_cache=arguments.trust_cache)
    warn_of_broken(host, debug=arguments.debug)
    request = build_request(
        arguments,
        configs=arguments.configs,
        batch_sizes=(arguments.batch_size,),
        budget=arguments.budget,
        quick=arguments.quick,
        score=arguments.score,
        score_better=arguments.score_better,
        yes=arguments.yes,
    )
    report, command = make_report(task), shared_words(arguments)
    writers: dict[str, Callable[[SearchReport], str]] = {
        ".md": lambda one: shown.to_markdown(one, command),
        ".json": shown.to_json,
        ".toml": shown.to_recipe,
        "markdown": lambda one: shown.to_markdown(one, command),
        "json": shown.to_json,
        "simple": lambda one: shown.to_terminal_text(one, command) + "\n",
    }
    try:
        with display() as reporter:
            search(host, request, task, reporter, report)
    except KeyboardInterrupt:
        report.stopped = "it was interrupted"
        if report.workload:
            print(writers[arguments.format](report), end="", flush=True)
        raise
    except Failure as failure:
        say(f"qx: {report.baseline or 'the baseline'}: {failure}")
        return NOT_WELL
    written = [file for file in files if file.suffix != ".toml" or report.recipe is not None]
    write_together({file: writers[file.suffix](report).encode() for file in written})
    print(writers[arguments.format](report), end="")
    if arguments.format == "simple" and written:
        print(f"\nwritten: {listed([path_to_terminal(file) for file in written])}")
    return OK if report.recipe is not None else NOT_WELL
