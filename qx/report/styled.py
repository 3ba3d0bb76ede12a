"""Lines of text with styles, and how a terminal shows them: widths, wrapping, names cut short, colours.

A style never carries a meaning that the text does not have. ``qx list`` imports this module, so it imports
little.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from typing import Literal, TextIO, TypeAlias

Style: TypeAlias = Literal["plain", "strong", "faint", "good", "bad", "warning"]
#: Part of a line: its text, which is safe for a terminal already, and its style.
Span: TypeAlias = tuple[str, Style]
Line: TypeAlias = tuple[Span, ...]

#: Parameters of the terminal's sequence for each style.
CODES: dict[Style, str] = {"strong": "1", "faint": "2", "good": "32", "bad": "31", "warning": "1;33"}
#: Characters in a line of a screen: at least, at most, and where the terminal's width is not known.
MIN_WIDTH, MAX_WIDTH, DEFAULT_WIDTH = 40, 160, 100
#: Text for what was cut off.
CUT = ".."


def line(*parts: str | Span) -> Line:
    """Return a line of texts and spans."""
    return tuple((part, "plain") if isinstance(part, str) else part for part in parts)


def within(spans: Line, width: int) -> Line:
    """Return the line, cut off where it is wider than ``width`` columns."""
    if sum(width_of(text) for text, _ in spans) <= width:
        return spans
    kept: list[Span] = []
    room = width - len(CUT)
    for text, style in spans:
        kept.append((_start(text, room), style))
        room -= width_of(kept[-1][0])
        if kept[-1][0] != text:
            break
    text, style = kept[-1]
    return (*kept[:-1], (text + CUT, style))


def to_text(lines: Iterable[Line], *, colour: bool = False, encoding: str | None = None) -> str:
    """Return lines as text, with the terminal's sequences for the styles if ``colour``.

    ``encoding`` is that of the stream. A plus-minus sign that it does not have is written as ``+-``.
    """
    text = "\n".join(
        "".join(_painted(span, colour=colour) for span in _without_end_spaces(spans)) for spans in lines
    )
    return text if _has_plus_minus(encoding) else text.replace("±", "+-")


def _without_end_spaces(spans: Line) -> Line:
    if not spans:
        return spans
    *others, (text, style) = spans
    bare = text.rstrip()
    return (*others, (bare, style)) if bare else _without_end_spaces(tuple(others))


def _painted(span: Span, *, colour: bool) -> str:
    text, style = span
    return f"\x1b[{CODES[style]}m{text}\x1b[0m" if colour and style in CODES and text.strip() else text


def _has_plus_minus(encoding: str | None) -> bool:
    try:
        "±".encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def has_colour(stream: TextIO) -> bool:
    """Return whether the stream is a terminal that shows colours, and ``NO_COLOR`` is not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def screen_width() -> int:
    """Return the width of the terminal in characters, within bounds."""
    columns = shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns
    return min(max(columns, MIN_WIDTH), MAX_WIDTH)


# Widths and cutting -------------------------------------------------------------------------------


