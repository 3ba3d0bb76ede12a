"""Foreign text in each medium is shown as text, and nothing of it acts."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable

import attrs
import pytest
from markdown_it import MarkdownIt

from qx import foreign

#: Texts, each with what a terminal shows of it.
TERMINAL = {
    "plain": "plain",
    " two  words\tand\na line\r\nmore ": "two words and a line more",
    "\x1b[31mred\x1b[0m, \x1b[1;38;5;4mbold": "red, bold",
    "\x1b]0;title\x07text \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\": "text link",
    "\x9b31mC1 \x1bP1$r\x1b\\": "C1",
    "\x1b]never ends": r"\x1b]never ends",
    "\x1b\x1b[31m[2J": r"\x1b[2J",
    "bell\x07 null\0 back\x08": r"bell\x07 null\x00 back\x08",
    "user\u202egnp.exe \u2066x\u2069": r"user\u202egnp.exe \u2066x\u2069",
    "ad\u200bmin \ufeff \u00ad": r"ad\u200bmin \ufeff \xad",
    "line\u2028paragraph\u2029end\x85next\xa0space": "line paragraph end next space",
    "half \ud800, byte \udcff": r"half \ud800, byte \udcff",
    "caf\u00e9 \u4f60\u597d \u00b5s \u00b1": "caf\u00e9 \u4f60\u597d \u00b5s \u00b1",
    r"a\b": r"a\b",
}

#: Texts that Markdown, or a program that shows it, would act on.
MARKDOWN = [
    *(
        "*a* **b** _c_ __d__ ~~e~~ ~f~",
        "[link](http://x.y)",
        "![image](x.png)",
        "<http://x.y>",
        "[a][b]",
        "[^1]",
    ),
    *("<b>bold</b>", "<script>alert(1)</script>", "<!-- c -->", "&lt;b&gt; &#60;", "a | b", r"a \| b", "\\"),
    *(
        "`code`",
        "``",
        "`a ``b`` c`",
        "` `",
        "$x$ and $$y$$",
        "# heading",
        "- item",
        "* item",
        "+ item",
        "1. item",
    ),
    *(
        "12) item",
        "> quote",
        "---",
        "===",
        "***",
        "___",
        "```",
        "~~~",
        "    code",
        "| a |",
        "[ ] task",
        "a\n\n# b",
    ),
    *(
        "http://x.y/z",
        "see https://x.y.",
        "(www.x.y)",
        "me@x.y",
        "@someone, #12",
        "HTTP://X",
        "WWW.x.y",
        "ftp://x",
    ),
    *(
        "javascript:alert(1)",
        "file_size of a_b__c",
        "__init__",
        "",
        " ",
        "-",
        "1.",
        "\t\tx",
        "*" * 50,
        "`" * 9,
    ),
]
#: Kinds of parts that plain text has.
INERT = {"text", "text_special", "code_inline", "softbreak"}


def parts(page: str) -> list[str]:
    """Return the kinds of the parts of a page of GitHub's Markdown, with a link for text that becomes one."""
    kinds = []
    for block in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page):
        if block.type != "inline":
            kinds.append(block.type)
            continue
        assert block.children is not None
        kinds += [part.type for part in block.children]
        text = "".join(part.content if part.type.startswith("text") else "\0" for part in block.children)
        kinds += ["link"] * bool(foreign.LIVE.search(text))
    return kinds


def shown(page: str) -> str:
    """Return the text of the only line of a page, or of its second cell."""
    lines = [
        block for block in MarkdownIt("commonmark").enable("table").parse(page) if block.type == "inline"
    ]
    children = lines[-1].children
    assert children is not None
    return "".join(part.content for part in children)


@pytest.mark.parametrize(("text", "line"), TERMINAL.items())
def test_a_terminal_only_shows_it(text: str, line: str) -> None:
    """Unprintable text is removed or shown as an escape, in one line, and a second time changes nothing."""
    assert foreign.to_terminal(text) == foreign.to_terminal(line) == line
    assert foreign.to_xml(text) == line


@pytest.mark.parametrize("text", [*MARKDOWN, *TERMINAL])
def test_markdown_only_shows_it(text: str) -> None:
    """In a paragraph, a list, a heading and a cell, as text and as code, foreign text makes no part."""
    line = foreign.to_terminal(text)
    for form in (foreign.to_markdown(text), foreign.to_code(text)):
        assert INERT | {"paragraph_open", "paragraph_close"} >= set(parts(form))
        items = parts(f"- {form}\n- next")
        assert items.count("list_item_open") == 2 and items.count("bullet_list_open") == 1
        assert set(items) - INERT <= {
            f"{block}_{end}"
            for block in ("bullet_list", "list_item", "paragraph")
            for end in ("open", "close")
        }
        assert parts(f"# {form}").count("heading_open") == 1
        assert shown(form or "x") == (line or shown(form or "x"))
    for form in (foreign.to_markdown_cell(text), foreign.to_code_cell(text)):
        cells = parts(f"| a | b |\n|---|---|\n| {form} | end |")
        assert cells.count("td_open") == 2 and cells.count("tr_open") == 2
        assert {kind for kind in cells if not kind.endswith(("_open", "_close"))} <= INERT
        assert "a_open" not in cells and "link_open" not in cells
        assert shown(f"| a |\n|---|\n| {form} |").strip() == line.strip() or not line


