"""How fields of records are converted and validated. Light: neither numpy nor torch."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field
from attrs.validators import deep_iterable, instance_of, matches_re, optional

#: What a plugin, an option and a distribution's module may be called. Files and folders are named after it.
NAME = r"[a-z][a-z0-9_]{0,99}"


def to_strings(values: Iterable[str]) -> tuple[str, ...]:
    """Any strings as a tuple. ``TypeError`` for a single one, which is an iterable of letters."""
    if isinstance(values, str):
        raise TypeError(f"several texts are due, as in [{values!r}], not the text {values!r}")
    return tuple(values)


def to_integers(values: Iterable[int]) -> tuple[int, ...]:
    """Any integers as a tuple."""
    return tuple(values)


def to_values(values: Iterable[object]) -> tuple[object, ...]:
    """Anything as a tuple."""
    return tuple(values)


def name_field() -> str:
    """A name, required."""
    name: str = field(validator=[instance_of(str), matches_re(NAME)])
    return name


def text_field() -> str:
    """Any text, required."""
    text: str = field(validator=instance_of(str))
    return text


def optional_text_field() -> str | None:
    """Any text, or None, which it is unless it is given."""
    text: str | None = field(default=None, validator=optional(instance_of(str)))
    return text


def flag_field() -> bool:
    """True or false; false unless it is given."""
    flag: bool = field(default=False, validator=instance_of(bool))
    return flag


#: Validates fields that hold strings.
STRINGS = deep_iterable(instance_of(str))
