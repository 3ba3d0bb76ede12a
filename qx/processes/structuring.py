"""Read records from the JSON of workers, and refuse whatever does not fit them.

Types are those of annotations: scalars, ``Literal``, ``X | None``, sequences, mappings, other records, and
classes with a ``from_json`` of their own. Nothing is converted but what JSON cannot hold: tuples, and whole
numbers as keys.
"""

from __future__ import annotations

import collections.abc
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import attrs

from qx.foreign import to_line
from qx.storage.strict_json import ROOM, Path, place
from qx.values import Json, JsonMapping

R = TypeVar("R")

#: Reads a value at a path from the outermost record. Raises ``Misfit``.
Reader = Callable[[Json, Path], Any]

#: Types of JSON that a scalar may have. A bool is no number, although Python says so.
SCALARS: dict[Any, frozenset[type]] = {
    str: frozenset([str]),
    bool: frozenset([bool]),
    int: frozenset([int]),
    float: frozenset([float, int]),
    NoneType: frozenset([NoneType]),
}
#: Words for types of JSON, as they are expected and as they are found.
WORDS: dict[Any, str] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    NoneType: "null",
    list: "a list",
    dict: "an object",
}


class Misfit(ValueError):
    """JSON that does not fit a record. The text of the exception names the field and what is expected."""


def structure(kind: type[R], value: Json) -> R:
    """Return the record of this type that JSON stands for. Raises ``Misfit``."""
    return cast("R", _reader(cast("Any", kind))(value, ()))


@cache
def _reader(kind: Any) -> Reader:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return _any
    if kind in SCALARS:
        return _scalar_reader(kind)
    if hasattr(kind, "from_json"):
        return _own_reader(kind)
    if attrs.has(origin or kind):
        return _record_reader(origin or kind, arguments)
    if origin in (Union, UnionType):
        return _union_reader(arguments)
    if origin is Literal:
        return _literal_reader(arguments)
    if origin is tuple and arguments[1:] == (...,):
        items = _sequence_reader(arguments[0])
        return lambda value, path: tuple(items(value, path))
    if origin is collections.abc.Sequence:
        return _sequence_reader(arguments[0])
    if origin is collections.abc.Mapping:
        return _mapping_reader(*arguments)
    raise TypeError(f"no field of an answer can have the type {kind}")


def _any(value: Json, _: Path) -> Json:
    return value


def _scalar_reader(kind: type) -> Reader:
    allowed = SCALARS[kind]

    def read(value: Json, path: Path) -> Json:
        if type(value) not in allowed:
            raise _misfit(kind, value, path)
        return value

    return read


def _own_reader(kind: Any) -> Reader:
    def read(value: Json, path: Path) -> Any:
        try:
            return kind.from_json(value)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise Misfit(f"{place(path)} is wrong: {error}") from error

    return read


def _record_reader(kind: type, arguments: tuple[Any, ...]) -> Reader:
    hints = get_type_hints(kind)
    variables = dict(zip(getattr(kind, "__parameters__", ()), arguments, strict=True))
    types = {
        field.name: variables.get(hints[field.name], hints[field.name])
        for field in attrs.fields(cast("type[attrs.AttrsInstance]", kind))
    }
    readers = {name: _reader(type_) for name, type_ in types.items()}

    def read(value: Json, path: Path) -> Any:
        if type(value) is not dict:
            raise _misfit(dict, value, path)
        if value.keys() != readers.keys():
            raise _wrong_fields(types, value, path)
        return kind(**{name: reader(value[name], (*path, name)) for name, reader in readers.items()})

    return read


def _wrong_fields(types: Mapping[str, Any], value: JsonMapping, path: Path) -> Misfit:
    for name, kind in types.items():
        if name not in value:
            return Misfit(f"{place((*path, name))} is missing, which must be {_expected(kind)}")
    unknown = next(name for name in value if name not in types)
    return Misfit(f"{place((*path, unknown))} is no field of it (it has {', '.join(types) or 'none'})")


def _union_reader(kinds: tuple[Any, ...]) -> Reader:
    """Return a reader of scalars of several types, or of one other type, any of which may be null."""
    scalars = [kind for kind in kinds if kind in SCALARS]
    allowed = frozenset().union(*(SCALARS[kind] for kind in scalars))
    others = [_reader(kind) for kind in kinds if kind not in SCALARS]
    if len(others) > 1:
        raise TypeError(f"JSON does not say which of these types it has: {kinds}")

    def read(value: Json, path: Path) -> Any:
        if type(value) in allowed:
            return value
        if not others:
            raise _misfit(Union[kinds], value, path)  # noqa: UP007 - made of a tuple
        return others[0](value, path)

    return read


def _literal_reader(choices: tuple[Any, ...]) -> Reader:
    def read(value: Json, path: Path) -> Json:
        if not isinstance(value, str) or value not in choices:
            raise _misfit(Literal[choices], value, path)
        return value

    return read


def _sequence_reader(kind: Any) -> Callable[[Json, Path], list[Any]]:
    """Return a reader of lists. Long lists of scalars are checked without a call for each item."""
    allowed, reader = _types_of_items(kind), _reader(kind)

    def read(value: Json, path: Path) -> list[Any]:
        if type(value) is not list:
            raise _misfit(list, value, path)
        if allowed is not None and allowed.issuperset(map(type, value)):
            return value
        return [reader(item, (*path, index)) for index, item in enumerate(value)]

    return read


def _types_of_items(kind: Any) -> frozenset[type] | None:
    """Return the types that JSON may have for scalars of this type; None for other types."""
    kinds: Iterable[Any] = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if not all(part in SCALARS for part in kinds):
        return None
    return frozenset().union(*(SCALARS[part] for part in kinds))


def _mapping_reader(key_kind: Any, kind: Any) -> Reader:
    if key_kind not in (str, int):
        raise TypeError(f"JSON has no keys of the type {key_kind}")
    reader = _reader(kind)

    def read(value: Json, path: Path) -> dict[Any, Any]:
        if type(value) is not dict:
            raise _misfit(dict, value, path)
        for key in value:
            if key_kind is int and not (key.isascii() and key.isdecimal() and len(key) < ROOM):
                raise Misfit(f"{place((*path, key))} has a key that is no whole number")
        return {key_kind(key): reader(item, (*path, key)) for key, item in value.items()}

    return read


def _misfit(kind: Any, value: Json, path: Path) -> Misfit:
    actual = to_line(repr(value), ROOM) if isinstance(value, str) else WORDS[type(value)]
    return Misfit(f"{place(path)} must be {_expected(kind)}, and is {actual}")


def _expected(kind: Any) -> str:
    """Return the words for a type of a field."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(map(_expected, arguments))
    if origin is Literal:
        return f"one of {', '.join(arguments)}"
    if kind in WORDS:
        return WORDS[kind]
    return WORDS[list if origin in (tuple, collections.abc.Sequence) else dict]
