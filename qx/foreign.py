"""Make foreign text safe for each medium that qx writes: a terminal, Markdown, XML, HTML and its scripts.

Foreign text comes from plugins, files, the command line and the environment: names, units, summaries, causes.
All of it passes through the function of its medium before it is written. Workers and ``qx --help`` import
this module, so it imports little.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qx.values import Json

from attrs import Attribute

#: Sequences that terminals act on and do not show: colours and the cursor, titles and links, single escapes.
TERMINAL_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-Z\\^_`-~]"
)
#: Characters with a meaning in Markdown anywhere in a text; underscores only at the ends of a word.
MARKDOWN = re.compile(r"[\\`*\[\]<>|~&$]|(?<![A-Za-z0-9])_+|_+(?![A-Za-z0-9])")
#: Start of a block that makes it a heading, a rule or a list.
MARKDOWN_START = re.compile(r"^(?:(\d+)([.)])|([-+=#]))")
#: Parts of words that become links or mentions without any markup: addresses, names, numbers of issues.
LIVE = re.compile(r"://|www\.|@|#\d", re.IGNORECASE)


def to_terminal(text: str) -> str:
    r"""Return the text in one line that a terminal shows and does not act on.

    Terminal sequences are removed, and white space of every kind becomes one space. Other characters that
    cannot be printed (controls, marks that turn or hide text, halves of surrogate pairs) are written as
    escapes, such as ``\x1b`` or ``\u202e``.
    """
    if text.isprintable() and "  " not in text:
        return text.strip()
    return _escape(" ".join(TERMINAL_SEQUENCES.sub("", text).split()))


def path_to_terminal(path: str | os.PathLike[str]) -> str:
    """Return a path with all its spaces, so that it can be copied, in one line safe for a terminal."""
    return _escape(os.fspath(path))


def _escape(text: str) -> str:
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def to_line(text: str, most: int) -> str:
    """Return the text in one line of at most ``most`` characters, for messages that quote it."""
    line = to_terminal(text)
    return line if len(line) <= most else f"{line[: most - 3].rstrip()}..."


def one_line(error: BaseException, most: int = 500) -> str:
    """Return the type and the message of an error in one line of at most ``most`` characters.

    It never raises, although a plugin's error may do so when it is asked for its message.
    """
    try:
        # attrs adds the attribute, the limit and the value after the message: only the message is for people.
        is_from_attrs = len(error.args) > 1 and isinstance(error.args[1], Attribute)
        message = str(error.args[0] if is_from_attrs else error)
    except BaseException as second:
        message = f"the text of what was raised cannot be had: asking for it raised {type(second).__name__}"
    return to_line(f"{type(error).__name__}: {message}".rstrip(": "), most)


def to_lines(text: str) -> str:
    """Return the text with its lines and their indents, and ``to_terminal`` applied to each line."""
    lines = ((line, line.lstrip(" ")) for line in text.split("\n"))
    return "\n".join(" " * (len(line) - len(bare)) + to_terminal(bare) for line, bare in lines)


def to_printed(text: str) -> str:
    """Return what a program printed as a terminal shows it: lines with all their spaces, and no controls.

    Of a line that was written over, such as a bar of progress, the last text is kept.
    """
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return "\n".join(
        _escape(TERMINAL_SEQUENCES.sub("", line).expandtabs().rstrip(" ")) if not line.isprintable() else line
        for line in lines
    )


def to_markdown(text: str) -> str:
    """Return the text as Markdown that shows it unchanged outside of tables, even at the start of a block."""
    return MARKDOWN_START.sub(r"\1\\\2\3", _inline(text, to_code))


def to_markdown_cell(text: str) -> str:
    """Return the text as Markdown that shows it unchanged in a cell of a table."""
    return _inline(text, to_code_cell)


def to_code(text: str) -> str:
    """Return the text as code in Markdown, outside of tables."""
    # An empty pair of backticks would not be code, and would open one that ends at the next backticks.
    line = to_terminal(text) or " "
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{line}{space}{fence}"


def to_code_cell(text: str) -> str:
    """Return the text as code in a cell of a table, which a pipe would end even there."""
    return to_code(text).replace("|", "\\|")


def to_xml(text: str) -> str:
    """Return the text in one line of characters that XML allows; the caller escapes its markup."""
    # XML forbids controls, halves of surrogate pairs, U+FFFE and U+FFFF, and none of them is printable.
    return to_terminal(text)


def to_html(text: str) -> str:
    """Return the text in one line as HTML that shows it unchanged, in an element or in a quoted attribute."""
    # Imported here, since every command imports this module, and this one has a table of all entities.
    from html import escape

    return escape(to_terminal(text))


#: Characters that are escaped in JSON within a page: those that end a script or begin a comment in HTML.
IN_SCRIPT = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


def to_script_json(value: Json) -> str:
    """Return a value as JSON that can stand within a ``<script>`` element of a page.

    Every text in it passes through ``to_terminal``, so that whatever the script shows is one line without
    controls. Keys of objects are qx's own, never foreign.
    """
    text = json.dumps(_shown(value), allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.translate(IN_SCRIPT)


def _shown(value: Json) -> Json:
    """Return a copy of a JSON value in which ``to_terminal`` was applied to every text."""
    if isinstance(value, str):
        return to_terminal(value)
    if isinstance(value, Mapping):
        return {key: _shown(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(member) for member in value]
    return value


def _inline(text: str, code: Callable[[str], str]) -> str:
    """Return the text with Markdown escaped; words that become links without any markup become code."""
    return " ".join(
        code(word) if LIVE.search(word) else MARKDOWN.sub(_with_backslashes, word)
        for word in to_terminal(text).split(" ")
    )


def _with_backslashes(match: re.Match[str]) -> str:
    return "".join(f"\\{character}" for character in match.group())
