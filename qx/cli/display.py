"""Show the progress of a run on standard error: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qx.cli.streams import say
from qx.foreign import to_terminal

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from qx.runner import Reporter


@contextmanager
def display() -> Iterator[Reporter]:
    """Yield a reporter: a live line where standard error is a terminal, else plain lines."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[phase]:<9}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    # The line is redrawn seldom, and never on its own while a launch is timed: drawing takes a processor.
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as progress:
        yield Live(progress)


class Live:
    """A reporter that redraws one line."""

    #: Least time between two drawings, in seconds.
    PAUSE = 0.2

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._drawn = 0.0

    def phase(self, name: str, text: str) -> None:
        """Replace the line by one for a new phase."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(to_terminal(text), total=1.0, phase=name)
        self._progress.refresh()

    def step(self, done: float, text: str) -> None:
        """Draw progress within the phase. ``done`` is the finished share of it."""
        assert self._task is not None
        self._progress.update(self._task, completed=done, description=to_terminal(text))
        if time.monotonic() - self._drawn > self.PAUSE:
            self._progress.refresh()
            self._drawn = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._progress.console.print(
            f"qx: {to_terminal(text)}", markup=False, highlight=False, soft_wrap=True
        )


class Lines:
    """A reporter that prints a line when a phase begins, and some while it lasts."""

    #: Least time between two lines of one phase, in seconds.
    PAUSE = 10.0

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._last = self._start
        self._phase = ""

    def phase(self, name: str, text: str) -> None:
        """Print a line for a new phase."""
        self._phase = name
        self._last = time.monotonic()
        self._print(f"{name}: {text}")

    def step(self, done: float, text: str) -> None:
        """Print progress within the phase, if enough time has passed since the last line."""
        if time.monotonic() - self._last >= self.PAUSE:
            self._last = time.monotonic()
            self._print(f"{self._phase}: {done:.0%} {text}")

    def say(self, text: str) -> None:
        """Print a message to the user."""
        say(f"qx: {text}")

    def _print(self, text: str) -> None:
        say(text, start=f"[{time.monotonic() - self._start:6.1f} s] ")
