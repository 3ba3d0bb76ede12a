"""From what was raised in a worker to the outcome and the cause in one line."""

from __future__ import annotations

from qx.contract.records import Outcome
from qx.errors import DataError, QxError, Unsupported, UsageError
from qx.foreign import to_line

#: Letters of a cause.
MOST = 500
#: How an error that the user must mend travels to the host, which raises it again.
USAGE = "usage"
DATA = "data"
#: Jobs that come before there are cells, or stand by themselves. In any other, whatever is raised is told of
#: its cell: a config that raises ``DataError`` must not end the run of the others.
OF_NO_CELL = frozenset({"inspect", "data", "train", "examine"})


def failure_of(error: BaseException, do: str) -> tuple[Outcome | str, str]:
    """What ended a job, ``usage`` or ``data`` for what is to be told to the user, and the cause."""
    outcome, cause = outcome_of(error)
    if do in OF_NO_CELL and isinstance(error, (UsageError, DataError)):
        return USAGE if isinstance(error, UsageError) else DATA, cause
    return outcome, cause


def outcome_of(error: BaseException) -> tuple[Outcome, str]:
    """The outcome of a cell, or of a metric of a cell, and the cause."""
    try:
        return _outcome_of(error)
    except BaseException as second:
        # A plugin's error may raise when it is asked for its text.
        cause = f"the text of what was raised cannot be had: asking for it raised {type(second).__name__}"
        return "failed", to_line(f"{type(error).__name__}: {cause}", MOST)


def _outcome_of(error: BaseException) -> tuple[Outcome, str]:
    if isinstance(error, Unsupported):
        return "unsupported", to_line(str(error), MOST)
    if isinstance(error, QxError):
        return "failed", to_line(str(error), MOST)
    if isinstance(error, MemoryError):
        return "out_of_memory", to_line(f"MemoryError: {error}".rstrip(": "), MOST)
    if isinstance(error, SystemExit):
        return "failed", to_line(f"the plugin ended the process with exit status {error.code!r}", MOST)
    return "failed", to_line(f"{type(error).__name__}: {error}".rstrip(": "), MOST)
