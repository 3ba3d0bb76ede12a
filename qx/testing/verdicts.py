"""The verdict of a check: what it can be, and the exceptions by which a check gives it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import frozen

from qx.contract.records import Kind

#: ``not_run``: a check that must pass first did not. ``expected``: it failed, as the author said it would.
State: TypeAlias = Literal["passed", "failed", "not_applicable", "not_run", "expected"]
#: Kinds of plugins that are checked; a plugin that only wraps the hooks of others is of none.
KINDS: tuple[Kind, ...] = ("config", "metric", "workload", "loader")


#: Largest number of lines that are shown of a traceback, and of an output.
MOST_LINES = 40


class Failed(Exception):
    """The plugin does not do what the check asks; the message says what it did, and what is asked."""


class NotApplicable(Exception):
    """The check asks nothing of this plugin; the message says why."""


@frozen
class Verdict:
    """The result of one check of one plugin."""

    check: str
    state: State
    #: What the check saw, why it failed, or why it was not run.
    text: str = ""
    #: Traceback of the plugin's error, if there is one behind a check that failed.
    traceback: str = ""
    #: End of what the plugin's process printed, if the check failed.
    printed: str = ""
    #: File with the whole of both; None if there is none.
    log: str | None = None

    @property
    def excerpts(self) -> str:
        """The traceback and the end of the output of a check that failed, each in a few lines."""
        parts = [_shortened(self.traceback), f"printed:\n{_shortened(self.printed)}" if self.printed else ""]
        return "\n\n".join(filter(None, [*parts, f"log: {self.log}" if self.log else ""]))

    @property
    def well(self) -> bool:
        """Whether the verdict leaves the exit code at 0.

        A check that was not run does: the check that it depends on has a verdict of its own.
        """
        return self.state != "failed"


def _shortened(text: str) -> str:
    """Return the last lines of a text."""
    lines = text.split("\n")
    left_out = len(lines) - MOST_LINES
    return text if left_out <= 0 else "\n".join([f"[{left_out:,} lines]", *lines[-MOST_LINES:]])
