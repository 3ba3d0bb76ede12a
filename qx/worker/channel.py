"""How a worker talks to its host: lines of JSON over the process's first standard input and output.

Both are moved aside at once, so that a plugin that prints, or reads, cannot disturb the conversation. What
the channel needs is looked up when this module is imported, before any plugin: one which replaces functions
of ``json`` or ``os`` does not reach it. Processes that a plugin forks have no part in the conversation. A
line begins with a token that the host gave: what a plugin writes into the descriptor is no message.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock
from collections.abc import Callable, Iterator
from json import JSONDecoder, JSONEncoder
from math import isfinite
from os import write

from qx.values import JsonMapping, JsonObject

_to_json, _from_json = JSONEncoder().encode, JSONDecoder().decode


class Channel:
    """The worker's end."""

    #: What goes with every answer.
    besides: Callable[[], JsonMapping] | None = None

    def __init__(self) -> None:
        # Programs that a plugin starts do not inherit these.
        self._commands = os.fdopen(os.dup(0), "r", encoding="utf-8")
        self._answers = os.dup(1)
        self._sending = allocate_lock()
        os.register_at_fork(after_in_child=self._hang_up)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
        # Line by line: what a plugin said last is to be in the log when its native code dies.
        sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
        self._token = self._commands.readline().strip()

    def job(self) -> str:
        """The line after the token: the job."""
        return self._commands.readline()

    def commands(self) -> Iterator[JsonObject]:
        """What the host asks for, until it hangs up."""
        for line in iter(self._commands.readline, ""):
            yield _from_json(line)

    def stage(self, name: str) -> None:
        """Say which step begins: it is named if the process dies in it, and timeouts count from it."""
        self._send({"stage": name})

    def progress(self, done: float, text: str) -> None:
        """Say how far the step is, 0 to 1."""
        done = float(done)
        self._send({"progress": min(max(done, 0.0), 1.0) if isfinite(done) else 0.0, "text": str(text)})

    def answer(self, **fields: object) -> None:
        """End a command well."""
        self._send({"answer": {**fields, **(self.besides() if self.besides else {})}})

    def fail(self, outcome: str, cause: str, **fields: object) -> None:
        """End a command badly."""
        self._send({"failure": outcome, "cause": cause, **fields})

    def _send(self, message: JsonMapping) -> None:
        line = memoryview(f"{self._token} {_to_json(message)}\n".encode())
        with self._sending:
            while line:
                line = line[write(self._answers, line) :]

    def _hang_up(self) -> None:
        """In a process that a plugin has forked, leave the conversation to its parent."""
        for descriptor in (self._answers, self._commands.fileno()):
            os.close(descriptor)
        self._answers = -1
