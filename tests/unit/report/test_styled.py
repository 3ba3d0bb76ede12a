"""Lines of a screen: colours, widths, wrapping and names cut short."""

from __future__ import annotations

import io

import pytest

from qx.report import styled


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return True


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_no_color_is_respected(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: bool
) -> None:
    """A terminal has colours unless NO_COLOR is set to something, or it is a dumb one."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert styled.has_colour(Terminal()) is expected
    assert not styled.has_colour(io.StringIO())


@pytest.mark.parametrize("width", [8, 12, 20])
@pytest.mark.parametrize(
    "names",
    [
        ["static_int8_per_tensor", "static_int8_per_channel", "fp32"],
        [f"{'a' * 50}{letter}{'b' * 49}" for letter in "xyzw"],
        [f"{'a' * 30}{first}{'c' * 30}{second}{'e' * 30}" for first in "bB" for second in "dD"],
        [f"config_number_{number}" for number in range(300)],
        ["量子化" * 10 + letter for letter in "ab"],
        ["aaaaaaaa", "aa..aaaa", "aaa" * 9],
    ],
)
def test_short_names_stay_apart(names: list[str], width: int) -> None:
    """Each short name fits and differs from all others; a name that fits stays as it is."""
    shorts = styled.short_names(names, width)
    assert len({*shorts.values()}) == len(names)
    for name, short in shorts.items():
        assert styled.width_of(short) <= width
        assert short == name or styled.width_of(name) > width


def test_a_short_name_keeps_begin_and_end() -> None:
    """What tells configs apart is at both ends of their names."""
    shorts = styled.short_names(["onnxruntime_static_int8_per_channel", "onnxruntime_fp32"], 24)
    assert shorts["onnxruntime_static_int8_per_channel"].startswith("onnxruntime")
    assert shorts["onnxruntime_static_int8_per_channel"].endswith("per_channel")


@pytest.mark.parametrize(
    "text", ["", "short", "a b c " * 30, "x" * 90, "one " + "y" * 90 + " two", "字" * 60]
)
@pytest.mark.parametrize("width", [10, 25])
@pytest.mark.parametrize("most", [None, 1, 2])
def test_wrapped_lines_fit(text: str, width: int, most: int | None) -> None:
    """No line is wider than asked for, nothing is lost without a limit, and a limit holds."""
    lines = styled.wrapped(text, width, indent="  ", most=most)
    assert all(styled.width_of(line) <= width for line in lines)
    if most is None:
        assert "".join("".join(lines).split()) == "".join(text.split())
    else:
        assert len(lines) <= most


def test_names_are_listed_as_far_as_there_is_room() -> None:
    """The rest is counted, and where not one name fits all are."""
    names = ["alpha", "beta", "gamma", "delta"]
    assert styled.listed_within(names, 80) == "alpha, beta, gamma and delta"
    assert styled.listed_within(names, 24) == "alpha, beta and 2 more"
    assert styled.listed_within(names, 10) == "4 configs"
    assert styled.listed_within(["alpha"], 3, "other") == "1 other"