def width_of(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def fitted(text: str, width: int) -> str:
    """Return the text, cut off behind its last whole word where it is wider than ``width`` columns."""
    if width_of(text) <= width:
        return text
    cut = _start(text, width - len(CUT))
    word_end = cut.rfind(" ")
    return (cut[:word_end] if word_end > width // 2 else cut).rstrip(" ,;:") + CUT


def _start(text: str, width: int) -> str:
    """Return as many of the first characters as ``width`` columns hold."""
    if text.isascii():
        return text[: max(0, width)]
    taken, total = 0, 0
    for character in text:
        total += width_of(character)
        if total > width:
            break
        taken += 1
    return text[:taken]


def _end(text: str, width: int) -> str:
    """Return as many of the last characters as ``width`` columns hold."""
    return _start(text[::-1], width)[::-1]


def padded(text: str, width: int) -> str:
    """Return the text with spaces behind it up to this width."""
    return text + " " * max(0, width - width_of(text))


def wrapped(text: str, width: int, indent: str = "", most: int | None = None) -> list[str]:
    """Wrap a text into lines of at most ``width`` columns, those after the first with an indent.

    With ``most`` there are at most so many lines, of which the last is cut off.
    """
    lines: list[str] = []
    words = text.split()
    while words and (most is None or len(lines) < most - 1):
        current = (indent if lines else "") + words.pop(0)
        while words and width_of(f"{current} {words[0]}") <= width:
            current += f" {words.pop(0)}"
        if width_of(current) > width:
            # A word that is longer than a line goes on in the next.
            fits = _start(current, width)
            words.insert(0, current[len(fits) :])
            current = fits
        lines.append(current)
    if words:
        lines.append(fitted((indent if lines else "") + " ".join(words), width))
    return lines


def wrapped_parts(parts: Sequence[str], width: int, most: int) -> list[str]:
    """Join parts of a sentence by semicolons into at most ``most`` lines, each part in one where it fits."""
    lines: list[str] = []
    for part in parts:
        joint = f"{lines[-1]}; {part}" if lines else part
        if lines and width_of(joint) <= width:
            lines[-1] = joint
        else:
            lines.append(part)
    if len(lines) > most or any(width_of(text) > width for text in lines):
        return wrapped("; ".join(parts), width, most=most)
    return lines


def listed_within(names: Sequence[str], width: int, noun: str = "config") -> str:
    """Return names as a list in a sentence: as many as fit and a count of the rest, or a count alone."""
    for count in range(len(names), 0, -1):
        rest = len(names) - count
        shown = [*names[:count], *([f"{rest} more"] if rest else [])]
        text = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
        if width_of(text) <= width:
            return text
    return f"1 {noun}" if len(names) == 1 else f"{len(names)} {noun}s"


# Short names --------------------------------------------------------------------------------------


def short_names(names: Sequence[str], width: int) -> dict[str, str]:
    """Cut names short to at most ``width`` columns, each so that it differs from all others.

    Parameters
    ----------
    names : sequence of str
        Names without repetitions.
    width : int
        Width in columns, at least 8.

    Returns
    -------
    dict of str to str
        The short form of each name. A name loses its middle; names that differ only there keep what differs,
        and where even that is not enough they are numbered.
    """
    shorts = {name: name if width_of(name) <= width else _without_middle(name, width) for name in names}
    for short, group in _same(shorts).items():
        long_names = [name for name in group if name != short]
        place = _length_of_common_start(long_names)
        for name in long_names:
            shorts[name] = _around(name, place, width)
    for group in _same(shorts).values():
        taken = {*shorts.values()}
        number = 0
        for name in group:
            if name == shorts[name]:
                continue
            while (numbered := _numbered(shorts[name], number := number + 1, width)) in taken:
                pass
            taken.add(numbered)
            shorts[name] = numbered
    return shorts


def _length_of_common_start(names: Sequence[str]) -> int:
    columns = zip(*names, strict=False)
    return next((place for place, letters in enumerate(columns) if len(set(letters)) > 1), 0)


def _same(shorts: dict[str, str]) -> dict[str, list[str]]:
    """Return the names that have the same short form, by that form."""
    groups: dict[str, list[str]] = {}
    for name, short in shorts.items():
        groups.setdefault(short, []).append(name)
    return {short: names for short, names in groups.items() if len(names) > 1}


def _without_middle(name: str, width: int) -> str:
    room = width - len(CUT)
    # The end says more than the begin: `..._per_channel` and `..._per_tensor`.
    tail = _end(name, room - room // 2)
    # A cut between two words is easier to read.
    rest_of_word = tail.find("_")
    if 0 <= rest_of_word <= 4 and not name.removesuffix(tail).endswith("_"):
        tail = tail[rest_of_word + 1 :]
    head = _start(name, room - width_of(tail))
    return f"{head}{CUT}{tail}"


def _around(name: str, place: int, width: int) -> str:
    """Return the name from a little before a place in it on."""
    head = _start(name, width // 4)
    rest = name[max(place - 1, len(head)) :]
    room = width - width_of(head) - len(CUT)
    if width_of(rest) > room:
        rest = _start(rest, room - len(CUT)) + CUT
    return f"{head}{CUT}{rest}"


def _numbered(short: str, number: int, width: int) -> str:
    sign = f"#{number}"
    return _start(short, width - len(sign)) + sign
