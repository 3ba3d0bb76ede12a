"""What layers cost, as blocks of a page: tables with bars, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence

from qx.foreign import to_html as escape
from qx.report.html import sections
from qx.report.layers_part import LayersPart, Shown

#: Width and height of the bar of an error in pixels, and the ratio in dB that fills it.
WIDTH, HEIGHT, FULL = 120, 10, 60.0
#: Column of the table of errors that the bars draw.
ALONE = "alone"


def in_report(parts: Sequence[LayersPart]) -> list[str]:
    """Return the blocks of a section about some configs of a run, the first of them open."""
    blocks = []
    for index, part in enumerate(parts):
        inner = [
            *(gains(part, part.gains) if part.gains is not None else []),
            *errors(part),
            *conclusion(part),
            *([f'<pre tabindex="0"><code>{escape(part.command)}</code></pre>'] if part.command else []),
        ]
        shown = sections.details(f"Layers of {sections.code(part.row)}", inner)
        blocks.append(shown if index else shown.replace("<details>", "<details open>", 1))
    return blocks


def gains(part: LayersPart, table: Shown) -> list[str]:
    """Return the blocks about what layers in float give back."""
    label = f"What each layer in float gives back to {escape(part.row)}"
    return [
        sections.bullets(map(escape, part.qualities)),
        sections.table(label, list(map(escape, table.head)), _escaped(table.rows)),
        sections.paragraph(escape(part.gains_explained), "quiet"),
    ]


def errors(part: LayersPart) -> list[str]:
    """Return the blocks about errors and ranges of layers."""
    explained = (sections.paragraph(escape(text), "quiet") for text in part.errors_explained)
    return [_error_table(part), *explained]


def conclusion(part: LayersPart) -> list[str]:
    """Return the sentences about what was found."""
    return [sections.paragraph(escape(text)) for text in part.conclusion]


def _escaped(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [list(map(escape, row)) for row in rows]


def _error_table(part: LayersPart) -> str:
    """Return the table of errors with a bar behind that of each layer alone: the longer, the larger."""
    head, rows = list(map(escape, part.errors.head)), _escaped(part.errors.rows)
    label = f"Errors of the layers of {escape(part.row)}"
    if ALONE not in head or len(part.alone) != len(rows):
        return sections.table(label, head, rows)
    place = head.index(ALONE) + 1
    drawn = [
        [*cells[:place], _bar(ratio), *cells[place:]] for cells, ratio in zip(rows, part.alone, strict=True)
    ]
    return sections.table(label, [*head[:place], "error", *head[place:]], drawn)


def _bar(ratio: float | None) -> str:
    """Return a bar that is full at 0 dB and empty at ``FULL``."""
    share = 0.0 if ratio is None else min(1.0, max(0.0, 1 - ratio / FULL))
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" aria-hidden="true">'
        f'<rect width="{WIDTH * share:.0f}" height="{HEIGHT}" fill="currentColor"/></svg>'
    )