@pytest.mark.parametrize("text", TERMINAL)
def test_xml_can_be_read(text: str) -> None:
    """A tree with the text, in an attribute too, is written and read back."""
    element = ET.Element("case", {"name": foreign.to_xml(text)})
    element.text = foreign.to_xml(text)
    read = ET.fromstring(ET.tostring(element, encoding="utf-8"))
    assert read.get("name") == (read.text or "") == foreign.to_terminal(text)


def test_a_path_keeps_its_letters() -> None:
    """In a path two spaces stay two, and what would act is shown as an escape."""
    assert foreign.path_to_terminal("a  b/\x1b[31m\n") == r"a  b/\x1b[31m\n"


def test_lines_keep_their_indent() -> None:
    """A docstring, or a traceback, keeps its lines and their indent."""
    assert foreign.to_lines("a\n  b \x1b[1mc\n\n\td") == "a\n  b c\n\nd"


@pytest.mark.parametrize("make", [foreign.to_terminal, foreign.to_markdown, foreign.to_code_cell])
def test_it_takes_no_longer_than_the_text_is_long(make: Callable[[str], str]) -> None:
    """A text made to keep a pattern busy is written in time; each of these has 100,000 letters."""
    for part in ("\x1b]", "\x1b[", "\x9d", "_", "`", "@", "*"):
        assert make(part * (100_000 // len(part)))
    assert make("\x1b[" + "0" * 100_000)


class Wicked(Exception):
    """An error that raises another when it is asked for its text."""

    def __str__(self) -> str:
        raise KeyboardInterrupt


@attrs.frozen
class Limited:
    """A record that refuses most numbers."""

    number: int = attrs.field(validator=attrs.validators.le(3))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("bad"), "ValueError: bad"),
        (ValueError(), "ValueError"),
        (ValueError("two\n  lines: "), "ValueError: two lines"),
        (KeyError("name"), "KeyError: 'name'"),
        (ValueError("\x1b[31mred\x1b[0m\u202e"), r"ValueError: red\u202e"),
        (ValueError("x" * 1000), f"ValueError: {'x' * 485}..."),
        (
            Wicked(),
            "Wicked: the text of what was raised cannot be had: asking for it raised KeyboardInterrupt",
        ),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else type(value).__name__,
)
def test_an_error_is_said_in_one_line(error: Exception, line: str) -> None:
    """An error becomes its type and its message in one line, whatever it does when it is asked."""
    assert foreign.one_line(error) == line


def test_the_error_of_a_record_is_its_message_alone() -> None:
    """Of what attrs adds to a message for programs, people see nothing."""
    with pytest.raises(ValueError, match="number") as caught:
        Limited(5)
    assert foreign.one_line(caught.value) == "ValueError: 'number' must be <= 3: 5"


@pytest.mark.parametrize("text", [*TERMINAL, *MARKDOWN])
def test_html_shows_the_text_and_nothing_else(text: str) -> None:
    """In an element and in an attribute of a page the text is what a terminal shows, and no markup."""
    written = foreign.to_html(text)
    tree = ET.fromstring(f'<p title="{written}">{written}</p>')
    assert not list(tree)
    assert tree.text == tree.get("title") == foreign.to_terminal(text) or not foreign.to_terminal(text)


@pytest.mark.parametrize("text", [*TERMINAL, *MARKDOWN, "</script>", "<!--", "<script>", "]]>"])
def test_json_in_a_script_cannot_end_it(text: str) -> None:
    """JSON within a script has no character that HTML acts on, and reads as what a terminal shows."""
    written = foreign.to_script_json({"texts": [text, {"inner": (text, 1.5, None, True)}]})
    assert not set(written) & set("<>&\u2028\u2029") and written.isascii()
    shown = foreign.to_terminal(text)
    assert json.loads(written) == {"texts": [shown, {"inner": [shown, 1.5, None, True]}]}


def test_json_in_a_script_has_no_number_that_json_lacks() -> None:
    """A number that is not finite is a mistake of the caller, not text that a browser cannot read."""
    with pytest.raises(ValueError, match="JSON"):
        foreign.to_script_json([float("nan")])
