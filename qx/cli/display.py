"""Show the progress of a run on standard error: a live block on a terminal, few plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qx.cli.streams import say, say_printed
from qx.foreign import to_printed, to_terminal

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from qx.runner import Reporter

#: Phase in which launches are timed, and nothing is drawn but between rounds.
TIMED_PHASE = "measure"
#: Width of a terminal below which there is no bar.
NARROW = 60


@contextmanager
def display() -> Iterator[Reporter]:
    """Yield a reporter: a live block where standard error is a terminal, else plain lines."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console

    live = Live(Console(stderr=True))
    with live.drawn():
        yield live


class Live:
    """A reporter that draws one block over and over: phase, share and time left, cell, what went wrong."""

    #: Least time between two drawings, in seconds.
    PAUSE = 0.2
    #: Time between two drawings in which only the clock goes on, in seconds.
    TICK = 1.0
    #: Width of the bar in columns.
    BAR = 24

    def __init__(self, console: Console) -> None:
        from rich.live import Live as Drawing

        self._console = console
        self._drawn = 0.0
        self._phase, self._text, self._done = "", "", 0.0
        self._began = time.monotonic()
        self._finished: list[tuple[str, float]] = []
        self._notes: list[str] = []
        self._stopped = threading.Event()
        # The block is gone at the end: what matters of it is in the results.
        self._drawing = Drawing(
            console=console, auto_refresh=False, transient=True, get_renderable=self._block
        )

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Draw the block inside of the context. Notes are printed to stay if it ends with an error."""
        clock = threading.Thread(target=self._tick, daemon=True)
        try:
            with self._drawing:
                clock.start()
                yield
        except BaseException:
            for note in self._notes:
                say(f"qx: {note}")
            raise
        finally:
            self._stopped.set()

    def phase(self, name: str, text: str) -> None:
        """Begin a new phase."""
        if self._phase:
            self._finished.append((self._phase, time.monotonic() - self._began))
        self._phase, self._text, self._done = name, to_terminal(text), 0.0
        self._began = time.monotonic()
        self._drawing.refresh()

    def step(self, done: float, text: str) -> None:
        """Show progress within the phase. ``done`` is the finished share of it."""
        self._done, self._text = min(max(done, 0.0), 1.0), to_terminal(text)
        if time.monotonic() - self._drawn > self.PAUSE:
            self._drawing.refresh()
            self._drawn = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(f"qx: {to_terminal(text)}", markup=False, highlight=False, soft_wrap=True)

    def show(self, text: str) -> None:
        """Print lines that stay, as they are."""
        self._console.print(to_printed(text), markup=False, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Show a line in the block until the results say it."""
        self._notes.append(to_terminal(text))
        self._drawing.refresh()

    def _tick(self) -> None:
        while not self._stopped.wait(self.TICK):
            # Drawing takes a processor, which launches that are timed would miss.
            if self._phase != TIMED_PHASE:
                self._drawing.refresh()

    def _block(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if not self._phase:
            return Text()
        head = Table.grid(padding=(0, 1))
        room = self._console.width
        parts: list[RenderableType] = [Text(f"{self._done:>4.0%}"), Text(self._clock(), no_wrap=True)]
        if room >= NARROW:
            parts.insert(0, ProgressBar(total=1.0, completed=self._done, width=self.BAR))
        head.add_row(Text(f"{self._phase:<9}", style="bold"), *parts)
        lines = [self._text]
        if self._finished:
            lines.append(", ".join(f"{name} {seconds:.0f} s" for name, seconds in self._finished))
        if self._notes:
            more = f"{len(self._notes)} notes, the last: " if len(self._notes) > 1 else ""
            lines.append(f"{more}{self._notes[-1]}")
        return Group(
            head, *(Text(f"{'':<10}{line}"[:room], no_wrap=True, overflow="ellipsis") for line in lines)
        )

    def _clock(self) -> str:
        passed = time.monotonic() - self._began
        if not 0 < self._done < 1:
            return _minutes(passed)
        return f"{_minutes(passed)}, {_minutes(passed * (1 - self._done) / self._done)} left"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Lines:
    """A reporter that prints a line now and then: phase, share, cell."""

    #: Least time between two lines, in seconds.
    PAUSE = 30.0

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._last = -math.inf
        self._phase = ""

    def phase(self, name: str, text: str) -> None:
        """Begin a new phase, and print a line if enough time has passed since the last one."""
        self._phase = name
        self._print(text)

    def step(self, done: float, text: str) -> None:
        """Print progress within the phase, if enough time has passed since the last line."""
        self._print(f"{done:.0%} {text}")

    def say(self, text: str) -> None:
        """Print a message to the user."""
        say(f"qx: {text}")

    def note(self, text: str) -> None:
        """Print a message that the results say again."""
        self.say(text)

    def show(self, text: str) -> None:
        """Print lines as they are."""
        say_printed(text)

    def _print(self, text: str) -> None:
        now = time.monotonic()
        if now - self._last >= self.PAUSE:
            self._last = now
            say(f"{self._phase}: {text}", start=f"[{now - self._start:6.1f} s] ")
