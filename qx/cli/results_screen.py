"""Print the results of a run: one screen on a terminal, everything elsewhere."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qx.cli.arguments import DEFAULT_FORMAT, wants_screen
from qx.foreign import path_to_terminal

if TYPE_CHECKING:
    from qx.results.records import Results


def print_results(
    results: Results, arguments: argparse.Namespace, files: Sequence[Path], logs: Path | None = None
) -> None:
    """Print results as the arguments ask for, and the paths of the files that were written.

    The last of ``files`` is the page for people, which a screen names. ``logs`` is the folder of the logs, if
    there are any.
    """
    if wants_screen(arguments):
        from qx.report import screen
        from qx.report.styled import has_colour

        print(
            screen.render(
                results,
                [str(files[-1])],
                # Libraries print warnings in most runs, which nobody looks for where all went well.
                logs=None if logs is None or results.ended_well else str(logs),
                colour=has_colour(sys.stdout),
                encoding=sys.stdout.encoding,
            )
        )
        return
    from qx.report import terminal
    from qx.report.wording import listed

    print(terminal.render(results, arguments.format or DEFAULT_FORMAT))
    written = [*map(str, files), *([f"{logs}/"] if logs is not None else [])]
    print(f"\nwritten: {path_to_terminal(listed(written))}")
