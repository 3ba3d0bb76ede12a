"""``qx run --resume``: find the journal of the unfinished run, and hold the command line against its own."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from qx.cli import parse
from qx.errors import UsageError
from qx.foreign import to_line

if TYPE_CHECKING:
    from qx.runner.journal import Journal, RunHead

#: Arguments that say nothing of what is run. Without others the journal's own are meant.
SHOWN = frozenset(("resume", "out", "debug", "debug_first", "verbose", "format", "words"))
#: Arguments that another sitting may have otherwise: none of them decides what a figure means.
FREE = SHOWN | frozenset(
    (
        *("budget", "precision", "max_time", "timeout", "yes", "offline", "trust_cache", "rebuild"),
        "executor",
        *("plugins_first", "func", "command"),
    )
)
#: Options by the names of their arguments, where these are others.
OPTIONS = {
    "models": "MODEL",
    "workloads": "--workload",
    "plugins": "-p",
    "configs": "-c",
    "metrics": "-m",
    "batch_sizes": "--batch-size",
    "lengths": "--length",
    "settings": "--set",
    "examples": "--example",
    "every": "--all",
}
#: Longest value of an option that a message quotes, in characters.
MAX_SHOWN = 60


def with_own_words(arguments: argparse.Namespace, default: Path) -> argparse.Namespace:
    """Return the arguments of the run that is resumed: those of the command line, or the journal's own.

    ``default`` is the folder of results where none is named. Raises ``UsageError``.
    """
    if arguments.resume:
        named = Path(arguments.resume)
        if arguments.out not in (None, named):
            raise UsageError(f"--resume {named} and --out {arguments.out} name different folders: give one")
        arguments.out = named
    without_words = parse(["run"])
    if differing(arguments, without_words, SHOWN | {"func", "command", "plugins_first", "executor"}):
        return arguments
    from qx.runner.journal import read_head

    folder = arguments.out or default
    own = parse(read_head(folder).words)
    for name in SHOWN - {"words"}:
        setattr(own, name, getattr(arguments, name))
    if arguments.executor != without_words.executor:
        own.executor = arguments.executor
    own.words, own.out = read_head(folder).words, folder
    return own


def check_same_run(head: RunHead, arguments: argparse.Namespace) -> None:
    """Raise ``UsageError`` where another run was begun than these arguments ask for, with what differs."""
    if head.place != os.getcwd():
        raise UsageError(f"--resume: the run was begun in {head.place}, where its paths lead: cd there first")
    former = parse(head.words)
    names = differing(arguments, former, FREE)
    if names:
        words = [
            f"{OPTIONS.get(name, '--' + name.replace('_', '-'))} was {_shown(getattr(former, name, None))} "
            f"and is {_shown(getattr(arguments, name, None))}"
            for name in names[:3]
        ]
        raise UsageError(
            f"--resume: another run was begun ({'; '.join(words)}): give its own command line or none, or "
            f"begin this one without --resume"
        )


def differing(first: argparse.Namespace, second: argparse.Namespace, free: frozenset[str]) -> list[str]:
    """Return the names of the arguments that differ, but for those that are free to."""
    names = dict.fromkeys([*vars(first), *vars(second)])
    return [
        name
        for name in names
        if name not in free and getattr(first, name, None) != getattr(second, name, None)
    ]


@contextmanager
def with_advice(journal: Journal) -> Iterator[None]:
    """Close a journal at the end; where an error ends the run, say how to go on with it first.

    Mistakes of the user stay one line: they are corrected, and the next run finds the builds anyhow.
    """
    from qx.cli.streams import say

    try:
        yield
    except BaseException as error:
        if journal.is_begun and journal.has_finished_work and not isinstance(error, UsageError):
            say(f"qx: what was finished is kept; {journal.command}")
        raise
    finally:
        journal.close()


def _shown(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = " ".join(map(str, value))
    return "not set" if value is None or value is False or value == "" else to_line(str(value), MAX_SHOWN)
