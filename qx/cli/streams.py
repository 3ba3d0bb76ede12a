"""Make standard output and standard error usable whatever they are, and print lines for the user."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO, cast

from qx.foreign import to_lines, to_printed, to_terminal

#: Error handler for characters that the encoding of a stream does not have.
ERRORS = "backslashreplace"


def say(line: str, start: str = "") -> None:
    """Print one line on standard error, and lose it silently where nothing can be written there.

    ``start`` is qx's own text and printed unchanged, while ``line`` may have foreign text in it.
    """
    _write(start + to_terminal(line))


def say_lines(text: str) -> None:
    """Print several lines on standard error, as ``say`` does."""
    _write(to_lines(text))


def say_printed(text: str) -> None:
    """Print what a plugin printed, or a traceback, on standard error: lines with all their spaces."""
    _write(to_printed(text))


class OutputError(Exception):
    """Nothing can be written to standard output; the message says why."""


class _Output:
    """Standard output, with errors that differ from those of files: ``OutputError``."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._errors_as_output_errors():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._errors_as_output_errors():
            self._stream.flush()

    @contextmanager
    def _errors_as_output_errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(error.strerror or str(error)) from error


@contextmanager
def usable_streams() -> Iterator[None]:
    """Keep both streams open and able to write every character while a command runs.

    Errors of standard output are ``OutputError``. A closed descriptor, for which Python's stream is None,
    becomes the null device: otherwise the next file that is opened would take its number, and receive what
    is printed.
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
            # The stream may have been closed in the meantime.
            with suppress(ValueError, OSError):
                stream.reconfigure(errors=former)


def discard(stream: TextIO) -> None:
    """Discard what a stream still holds, which Python would try to write at exit and report as an error."""
    with suppress(OSError, ValueError):
        null_device = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_device, stream.fileno())
        os.close(null_device)
    with suppress(OSError, ValueError, OutputError):
        stream.flush()


def _write(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        discard(sys.stderr)
