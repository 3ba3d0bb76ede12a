"""``--executor`` and ``--on``: where a run is carried out."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from qx.errors import UsageError
from qx.foreign import to_line

if TYPE_CHECKING:
    from qx.runner.executor import Executor

#: The executor of runs on this machine alone.
LOCAL = "local"


def add_executor_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a run is carried out."""
    parser.add_argument(
        "--executor",
        default=LOCAL,
        metavar="WHERE",
        help="where to build, evaluate and measure: local; ray (a cluster of this machine alone); auto (the "
        "Ray cluster that this machine is part of); ray://HOST:PORT (default: local)",
    )
    parser.add_argument(
        "--on",
        action="append",
        default=[],
        metavar="NAME",
        help="of a cluster, the machines with this resource or label of Ray (repeatable: each has results of "
        "its own in a folder of its name, and machines.md a table across)",
    )


def check_executor(arguments: argparse.Namespace) -> None:
    """Raise ``UsageError`` where the options that say where a run is carried out do not fit together."""
    if arguments.executor != LOCAL:
        from qx.cluster.ray import check_form

        check_form(arguments.executor)
    elif arguments.on:
        raise UsageError(
            f"--on {arguments.on[0]} is for a cluster: give --executor too (ray, auto, ray://HOST:PORT)"
        )
    if twice := [name for name in arguments.on if arguments.on.count(name) > 1]:
        raise UsageError(f"--on {twice[0]} is there twice: give each name once")
    if unfit := [
        name for name in arguments.on if not re.fullmatch(r"[\w.=+-]+", name) or name in (".", "..")
    ]:
        raise UsageError(f"--on {to_line(unfit[0], 80)}: expected the name of a resource or a label")


@contextmanager
def executor_of(arguments: argparse.Namespace) -> Iterator[Executor | None]:
    """Yield the executor that the options name, connected; None for this machine alone.

    Raises ``UsageError``.
    """
    if arguments.executor == LOCAL:
        yield None
        return
    from qx.cluster.executor import ClusterExecutor
    from qx.cluster.ray import connect

    with closing(connect(arguments.executor)) as transport:
        yield ClusterExecutor(transport, *arguments.on)


def on_one(arguments: argparse.Namespace, name: str, out: Path) -> argparse.Namespace:
    """Return the arguments of the part of a run that is made on one kind of machine, for its own folder.

    Where the run is resumed, a part that was not begun is begun.
    """
    from qx.runner.journal import FILE, FOLDER

    own = argparse.Namespace(**vars(arguments))
    own.on, own.out = [name], out
    own.words = (*without_on(arguments.words), f"--on={name}")
    has_journal = (out / FOLDER / FILE).is_file()
    own.resume = str(out) if arguments.resume is not None and has_journal else None
    return own


def without_on(words: Sequence[str]) -> Iterator[str]:
    """Yield the words of a command line but for ``--on`` and its values."""
    is_value = False
    for word in words:
        if is_value:
            is_value = False
        elif word == "--on":
            is_value = True
        elif not word.startswith("--on="):
            yield word
