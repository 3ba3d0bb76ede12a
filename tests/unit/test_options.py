"""Options: what a record may declare, what a user may write, and how a cell is labelled by them."""

from __future__ import annotations

from typing import Any

import pytest

from qx import Config, Option, UsageError
from qx.contract.options import Setting, label, parse

BITS = Option(name="bits", default=8, help="Bits.", choices=[2, 4, 8])
SHARE = Option(name="share", default=0.5, help="Share.", minimum=0, maximum=1)
SEEN = Option(name="seen", default=4, help="Seen.", minimum=1)
FAST = Option(name="fast", default=False, help="Fast.")
MODE = Option(name="mode", default="near", help="Mode.", choices=["near", "up"])
NOTE = Option(name="note", default="", help="Note.")


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        (BITS, "4", 4),
        (SEEN, "+12", 12),
        (SHARE, "1", 1.0),
        (SHARE, "2.5e-1", 0.25),
        (FAST, "true", True),
        (FAST, "False", False),
        (MODE, "up", "up"),
        (NOTE, "", ""),
        (NOTE, "4", "4"),
    ],
)
def test_a_value_is_read_by_the_type_of_the_default(option: Option, text: str, value: object) -> None:
    """A value is a whole number, a number, true or false, or a text, by the type of the default."""
    value_read = parse(option, text)
    assert (value_read, type(value_read)) == (value, option.type)


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        (BITS, "x", "must be one of 2, 4, 8, not 'x'"),
        (BITS, "3", "must be one of 2, 4, 8, not '3'"),
        (SEEN, "1_0", "must be a whole number, not '1_0'"),
        (SEEN, " 1", "must be a whole number, not ' 1'"),
        (SEEN, "4.0", "must be a whole number, not '4.0'"),
        (SEEN, "", "must be a whole number, not ''"),
        (SEEN, "0", "must be at least 1, not '0'"),
        (SEEN, "9" * 5000, "must be a whole number, not "),
        (SHARE, "1.01", "must be at most 1, not '1.01'"),
        (SHARE, "half", "must be a number, not 'half'"),
        (SHARE, "nan", "must be a finite number, not 'nan'"),
        (SHARE, "inf", "must be a finite number, not 'inf'"),
        (FAST, "1", "must be true or false, not '1'"),
        (MODE, "down", "must be one of near, up, not 'down'"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(option: Option, text: str, message: str) -> None:
    """The message says what the value must be, with the choices where there are any."""
    with pytest.raises(ValueError, match="must be") as caught:
        parse(option, text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"default": None}, "the default of option 'x' must be an int, float, bool or str, not NoneType"),
        ({"default": (1, 2)}, "not tuple"),
        ({"default": 3, "choices": [1, 2]}, "must be one of 1, 2, not 3"),
        ({"default": 3, "choices": [3, "four"]}, "must be a whole number, not 'four'"),
        ({"default": 0, "minimum": 1}, "must be at least 1, not 0"),
        ({"default": float("nan")}, "must be a finite number, not nan"),
    ],
)
def test_an_option_that_contradicts_itself_is_refused(fields: dict[str, Any], message: str) -> None:
    """A default that is no value of the option, or a type that no command line can give, is an error."""
    with pytest.raises(ValueError, match="option 'x'") as caught:
        Option(name="x", help="X.", **fields)
    assert message in str(caught.value)


def test_a_record_has_an_option_once() -> None:
    """Two options of one name are refused."""
    with pytest.raises(ValueError, match="option 'bits' is declared twice"):
        Config(name="twice", summary="Twice.", options=[BITS, BITS])


def test_every_config_that_calibrates_can_be_told_how_many_images() -> None:
    """A config that calibrates has an option ``calibration_n`` of 256, or of the default that it declares."""
    own = Option(name="calibration_n", default=32, minimum=1, help="Few.")
    assert [
        (option.name, option.default)
        for option in Config(name="some", summary="Some.", calibration=True, options=[BITS]).options
    ] == [("bits", 8), ("calibration_n", 256)]
    assert Config(name="some", summary="Some.", calibration=True, options=[own]).options == (own,)
    assert Config(name="some", summary="Some.").options == ()
    few = Option(name="calibration_n", default=32, help="Few.")
    with pytest.raises(ValueError, match="'calibration_n' must be a whole number with a minimum"):
        Config(name="some", summary="Some.", calibration=True, options=[few])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a.b=1", ("1",)),
        ("a.b=1,2", ("1", "2")),
        ("a.b=", ("",)),
        ("a.b=x=y.z", ("x=y.z",)),
        ('a.b="1,2",3', ("1,2", "3")),
        ("a.b=1,", ("1", "")),
    ],
)
def test_a_setting_has_values_between_commas(text: str, values: tuple[str, ...]) -> None:
    """A value that contains a comma stands in quotes."""
    setting = Setting.of(text)
    assert (setting.plugin, setting.option, setting.values) == ("a", "b", values)


@pytest.mark.parametrize("text", ["", "a", "a.b", "a=1", ".b=1", "a.=1", "a.b.c=1", 'a.b="1'])
def test_what_is_no_setting_is_refused(text: str) -> None:
    """The message quotes what was written."""
    with pytest.raises(UsageError) as caught:
        Setting.of(text)
    assert str(caught.value).startswith(f"--set {text}: ")


def test_no_two_cells_are_called_alike() -> None:
    """A label of any text has no ``/``, no ``|`` and no bracket from the text."""
    assert label({}) == ""
    assert label({"calibration_n": 32, "fast": True}) == "[calibration_n=32,fast=true]"
    assert label({"share": 0.25}) == "[share=0.25]"
    texts = ["a/b", "a|b", "a]", "a,b=c", "a%2Fb", "ä", "a b", ""]
    labels = [label({"note": text}) for text in texts]
    assert len(set(labels)) == len(texts)
    assert not any(set("/| ") & set(text) for text in labels)
