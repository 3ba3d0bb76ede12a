"""How a worker talks to its host: JSON lines over the process's first standard input and output.

Both are moved aside at once, so that a plugin that prints, or reads, cannot disturb the conversation.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any


class Channel:
    """The worker's end."""

    #: What goes with every answer.
    besides: Callable[[], Mapping[str, Any]] | None = None

    def __init__(self) -> None:
        self._commands = os.fdopen(os.dup(0), "r", encoding="utf-8")
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
        # Line by line: what a plugin said last is to be in the log when its native code dies.
        sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115

    def job(self) -> str:
        """The first line: the job."""
        return self._commands.readline()

    def commands(self) -> Iterator[dict[str, Any]]:
        """What the host asks for, until it hangs up."""
        for line in iter(self._commands.readline, ""):
            yield json.loads(line)

    def stage(self, name: str) -> None:
        """Say which step begins: it is named if the process dies in it, and timeouts count from it."""
        self._send({"stage": name})

    def progress(self, done: float, text: str) -> None:
        """Say how far the step is, 0 to 1."""
        self._send({"progress": float(done), "text": str(text)})

    def answer(self, **fields: Any) -> None:
        """End a command well."""
        self._send({"answer": {**fields, **(self.besides() if self.besides else {})}})

    def fail(self, outcome: str, cause: str, **fields: Any) -> None:
        """End a command badly."""
        self._send({"failure": outcome, "cause": cause, **fields})

    def _send(self, message: Mapping[str, Any]) -> None:
        self._answers.write(json.dumps(message) + "\n")
        self._answers.flush()
