"""Turn an exception of a worker into an outcome and a cause of one line."""

from __future__ import annotations

import signal
import sys

from qx.contract.records import Outcome
from qx.errors import DataError, QxError, Unsupported, UsageError
from qx.foreign import one_line, to_line

#: The largest length of a cause, in characters.
MAX_CAUSE = 500
#: Signal at which a worker writes the stacks of all its threads into its log.
STACKS_SIGNAL = signal.SIGUSR1
#: Outcomes that stand for a ``UsageError`` or ``DataError``, which the host raises again.
USAGE = "usage"
DATA = "data"
#: Jobs that run before there are cells, or without any. In every other job an exception is a failure of its
#: cell: a config that raises ``DataError`` must not end the run.
JOBS_WITHOUT_CELL = frozenset({"inspect", "data", "train", "examine", "device"})


def failure_of(error: BaseException, do: str) -> tuple[Outcome | str, str]:
    """Return the outcome and the cause of a job that raised an error.

    The outcomes ``usage`` and ``data`` stand for errors that the user has to mend.
    """
    outcome, cause = outcome_of(error)
    if do in JOBS_WITHOUT_CELL and isinstance(error, (UsageError, DataError)):
        return USAGE if isinstance(error, UsageError) else DATA, cause
    return outcome, cause


def outcome_of(error: BaseException) -> tuple[Outcome, str]:
    """Return the outcome of a cell, or of a metric of a cell, that raised this error, and the cause."""
    try:
        return _outcome_of(error)
    except BaseException:
        # The `__str__` of a plugin's error may raise.
        return "failed", one_line(error, MAX_CAUSE)


def _outcome_of(error: BaseException) -> tuple[Outcome, str]:
    if isinstance(error, Unsupported):
        return "unsupported", to_line(str(error), MAX_CAUSE)
    if isinstance(error, QxError):
        return "failed", to_line(str(error), MAX_CAUSE)
    if isinstance(error, MemoryError) or _is_of_device_memory(error):
        return "out_of_memory", one_line(error, MAX_CAUSE)
    if isinstance(error, SystemExit):
        return "failed", to_line(f"the plugin ended the process with exit status {error.code!r}", MAX_CAUSE)
    return "failed", one_line(error, MAX_CAUSE)


def _is_of_device_memory(error: BaseException) -> bool:
    """Return whether torch raised an error for want of memory on a device; it is no ``MemoryError``."""
    kind = getattr(sys.modules.get("torch"), "OutOfMemoryError", None)
    return kind is not None and isinstance(error, kind)
