"""``qx train``: train the baseline of a workload and write its weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from qx.cli.arguments import add_workload_options, model_options, models_of

if TYPE_CHECKING:
    from qx.cli import Commands

#: Folder for weights. In a checkout it is the package that installs them.
OUT = Path("artifacts/weights")


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "train",
        help="train the baseline of a workload and write its weights",
        description="Train the model of a workload from scratch, seeded, and write its weights.",
    )
    add_workload_options(parser)
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the training data")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where to write (default: artifacts/weights/<the workload's file>)",
    )
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Train the model, write its weights, print the path."""
    from qx.cli import OK, warn_of_broken
    from qx.cli.display import display
    from qx.cli.places import check_writable
    from qx.errors import UsageError
    from qx.foreign import path_to_terminal
    from qx.host.host import Host
    from qx.runner.one import train
    from qx.runner.request import Request, choose_workload, workload

    host = Host.discover(arguments.plugins, trust_cache=arguments.trust_cache)
    warn_of_broken(host, debug=arguments.debug)
    if arguments.epochs is not None and arguments.epochs < 1:
        raise UsageError(f"--epochs must be at least 1, not {arguments.epochs}")
    request = Request(
        workloads=tuple(dict.fromkeys(arguments.workloads)),
        models=models_of(arguments),
        model=model_options(arguments),
        data=arguments.data,
        offline=arguments.offline,
        seed=arguments.seed,
        settings=arguments.settings,
        trust_cache=arguments.trust_cache,
        debug=arguments.debug,
        # The whole training is one stage.
        timeout=7 * 24 * 3600.0,
    )
    request.check()
    entry = choose_workload(host, request)
    name = (workload(entry).weights or f":{entry.name}.pt").partition(":")[2]
    output = arguments.out or OUT / name
    if output.is_dir():
        raise UsageError(f"--out {output} is a folder: name the file")
    check_writable(output.parent)
    with display() as reporter:
        train(host, entry, request, output, arguments.epochs, reporter)
    print(path_to_terminal(output))
    return OK
