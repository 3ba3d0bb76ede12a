"""What a run shows while it goes on."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from qx.cli import display
from qx.cli.display import Lines, Live


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Return the time in seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Have the display go by a clock that the test sets."""
    clock = Clock()
    monkeypatch.setattr(display, "time", clock)
    return clock


def test_without_a_terminal_a_line_comes_at_most_every_30_seconds(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first line comes at once, whatever else happens the next at least 30 s later; messages always."""
    lines = Lines()
    lines.phase("prepare", "toy")
    lines.phase("build", "24 cells")
    for second in range(1, 91):
        clock.now = float(second)
        lines.step(second / 90, f"{second} of 90, name")
    lines.say("a message")
    lines.note("a note")
    assert capsys.readouterr().err.splitlines() == [
        "[   0.0 s] prepare: toy",
        "[  30.0 s] build: 33% 30 of 90, name",
        "[  60.0 s] build: 67% 60 of 90, name",
        "[  90.0 s] build: 100% 90 of 90, name",
        "qx: a message",
        "qx: a note",
    ]


class Screen:
    """A terminal that keeps what is drawn, and what stays of it."""

    def __init__(self, width: int = 80) -> None:
        self.drawn = io.StringIO()
        self.console = Console(file=self.drawn, force_terminal=True, width=width, color_system=None)

    @property
    def last(self) -> list[str]:
        """The lines of the last block."""
        blocks = re.split(r"(?:\x1b\[\?25[lh]|\r|\x1b\[2K|\x1b\[1A)+", self.drawn.getvalue())
        return [line.rstrip() for line in next(block for block in reversed(blocks) if block).splitlines()]


def test_the_block_has_phase_share_time_left_cell_and_widest_interval(clock: Clock) -> None:
    """One block says all of it, and what the finished phases took."""
    screen = Screen()
    live = Live(screen.console)
    live.TICK = 1000.0
    with live.drawn():
        live.phase("build", "24 cells")
        clock.now = 30.0
        live.phase("measure", "5 cells in waves, 60 s")
        clock.now = 50.0
        live.step(0.25, "wave 2, round 3 of 20; widest interval ±4.1 %, wanted ±1 %")
        assert screen.last == [
            f"measure   {'━' * 6}{' ' * 18}  25% 0:20, 1:00 left",
            "          wave 2, round 3 of 20; widest interval ±4.1 %, wanted ±1 %",
            "          build 30 s",
        ]
        live.note("bf16: unsupported in check_model: no")
        live.note("fx: failed in convert: no")
        assert screen.last[-1] == "          2 notes, the last: fx: failed in convert: no"
        live.say("a message")
    assert re.sub(r"\x1b\[[0-9?;]*[a-zA-Z]|\r", "", screen.drawn.getvalue()).count("qx: a message") == 1


def test_no_line_of_the_block_is_wider_than_the_terminal(clock: Clock) -> None:
    """A block of long texts has as many lines as one of short ones, so that it can be drawn over."""
    screen = Screen(width=40)
    live = Live(screen.console)
    live.TICK = 1000.0
    with live.drawn():
        live.phase("evaluate", "x" * 500)
        live.note("note " * 100)
        clock.now = 7.0
        live.step(0.5, "量子化" * 100)
        assert len(screen.last) == 3


def test_notes_stay_where_a_run_ends_with_an_error(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """No results will say them then."""
    live = Live(Screen().console)
    live.TICK = 1000.0

    def interrupted() -> None:
        with live.drawn():
            live.phase("build", "2 cells")
            live.note("fx: failed in convert: no")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capsys.readouterr().err == "qx: fx: failed in convert: no\n"


@pytest.mark.parametrize("phase", ["build", "measure"])
def test_the_clock_stands_still_while_launches_are_timed(phase: str) -> None:
    """The clock of the block goes on by itself, but not where drawing would disturb what is timed."""
    screen = Screen()
    live = Live(screen.console)
    live.TICK = 0.01
    with live.drawn():
        live.phase(phase, "cells")
        before = len(screen.drawn.getvalue())
        live._stopped.wait(0.5)
        assert (len(screen.drawn.getvalue()) > before) == (phase == "build")
