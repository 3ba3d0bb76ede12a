"""What a worker may say to the host. Whatever else comes through its channel was written by a plugin."""

from __future__ import annotations

import json
import math
from typing import TypeAlias, get_args

from attrs import frozen

from qx.contract.records import Outcome
from qx.processes.failures import DATA, USAGE
from qx.values import JsonObject

#: Bytes that a message may have: a line without end is none.
LONGEST = 64 << 20
#: How a job may end when not well.
ENDS = frozenset({*get_args(Outcome), USAGE, DATA})


class NotAMessage(Exception):
    """A line that no worker writes. The message says why."""


@frozen
class Stage:
    """A step begins."""

    name: str


@frozen
class Progress:
    """The step has come so far, 0 to 1."""

    done: float
    text: str


@frozen
class Answer:
    """A command has ended well."""

    fields: JsonObject


@frozen
class BadEnd:
    """A command has ended badly."""

    outcome: str
    cause: str


Message: TypeAlias = "Stage | Progress | Answer | BadEnd"


def read_message(line: bytes, token: bytes) -> Message:
    """The message in a line, which begins with the worker's token. Raises ``NotAMessage``."""
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
        case {"failure": str(outcome), "cause": str(cause)} if outcome in ENDS:
            return BadEnd(outcome, cause)
    raise NotAMessage("it has not the fields of any message")
