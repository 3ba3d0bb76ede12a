"""How a run shows itself on standard error: a live line on a terminal, plain lines elsewhere."""

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
    """A reporter that suits where standard error goes."""
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
    # Redrawn seldom, and not at all by itself while a launch is timed: drawing takes a processor.
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as progress:
        yield Live(progress)


class Live:
    """A line that is drawn over."""

    #: Seconds between two drawings.
    PAUSE = 0.2

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._drawn = 0.0

    def phase(self, name: str, text: str) -> None:
        """Begin a line for the phase; the line before goes."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(to_terminal(text), total=1.0, phase=name)
        self._progress.refresh()

    def step(self, done: float, text: str) -> None:
        """Move the line on."""
        assert self._task is not None
        self._progress.update(self._task, completed=done, description=to_terminal(text))
        if time.monotonic() - self._drawn > self.PAUSE:
            self._progress.refresh()
            self._drawn = time.monotonic()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._progress.console.print(
            f"qx: {to_terminal(text)}", markup=False, highlight=False, soft_wrap=True
        )


class Lines:
    """Plain lines, one when a phase begins, and now and then one while it lasts."""

    #: Seconds between two lines of one phase.
    PAUSE = 10.0

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._last = self._began
        self._phase = ""

    def phase(self, name: str, text: str) -> None:
        """A line for the phase."""
        self._phase = name
        self._last = time.monotonic()
        self._line(f"{name}: {text}")

    def step(self, done: float, text: str) -> None:
        """A line, if the last one is long ago."""
        if time.monotonic() - self._last >= self.PAUSE:
            self._last = time.monotonic()
            self._line(f"{self._phase}: {done:.0%} {text}")

    def say(self, text: str) -> None:
        """A line that the user is to read."""
        say(f"qx: {text}")

    def _line(self, text: str) -> None:
        say(text, start=f"[{time.monotonic() - self._began:6.1f} s] ")
