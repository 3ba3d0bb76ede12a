"""The messages of a worker to its host. Anything else in the channel was written by a plugin."""

from __future__ import annotations

import json
import math
from typing import TypeAlias, get_args

from attrs import frozen

from qx.contract.records import Outcome
from qx.processes.failures import DATA, USAGE
from qx.tracebacks import Traceback, cut
from qx.values import JsonObject

#: The largest size of a message in bytes: a plugin may write a line without end.
MAX_MESSAGE_BYTES = 64 << 20
#: The outcomes of a command that failed.
BAD_OUTCOMES = frozenset({*get_args(Outcome), USAGE, DATA})


class NotAMessage(Exception):
    """A line that is no message of a worker. The text of the exception says why."""


@frozen
class Stage:
    """The worker begins a step."""

    name: str


@frozen
class Progress:
    """The share of the step that is done, 0 to 1."""

    done: float
    text: str


@frozen
class Answer:
    """A command has succeeded. The fields are those of its record, see ``qx.processes.answers``."""

    fields: JsonObject


@frozen
class BadEnd:
    """A command has failed."""

    outcome: str
    cause: str
    traceback: Traceback


Message: TypeAlias = "Stage | Progress | Answer | BadEnd"


def read_message(line: bytes, token: bytes) -> Message:
    """Return the message in a line, which begins with the worker's token. Raises ``NotAMessage``."""
    start, _, text = line.partition(b" ")
    if start != token:
        raise NotAMessage("it lacks the token of this worker")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotAMessage(f"it is not JSON: {error}") from error
    match fields:
        case {"stage": str(name)}:
            return Stage(name)
        case {"progress": float(done), "text": str(words)} if math.isfinite(done):
            return Progress(done, words)
        case {"answer": dict(answer)}:
            return Answer(answer)
        case {
            "failure": str(outcome),
            "cause": str(cause),
            "traceback": {"full": str(full), "shown": str(shown)},
        } if outcome in BAD_OUTCOMES:
            return BadEnd(outcome, cause, cut(Traceback(full=full, shown=shown)))
    raise NotAMessage("it does not have the fields of any message")
