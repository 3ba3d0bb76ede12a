"""Options of plugins as the user writes them, ``NAME.OPTION=VALUE``, and as they appear in names of cells."""

from __future__ import annotations

import csv
import re
from urllib.parse import quote

from attrs import frozen

from qx.contract.records import TYPES, Option, as_word
from qx.errors import UsageError
from qx.values import OptionValues


@frozen
class Setting:
    """The value of one ``--set`` option."""

    #: Text as the user wrote it.
    text: str
    plugin: str
    option: str
    #: Values as texts, not yet parsed.
    values: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Setting:
        """Parse ``NAME.OPTION=VALUE[,VALUE...]``, where a value with a comma stands in double quotes.

        Raises ``UsageError``.
        """
        match = re.fullmatch(r"([^.=\s]+)\.([^.=\s]+)=(.*)", text, re.DOTALL)
        if match is None:
            raise UsageError(f"--set {text}: expected NAME.OPTION=VALUE, such as my_config.bits=4")
        try:
            (values,) = csv.reader([match[3]], strict=True) if match[3] else ([""],)
        except (csv.Error, ValueError) as error:
            raise UsageError(
                f"--set {text}: its quotes are not closed, or it has more than one line"
            ) from error
        return cls(text, match[1], match[2], tuple(values))


def parse(option: Option, text: str) -> int | float | bool | str:
    """Return the value that a text stands for. Raises ``ValueError`` that says what it must be."""
    value: int | float | bool | str = text
    try:
        if option.type is bool:
            value = {"true": True, "false": False}[text.lower()]
        elif option.type is int:
            # `int` also takes underscores, spaces and the digits of other scripts.
            if re.fullmatch(r"[+-]?[0-9]+", text) is None:
                raise ValueError(text)
            value = int(text)
        elif option.type is float:
            value = float(text)
    except (KeyError, ValueError):
        raise ValueError(f"must be {_expected(option)}, not {text!r}") from None
    if flaw := option.flaw(value):
        raise ValueError(f"must be {flaw}, not {text!r}")
    return value


def _expected(option: Option) -> str:
    listed = ", ".join(map(as_word, option.choices))
    return f"one of {listed}" if option.choices else TYPES[option.type]


def label(options: OptionValues) -> str:
    """Return ``[bits=4,rounding=up]`` for the name of a cell; empty without options.

    In texts everything with a meaning in a cell's id is percent-encoded, so that no two ids are equal.
    """
    pairs = ",".join(f"{name}={quote(as_word(value), safe='+:@')}" for name, value in options.items())
    return f"[{pairs}]" if pairs else ""
