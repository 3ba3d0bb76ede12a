"""The time that a run may take, and the part of it that what runs now may take."""

from __future__ import annotations

import math
import time

from attrs import define, field

from qx.amounts import duration_in_words

#: Share of a run's time that is kept for the analysis and for writing the results, and its bounds in seconds.
RESERVED, LEAST_RESERVED, MOST_RESERVED = 0.1, 3.0, 60.0


@define
class TimeLimit:
    """The seconds that a run may take, or none, and the end of what it does now.

    Times are of the monotonic clock, in seconds.
    """

    #: Seconds of the whole run; None: as many as it takes.
    seconds: float | None = None
    began: float = field(factory=time.monotonic)
    #: End of what the run does now.
    end: float = math.inf
    #: What the run does now, in words.
    subject: str = "the run"
    #: Whether the user has interrupted the run, so that what takes long is not begun and not waited for.
    is_cut_off: bool = False

    @property
    def work_end(self) -> float:
        """The end of everything that workers do; the analysis and the results follow."""
        if self.seconds is None:
            return math.inf
        reserved = min(MOST_RESERVED, max(LEAST_RESERVED, RESERVED * self.seconds))
        return self.began + max(self.seconds - reserved, self.seconds / 2)

    @property
    def left(self) -> float:
        """The seconds until the end of everything that workers do."""
        return max(0.0, self.work_end - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether what the run does now must have ended."""
        return time.monotonic() >= self.end

    def allow(self, seconds: float, subject: str) -> None:
        """Let ``subject`` take this many seconds from now on, or those that are left if they are fewer."""
        self.end = time.monotonic() + min(seconds, self.left)
        self.subject = subject

    def cut_off(self) -> None:
        """End what the run does now, since the user has interrupted it."""
        self.is_cut_off, self.end = True, time.monotonic()

    def cause(self, done: str) -> str:
        """Return why something is missing, after what can be said of it, such as ``not finished``."""
        if self.is_cut_off:
            return f"{done} when the run was interrupted"
        limit = f"--max-time {duration_in_words(self.seconds or 0)}"
        return f"{done} when the time for {self.subject} was over ({limit})"
