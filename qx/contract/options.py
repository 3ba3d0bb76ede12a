"""Options of plugins as the user writes them: ``NAME.OPTION=VALUE``, and how a cell is called by them."""

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
    """What was given to one ``--set``."""

    #: As it was written.
    text: str
    plugin: str
    option: str
    #: The values, not yet read.
    values: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Setting:
        """``NAME.OPTION=VALUE[,VALUE...]``; a value with a comma stands in double quotes.

        Raises ``UsageError``.
        """
        found = re.fullmatch(r"([^.=\s]+)\.([^.=\s]+)=(.*)", text, re.DOTALL)
        if found is None:
            raise UsageError(f"--set {text}: expected NAME.OPTION=VALUE, such as my_config.bits=4")
        try:
            (values,) = csv.reader([found[3]], strict=True) if found[3] else ([""],)
        except (csv.Error, ValueError) as error:
            raise UsageError(
                f"--set {text}: its quotes are not closed, or it has more than one line"
            ) from error
        return cls(text, found[1], found[2], tuple(values))


def parse(option: Option, text: str) -> int | float | bool | str:
    """The value that a text stands for. Raises ``ValueError``: what it must be, and is not."""
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
    """``[bits=4,rounding=up]``, for the name of a cell; empty without options.

    In a text everything that means something in a cell's id is percent-encoded, so that no two are alike.
    """
    told = ",".join(f"{name}={quote(as_word(value), safe='+:@')}" for name, value in options.items())
    return f"[{told}]" if told else ""
