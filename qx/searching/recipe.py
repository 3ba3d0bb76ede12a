"""A recipe: one config with its options, in a file that commands take, and the rules that it was held to."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import Factory, frozen

from qx.errors import UsageError
from qx.foreign import to_line
from qx.storage.toml import read_toml
from qx.values import OptionValue, OptionValues

#: Largest size of a recipe in bytes, and the deepest nesting in levels.
MAX_BYTES, MAX_DEPTH = 1 << 20, 8
#: Largest number of options of a recipe.
MAX_OPTIONS = 200
#: Number of letters of a text that a message quotes.
ROOM = 60
#: Keys of a recipe; ``rule`` is read by the gate, and ``search`` by people.
KEYS = ("config", "options", "rule", "search", "false_alarms")


@frozen(kw_only=True)
class Recipe:
    """A config with the options that differ from its own."""

    config: str
    options: OptionValues = Factory(dict)

    @property
    def settings(self) -> tuple[str, ...]:
        """The options as ``--set`` takes them, in their order."""
        return tuple(f"{self.config}.{name}={_as_setting(value)}" for name, value in self.options.items())

    @property
    def words(self) -> str:
        """The options of a command line that name the recipe."""
        return " ".join([f"-c {self.config}", *(f"--set {shlex.quote(text)}" for text in self.settings)])


def read_recipe(place: Path) -> Recipe:
    """Read a recipe. Raises ``UsageError`` in one line."""
    fields = read_toml(place, "recipe", "qx search writes one", MAX_BYTES, MAX_DEPTH)
    for name in fields:
        if name not in KEYS:
            raise UsageError(f"{place}: unknown key {_quoted(name)} (choose from {', '.join(KEYS)})")
    config, options = fields.get("config"), fields.get("options", {})
    if not isinstance(config, str) or not config:
        raise UsageError(f'{place} names no config: expected config = "NAME"')
    if not isinstance(options, dict) or len(options) > MAX_OPTIONS:
        raise UsageError(f"{place}: options must be a table of at most {MAX_OPTIONS} options")
    for name, value in options.items():
        is_number = isinstance(value, (int, float)) and math.isfinite(value)
        if not isinstance(value, (str, bool)) and not is_number:
            raise UsageError(
                f"{place}: options.{to_line(name, ROOM)} must be a number, true, false or a text, "
                f"not {_quoted(value)}"
            )
    return Recipe(config=config, options=options)


def write_recipe(
    recipe: Recipe, rules: Sequence[Mapping[str, str | float]], facts: Mapping[str, str], comment: str
) -> str:
    """Return the text of a recipe's file: the config, its options, the rules of ``qx gate``, and facts."""
    lines = [f"# {text}" for text in comment.splitlines()]
    lines += [f"config = {_as_toml(recipe.config)}", "", "[options]"]
    lines += [f"{_key(name)} = {_as_toml(value)}" for name, value in recipe.options.items()]
    for rule in rules:
        lines += ["", "[[rule]]", *(f"{name} = {_as_toml(value)}" for name, value in rule.items())]
    lines += ["", "[search]", *(f"{_key(name)} = {_as_toml(value)}" for name, value in facts.items())]
    return "\n".join(lines) + "\n"


def _as_setting(value: OptionValue) -> str:
    """Return a value as ``--set`` takes it: in double quotes where a comma would make two of it."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if any(sign in text for sign in ',"'):
        doubled = text.replace('"', '""')
        return f'"{doubled}"'
    return text


def _as_toml(value: OptionValue) -> str:
    # A text of JSON is a basic string of TOML, but for the delete character, which TOML wants escaped.
    return json.dumps(value).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else _as_toml(name)


def _quoted(value: object) -> str:
    return to_line(repr(value), ROOM)
