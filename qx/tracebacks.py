"""Tracebacks of plugins' errors as text, with qx's own frames left out before the plugin's first."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from qx.errors import DataError, QxError, Unsupported, UsageError

if TYPE_CHECKING:
    from traceback import TracebackException

#: Largest length of a traceback in characters, and how many are kept of the beginning of a longer one. The
#: end is worth more, since it has the error.
MOST, BEGINNING = 1 << 16, 1 << 14
#: Largest number of exceptions of a chain that are looked at.
MOST_CHAINED = 100
#: Files of the machinery that calls plugins: qx itself, and the library of its hooks.
_QX = f"{Path(__file__).absolute().parent}{os.sep}"
_PLUGGY = f"{os.sep}pluggy{os.sep}"


@frozen
class Traceback:
    """The traceback of an error, with all errors that led to it; empty where there is none."""

    #: All frames, as Python prints them.
    full: str = ""
    #: The same without the frames of qx that come before the plugin's first.
    shown: str = ""


#: There was no error, or it says by itself all that there is to know.
NO_TRACEBACK = Traceback()


def traceback_of(error: BaseException) -> Traceback:
    """Return the traceback of an error that was raised in a plugin, or by qx about one.

    It is empty for an error by which a plugin says that it cannot do something, unless another error led to
    it. It never raises, although a plugin may have replaced what it needs.
    """
    if isinstance(error, QxError) and not _has_telling_frames(error):
        return NO_TRACEBACK
    try:
        return Traceback(full=_cut(_format(error)), shown=_cut(_format(error, trimmed=True)))
    except BaseException:
        return NO_TRACEBACK


def cut(traceback: Traceback) -> Traceback:
    """Return the traceback cut to its largest length, as one from another process may not be."""
    return Traceback(full=_cut(traceback.full), shown=_cut(traceback.shown))


def _has_telling_frames(error: BaseException) -> bool:
    """Return whether an error of qx says less than its traceback does.

    Those that say what the user can do, or that the plugin cannot do this, are raised on purpose.
    """
    return not isinstance(error, (DataError, Unsupported, UsageError)) or error.__cause__ is not None


def _format(error: BaseException, *, trimmed: bool = False) -> str:
    # Most launches never need it.
    from traceback import TracebackException

    formatted = TracebackException.from_exception(error)
    if trimmed:
        formatted = _without_machinery(error, formatted)
    return "".join(formatted.format()).rstrip()


def _without_machinery(error: BaseException, formatted: TracebackException) -> TracebackException:
    """Trim all errors of a chain, and leave out those at its end in which no plugin has a part."""
    waiting = [(error, formatted)]
    for _ in range(MOST_CHAINED):
        if waiting:
            waiting += _trim(*waiting.pop())
    while not formatted.stack and formatted.__cause__ is not None:
        formatted = formatted.__cause__
    return formatted


def _trim(
    error: BaseException, formatted: TracebackException
) -> list[tuple[BaseException, TracebackException]]:
    """Remove the frames of the machinery before a plugin's first, and return the errors that led to it."""
    frames = list(formatted.stack or ())
    count = next((number for number, frame in enumerate(frames) if not _is_machinery(frame.filename)), None)
    if count is not None:
        del formatted.stack[:count]
    elif isinstance(error, (QxError, SyntaxError)) or type(error).__module__.startswith("qx."):
        # Its text says all that it has to say about a plugin.
        formatted.stack = None  # type: ignore[assignment]
    pairs = [(error.__cause__, formatted.__cause__), (error.__context__, formatted.__context__)]
    members = getattr(error, "exceptions", ()), getattr(formatted, "exceptions", None) or ()
    pairs += zip(*members, strict=False)
    return [(inner, text) for inner, text in pairs if inner is not None and text is not None]


def _is_machinery(file: str) -> bool:
    is_of_python = file.startswith(("<frozen ", "<string>")) or file == _importlib()
    return is_of_python or file.startswith(_QX) or _PLUGGY in file


def _importlib() -> str:
    return str(getattr(sys.modules.get("importlib"), "__file__", ""))


def _cut(text: str) -> str:
    if len(text) <= MOST:
        return text
    rest = MOST - BEGINNING
    left_out = len(text) - MOST
    return f"{text[:BEGINNING]}\n[{left_out:,} characters are left out here]\n{text[-rest:]}"
