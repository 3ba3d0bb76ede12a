"""Recipes: written by a search, read by other commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from qx.contract.options import Setting
from qx.errors import UsageError
from qx.gate import read_rules
from qx.searching.recipe import KEYS, Recipe, read_recipe, write_recipe

OPTIONS = {
    "bits": 4,
    "alpha": 0.5,
    "fold": True,
    "float_layers": 'a.b+c"d,e',
    "name": "\N{GREEK SMALL LETTER MU}\x7f\n",
}
RULES = [{"metric": "accuracy", "config": "mine", "largest_drop": 0.005}]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """A recipe has its config, every option with its type, and the rules of the gate."""
    place = tmp_path / "recipe.toml"
    recipe = Recipe(config="mine", options=OPTIONS)
    text = write_recipe(recipe, RULES, {"model": "toy", "sha256 model.pt": "0"}, "one\ntwo")
    place.write_text(text)
    assert text.startswith('# one\n# two\nconfig = "mine"\n')
    assert read_recipe(place) == recipe
    (rule,) = read_rules(place, other_keys=[name for name in KEYS if name != "rule"]).rules
    assert (rule.metric, rule.configs, rule.limit, rule.amount) == (
        "accuracy",
        ("mine",),
        "largest_drop",
        0.005,
    )


def test_settings_are_those_of_the_command_line() -> None:
    """Each option is one ``--set`` with one value, whatever signs are in it."""
    settings = [Setting.of(text) for text in Recipe(config="mine", options=OPTIONS).settings[:4]]
    assert [setting.values for setting in settings] == [("4",), ("0.5",), ("true",), ('a.b+c"d,e',)]
    assert Recipe(config="mine", options={"a": "x y"}).words == "-c mine --set 'mine.a=x y'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no recipe .*; qx search writes one"),
        ("config = ", "is not TOML"),
        ("options = {}", "names no config: expected config"),
        ("config = 3", "names no config"),
        ('config = "a"\nmore = 1', "unknown key 'more'"),
        ('config = "a"\noptions = [1]', "options must be a table"),
        ('config = "a"\n[options]\nx = [1]', "options.x must be a number, true, false or a text"),
        ('config = "a"\n[options]\nx = nan', "options.x must be a number"),
        ('config = "a"\n[options]\nx = 2020-01-01', "options.x must be a number"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    """What is no recipe is refused with the field and what was expected."""
    place = tmp_path / "recipe.toml"
    if text is not None:
        place.write_text(text)
    with pytest.raises(UsageError, match=message) as refused:
        read_recipe(place)
    assert "\n" not in str(refused.value)
