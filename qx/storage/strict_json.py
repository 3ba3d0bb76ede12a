"""Read JSON strictly: numbers that cannot be computed with and duplicate fields are refused."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import NoReturn, TypeAlias

from qx.foreign import to_line
from qx.values import Json, JsonObject

#: Largest depth of nested objects and lists, since functions that walk them call themselves for each level.
DEEPEST = 64
#: Bound of the absolute value of integers.
LARGEST_INTEGER = 2**64
#: Largest number of letters of a field's name in a message.
ROOM = 60

#: Names and positions that lead to a value, from the outermost.
Path: TypeAlias = "tuple[str | int, ...]"


def loads(text: str | bytes) -> Json:
    """Parse JSON as ``json.loads`` does. Raises ``ValueError`` in one line with the field and its flaw.

    Refused are numbers that are not finite or too large to compute with, duplicate fields of an object,
    values nested deeper than ``DEEPEST``, and bytes that are no UTF-8.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        value = json.loads(text, parse_constant=_no_number, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels") from error
    check(value)
    return value


def check(value: object, deepest: int = DEEPEST, *, numbers: bool = True) -> None:
    """Raise ``ValueError`` for values nested too deeply, and for numbers that cannot be computed with."""
    # Not recursive, since the depth is not yet known to be limited.
    pending: list[tuple[object, Path]] = [(value, ())]
    while pending:
        part, path = pending.pop()
        if isinstance(part, (dict, list)):
            if len(path) >= deepest:
                raise ValueError(f"{place(path[:3])} is nested deeper than {deepest} levels")
            inner = part.items() if isinstance(part, dict) else enumerate(part)
            pending.extend((item, (*path, key)) for key, item in inner)
        elif numbers and isinstance(part, float) and not math.isfinite(part):
            raise ValueError(f"{place(path)} must be a finite number")
        elif numbers and isinstance(part, int) and abs(part) >= LARGEST_INTEGER:
            raise ValueError(f"{place(path)} must be a whole number of at most 64 bits")


def place(path: Sequence[str | int]) -> str:
    """Return the name of a field for messages: ``cells['toy/quick'].outcome``."""
    words = ""
    for step in path:
        if isinstance(step, int):
            words += f"[{step}]"
        elif step.isidentifier() and step.isascii() and len(step) <= ROOM:
            words += f".{step}"
        else:
            words += f"[{to_line(step, ROOM)!r}]"
    return words.removeprefix(".") or "the top level"


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number in JSON")


def _object(pairs: list[tuple[str, Json]]) -> JsonObject:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        ((duplicate, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the field {to_line(duplicate, ROOM)!r} appears twice")
    return fields
