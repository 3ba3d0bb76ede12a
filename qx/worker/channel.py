"""The channel between a worker and its host: lines of JSON over the worker's first standard input and output.

Both descriptors are duplicated and replaced at once, so that a plugin that prints or reads cannot disturb the
messages. The functions that the channel needs are looked up when this module is imported, before any plugin:
one that replaces functions of ``json`` or ``os`` has no effect on them. Processes that a plugin forks lose
the channel. Each line begins with a token from the host, so that bytes that a plugin writes into the
descriptor are not taken for a message.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock
from collections.abc import Callable, Iterator
from json import JSONDecoder, JSONEncoder
from math import isfinite
from os import write

from qx.processes.answers import Answer, to_fields
from qx.tracebacks import Traceback
from qx.values import JsonMapping, JsonObject

_to_json, _from_json = JSONEncoder(default=to_fields).encode, JSONDecoder().decode


class Channel:
    """The worker's end of the channel."""

    #: Returns the record that is sent in place of an answer.
    wrap: Callable[[Answer], Answer] | None = None

    def __init__(self) -> None:
        # Programs that a plugin starts do not inherit these duplicates.
        self._commands = os.fdopen(os.dup(0), "r", encoding="utf-8")
        self._answers = os.dup(1)
        self._sending = allocate_lock()
        os.register_at_fork(after_in_child=self._hang_up)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
        # Line by line, so that a plugin's last line is in the log if its native code dies.
        sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
        self._token = self._commands.readline().strip()

    def job(self) -> JsonObject:
        """Read the fields of the job, which are the line after the token."""
        fields: JsonObject = _from_json(self._commands.readline())
        return fields

    def commands(self) -> Iterator[JsonObject]:
        """Yield the host's commands until it hangs up."""
        for line in iter(self._commands.readline, ""):
            yield _from_json(line)

    def stage(self, name: str) -> None:
        """Tell the host that a step begins, which a failure names and from which timeouts count."""
        self._send({"stage": name})

    def progress(self, done: float, text: str) -> None:
        """Tell the host which share of the step is done, 0 to 1."""
        done = float(done)
        self._send({"progress": min(max(done, 0.0), 1.0) if isfinite(done) else 0.0, "text": str(text)})

    def answer(self, answer: Answer) -> None:
        """Tell the host that the job or a command has succeeded."""
        self._send({"answer": answer if self.wrap is None else self.wrap(answer)})

    def fail(self, outcome: str, cause: str, traceback: Traceback) -> None:
        """Tell the host that the job or a command has failed."""
        self._send({"failure": outcome, "cause": cause, "traceback": traceback})

    def _send(self, message: JsonMapping) -> None:
        line = memoryview(f"{self._token} {_to_json(message)}\n".encode())
        with self._sending:
            while line:
                line = line[write(self._answers, line) :]

    def _hang_up(self) -> None:
        """Close the channel in a process that a plugin has forked, and leave it to the parent."""
        for descriptor in (self._answers, self._commands.fileno()):
            os.close(descriptor)
        self._answers = -1
