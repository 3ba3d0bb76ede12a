"""Fields of records: how they are converted and validated. This module imports neither numpy nor torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, SupportsFloat

from attrs import Attribute, field
from attrs.validators import deep_iterable, instance_of, matches_re, optional

#: Pattern of the names of plugins, options and a distribution's module, which also name files and folders.
NAME = r"[a-z][a-z0-9_]{0,99}"


def to_strings(values: Iterable[str]) -> tuple[str, ...]:
    """Return strings as a tuple. Raises ``TypeError`` for a single string, which iterates over letters."""
    if isinstance(values, str):
        raise TypeError(f"expected a list of texts such as [{values!r}], not the text {values!r}")
    return tuple(values)


def to_integers(values: Iterable[int]) -> tuple[int, ...]:
    """Return integers as a tuple."""
    return tuple(values)


def to_values(values: Iterable[object]) -> tuple[object, ...]:
    """Return any values as a tuple."""
    return tuple(values)


def name_field() -> str:
    """Return a field for a required name."""
    name: str = field(validator=[instance_of(str), matches_re(NAME)])
    return name


def text_field() -> str:
    """Return a field for a required text."""
    text: str = field(validator=instance_of(str))
    return text


def optional_text_field() -> str | None:
    """Return a field for an optional text, by default None."""
    text: str | None = field(default=None, validator=optional(instance_of(str)))
    return text


def flag_field() -> bool:
    """Return a field for a boolean, by default false."""
    flag: bool = field(default=False, validator=instance_of(bool))
    return flag


def number_field() -> float:
    """Return a field for a required number of at least 0, finite."""
    number: float = field(converter=float, validator=_check_amount)
    return number


def optional_number_field() -> float | None:
    """Return a field for a number of at least 0, finite, by default None."""
    number: float | None = field(default=None, converter=_float_or_none, validator=_check_amount)
    return number


def _float_or_none(value: SupportsFloat | None) -> float | None:
    return None if value is None else float(value)


def _check_amount(_: object, attribute: Attribute[Any], value: float | None) -> None:
    if value is not None and not 0 <= value < math.inf:
        raise ValueError(f"{attribute.name!r} must be finite and at least 0, not {value!r}")


#: Validates fields that hold strings.
STRINGS = deep_iterable(instance_of(str))


def check_modules_of_torch(_: object, attribute: Attribute[Any], value: tuple[object, ...]) -> None:
    """Raise ``ValueError`` for anything but names of modules of torch: others would run in every build."""
    for name in value:
        if not isinstance(name, str) or not f"{name}.".startswith("torch."):
            raise ValueError(f"'{attribute.name}' must be modules of torch, not {name!r}")
