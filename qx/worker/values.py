"""Values, group names and details of metrics, checked and converted to JSON; every launch imports this."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from itertools import islice

# Imported before any plugin: one that replaces functions of other modules must not change the samples of
# other metrics.
from json import dumps, loads
from math import isfinite
from typing import Any

from qx.contract.records import LARGEST
from qx.errors import QxError
from qx.values import Json, JsonMapping

#: The largest number of values of a metric, since an endless iterator must not fill the memory.
MOST_VALUES = 1 << 22
#: The largest number of groups of items.
MOST_GROUPS = 1 << 16
#: The largest size of details as JSON, in characters.
MOST_DETAILS = 1 << 20
#: The deepest nesting of details; the results file that they are part of may be nested deeper.
DEEPEST_DETAILS = 32


def finite_values(metric: str, values: object) -> list[float]:
    """Return the values as floats. Raises ``QxError`` if they are no numbers, too many, or not finite."""
    try:
        floats = [_number(value) for value in islice(_items(values), MOST_VALUES + 1)]
    except (TypeError, ValueError, OverflowError) as error:
        raise QxError(f"{metric}: measure gave {type(values).__name__}, not numbers") from error
    if not floats:
        raise QxError(f"{metric}: measure gave no values")
    if len(floats) > MOST_VALUES:
        raise QxError(f"{metric}: measure gave more than {MOST_VALUES:,} values")
    if not all(isfinite(value) for value in floats):
        raise QxError(f"{metric}: measure gave values that are not finite")
    if any(abs(value) >= LARGEST for value in floats):
        raise QxError(f"{metric}: measure gave values too large to compute with ({LARGEST:g} or more)")
    return floats


def _items(values: Any) -> Iterator[Any]:
    """Iterate over one number or a sequence of numbers. Raises ``TypeError`` for text, sets and mappings."""
    if isinstance(values, (str, bytes, bytearray, Mapping, Set)) or getattr(values, "ndim", 1) > 1:
        raise TypeError
    if isinstance(values, (int, float)) or getattr(values, "ndim", 1) == 0:
        return iter((values,))
    return iter(values)


def _number(value: Any) -> float:
    # `float` would take text and arrays of one element too.
    if isinstance(value, (str, bytes, bytearray)) or getattr(value, "ndim", 0) > 0:
        raise TypeError
    return float(value)


def plain_names(metric: str, group_names: Iterable[str]) -> list[str]:
    """Return the names of the groups as a list of text. Raises ``QxError``."""
    names = list(islice(group_names, MOST_GROUPS + 1))
    if len(names) > MOST_GROUPS:
        raise QxError(f"{metric}: measure gave more than {MOST_GROUPS:,} group names")
    if not all(isinstance(name, str) for name in names):
        raise QxError(f"{metric}: measure gave group names that are not text")
    return [str(name) for name in names]


def as_json(metric: str, details: JsonMapping) -> Json:
    """Return the details as JSON, with arrays and numbers of numpy as lists and numbers."""
    if type(details) is dict and not details:
        return {}

    from qx.storage.strict_json import check

    def plain(value: object) -> Json:
        if hasattr(value, "tolist"):
            return value.tolist()
        raise TypeError(f"there is a {type(value).__name__} in them")

    try:
        text = dumps(dict(details), default=plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise QxError(f"{metric}: measure gave details that are not JSON: {error}") from error
    if len(text) > MOST_DETAILS:
        raise QxError(
            f"{metric}: measure gave details of {len(text):,} characters; the limit is {MOST_DETAILS:,}"
        )
    try:
        # Numbers that are not finite become null in the results.
        check(loads(text, parse_constant=lambda _: None), DEEPEST_DETAILS)
    except ValueError as error:
        raise QxError(f"{metric}: measure gave details of which {error}") from error
    return loads(text)
