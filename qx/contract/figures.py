"""Points and figures: where a metric is measured, and which of its values is meant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import field, frozen
from attrs.validators import ge, instance_of, matches_re, optional

if TYPE_CHECKING:
    from qx.values import JsonMapping, JsonObject

#: Name of the kind of call of a subject that has only one.
CALL = "call"
#: Pattern of names of kinds of call.
CALL_NAME = r"[a-z][a-z0-9_]*"
_POINT = re.compile(
    rf"(?P<batch_size>[1-9][0-9]{{0,8}})(?:x(?P<length>[1-9][0-9]{{0,8}}))?(?::(?P<call>{CALL_NAME}))?"
)


@frozen
class Point:
    """What one timed call is: its number of items, the length of its inputs, and its kind.

    As text, ``"1"`` is batch size 1, ``"1x128"`` has inputs of length 128, and ``"1x128:decode"`` is a call
    of another kind.
    """

    #: Number of items in a call.
    batch_size: int = field(validator=[instance_of(int), ge(1)])
    #: Length of the inputs along their free dimension, such as a number of tokens; None where they have none.
    length: int | None = field(default=None, validator=optional([instance_of(int), ge(1)]))
    #: Kind of call, for a subject that has several.
    call: str = field(default=CALL, validator=matches_re(CALL_NAME))

    def __str__(self) -> str:
        length = "" if self.length is None else f"x{self.length}"
        return f"{self.batch_size}{length}" + (f":{self.call}" if self.call != CALL else "")

    @classmethod
    def parse(cls, text: str) -> Point:
        """Return the point that ``str`` has written. Raises ``ValueError``."""
        match = _POINT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a point; expected sizes joined by x, such as '1' or '1x128'")
        length = match["length"]
        return cls(int(match["batch_size"]), int(length) if length else None, match["call"] or CALL)

    @property
    def words(self) -> str:
        """The point in words, such as ``batch 1, length 128``."""
        parts = [f"batch {self.batch_size}"]
        if self.length is not None:
            parts.append(f"length {self.length}")
        if self.call != CALL:
            parts.append(self.call)
        return ", ".join(parts)

    def to_json(self) -> JsonObject:
        """Return the point for JSON, without a length or a kind of call that it does not have."""
        fields: JsonObject = {"batch_size": self.batch_size}
        if self.length is not None:
            fields["length"] = self.length
        if self.call != CALL:
            fields["call"] = self.call
        return fields

    @classmethod
    def from_json(cls, value: JsonMapping | Point) -> Point:
        """Return the point that ``to_json`` has written; a point as it is."""
        return value if isinstance(value, Point) else cls(**value)


@frozen
class Figure:
    """One metric, at one point where it is measured at several: a column of the results."""

    metric: str
    #: Point that it is measured at; None for a metric that is not measured at each point.
    point: Point | None = None

    def __str__(self) -> str:
        """Return the heading of a column, such as ``latency (batch 1)``."""
        return self.metric if self.point is None else f"{self.metric} ({self.point.words})"

    @property
    def parameters(self) -> str:
        """The point in words, such as ``batch 1``; empty where there is none."""
        return "" if self.point is None else self.point.words

    @property
    def key(self) -> str:
        """The figure in the names of arrays, such as ``latency|1``; see ``parse_key``."""
        return f"{self.metric}|{self.point or ''}"

    @classmethod
    def parse_key(cls, key: str) -> Figure:
        """Return the figure that ``key`` names. Raises ``ValueError``."""
        metric, bar, point = key.partition("|")
        if not bar or not metric:
            raise ValueError(
                f"{key!r} is not the name of a figure; expected METRIC|POINT, such as 'latency|1'"
            )
        return cls(metric, Point.parse(point) if point else None)
