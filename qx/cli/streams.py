"""Standard output and standard error: usable whatever they are, with one function for lines to the user."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO, cast

from qx.foreign import to_lines, to_terminal

#: What a character is written as that the encoding of a stream does not have.
ERRORS = "backslashreplace"


def say(line: str, start: str = "") -> None:
    """Print one line on standard error; where nothing can be written there, it is lost and no error.

    ``start`` is qx's own, and printed as it is.
    """
    _write(start + to_terminal(line))


def say_lines(text: str) -> None:
    """Print several lines on standard error, as ``say`` does."""
    _write(to_lines(text))


class OutputError(Exception):
    """Nothing can be written to standard output, and why."""


class _Output:
    """Standard output, whose errors are told from those of files."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._told_apart():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._told_apart():
            self._stream.flush()

    @contextmanager
    def _told_apart(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(error.strerror or str(error)) from error


@contextmanager
def usable_streams() -> Iterator[None]:
    """Have both streams there, taking every character, while a command runs. Errors are ``OutputError``.

    A closed descriptor becomes the null device: the next file that is opened would take its number, and get
    what is printed. Python's own streams are None then.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    errors = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors=ERRORS)
    try:
        with redirect_stdout(cast("TextIO", _Output(sys.stdout))):
            yield
    finally:
        for stream, former in zip(streams, errors, strict=True):
            # It may have been closed since.
            with suppress(ValueError, OSError):
                stream.reconfigure(errors=former)


def discard(stream: TextIO) -> None:
    """Send what is left in a stream to nowhere: Python would try again at exit, and complain."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    with suppress(OSError, ValueError, OutputError):
        stream.flush()


def _write(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        discard(sys.stderr)
