"""From what was raised in a worker to the outcome and the cause in one line."""

from __future__ import annotations

from qx.errors import DataError, PluginError, Unsupported, UsageError
from qx.records import Outcome

#: How an error that the user must mend travels to the host, which raises it again.
USAGE = "usage"
DATA = "data"


def outcome_of(error: BaseException) -> tuple[Outcome | str, str]:
    """The outcome of a cell, or ``usage`` or ``data`` for what is to be told to the user, and the cause."""
    if isinstance(error, Unsupported):
        return "unsupported", _line(str(error))
    if isinstance(error, UsageError):
        return USAGE, _line(str(error))
    if isinstance(error, DataError):
        return DATA, _line(str(error))
    if isinstance(error, PluginError):
        return "failed", _line(str(error))
    if isinstance(error, MemoryError):
        return "out_of_memory", _line(f"MemoryError: {error}".rstrip(": "))
    if isinstance(error, SystemExit):
        return "failed", f"the plugin ended the process with exit status {error.code!r}"
    return "failed", _line(f"{type(error).__name__}: {error}".rstrip(": "))


def _line(text: str, most: int = 500) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 3] + "..."
