"""Show the progress of a run: a live line in a notebook, elsewhere what the command line shows."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from qx.cli.display import display
from qx.cli.streams import say_printed
from qx.foreign import to_printed, to_terminal
from qx.runner.request import Reporter, Silent

#: Number of characters of the bar.
BAR = 20


@contextmanager
def reporting(*, is_shown: bool) -> Iterator[Reporter]:
    """Yield the reporter for the place that this is called from. Nothing is shown without ``is_shown``."""
    if not is_shown:
        yield OnlyPrinted()
    elif is_notebook():
        with Notebook() as reporter:
            yield reporter
    else:
        with display() as reporter:
            yield reporter


def is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None


class OnlyPrinted(Silent):
    """A reporter that shows what the user asked to see, and nothing else."""

    def show(self, text: str) -> None:
        """Print lines, for which the user asked."""
        say_printed(text)


class Notebook:
    """A reporter with one output of a cell: the lines that stay, and below them one that is rewritten.

    It is plain text, so it needs no widgets, and nothing in it is markup.
    """

    #: Least time between two versions of the line, in seconds: drawing takes a processor.
    PAUSE = 0.5

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._drawn = 0.0
        self._phase, self._text, self._done = "", "", 0.0
        self._lines: list[str] = []

    def __enter__(self) -> Notebook:
        # Not imported by name, since only kernels have it.
        show = import_module("IPython.display").display
        self._handle = show(self._content(), raw=True, display_id=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        seconds = time.monotonic() - self._start
        self._phase = ""
        self._text = f"{'ended' if kind is None else 'stopped'} after {seconds:.0f} s"
        self._draw()

    def phase(self, name: str, text: str) -> None:
        """Begin a new line for a phase."""
        self._phase, self._text, self._done = name, to_terminal(text), 0.0
        self._draw()

    def step(self, done: float, text: str) -> None:
        """Show progress within the phase, unless the line was just rewritten."""
        self._text, self._done = to_terminal(text), done
        if time.monotonic() - self._drawn > self.PAUSE:
            self._draw()

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self._lines.append(to_terminal(text))
        self._draw()

    def note(self, text: str) -> None:
        """Leave it to the results, which say it again."""

    def show(self, text: str) -> None:
        """Show lines that stay."""
        self._lines += to_printed(text).split("\n")
        self._draw()

    def _draw(self) -> None:
        self._handle.update(self._content(), raw=True)
        self._drawn = time.monotonic()

    def _content(self) -> dict[str, str]:
        line = self._text
        if self._phase:
            filled = round(BAR * min(max(self._done, 0.0), 1.0))
            bar = "#" * filled + "-" * (BAR - filled)
            seconds = time.monotonic() - self._start
            line = f"{self._phase:<9} [{bar}] {self._done:4.0%}  {seconds:.0f} s  {self._text}"
        return {"text/plain": "\n".join(filter(None, [*self._lines, f"qx: {line}" if line else ""]))}
