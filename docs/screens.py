"""Draw the pictures of a terminal in ``docs/images/`` from the committed results: ``python docs/screens.py``.

``terminal.svg`` is what ``qx report`` shows on a terminal of 100 columns, ``terminal-before.svg`` the first
lines of what it showed before there was a screen, which is what ``qx report -v`` prints.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qx.report import screen, terminal
from qx.results import results_file
from qx.results.records import Results

if TYPE_CHECKING:
    from rich.text import Text

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "artifacts" / "results"
#: Path that the last line of the screen names.
REPORT = "artifacts/results/report.html"
WIDTH = 100
#: Number of lines of a terminal's window.
LINES = 40


def after(results: Results, *, colour: bool) -> str:
    """Return what ``qx report`` shows on a terminal."""
    return screen.render(results, [REPORT], WIDTH, colour=colour)


def before(results: Results) -> str:
    """Return the first lines of the whole report, and how many follow."""
    lines = terminal.render(results, "simple", WIDTH).splitlines()
    return "\n".join([*lines[: LINES - 1], f"... and {len(lines) - LINES + 1} more lines"])


def picture(lines: Sequence[Text], title: str, name: str) -> str:
    """Return a picture of a terminal as SVG, which loads nothing from elsewhere."""
    from rich.console import Console

    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(line, highlight=False, no_wrap=True, crop=True)
    svg = console.export_svg(title=title, unique_id=name)
    # Rich names a font on a server.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return re.sub(r"Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace", svg)


def pictures() -> dict[str, str]:
    """Return the pictures by the names of their files."""
    from rich.text import Text

    results = results_file.read(RESULTS)
    drawn = {"terminal": after(results, colour=True), "terminal-before": before(results)}
    return {
        f"{name}.svg": picture([Text.from_ansi(line) for line in text.splitlines()], "$ qx report", name)
        for name, text in drawn.items()
    }


if __name__ == "__main__":
    (DOCS / "images").mkdir(exist_ok=True)
    for name, svg in pictures().items():
        (DOCS / "images" / name).write_text(svg, encoding="utf-8")
