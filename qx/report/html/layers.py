"""Write what ``qx layers`` found as one page, ``--out FILE.html``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qx.foreign import to_html as escape
from qx.report import layers
from qx.report.html import page, sections
from qx.runner.layers import LayersReport

#: Width and height of the bar of an error in pixels, and the ratio in dB that fills it.
WIDTH, HEIGHT, FULL = 120, 10, 60.0
#: Column of the table of errors that the bars draw.
ALONE = "alone"


def to_html(report: LayersReport, command: Sequence[str]) -> str:
    """Return the report as a page; ``command`` is the command line of a run without the config."""
    title = f"{report.workload}: layers of {report.row} - qx"
    return page.document(title, _blocks(report, command), {"kind": "layers"})


def _blocks(report: LayersReport, command: Sequence[str]) -> Iterator[str]:
    yield f"<h1>{sections.code(report.workload)}: layers of {sections.code(report.row)}</h1>"
    if not report.layers:
        yield sections.paragraph("This config quantizes no layer of the model that it can leave in float.")
        return
    if report.metric is not None and report.gains:
        head, rows = layers.gain_table(report, report.metric)
        blocks = [
            sections.bullets(map(escape, layers.qualities(report, report.metric))),
            _table("What each layer in float gives back", head, rows),
            sections.paragraph(escape(layers.gains_explained(report)), "quiet"),
        ]
        yield sections.section("gains", "What a layer in float gives back", blocks)
    blocks = [
        _error_table(report),
        *(sections.paragraph(escape(text), "quiet") for text in layers.errors_explained(report)),
    ]
    yield sections.section("errors", "What each layer does in 8 bits", blocks)
    blocks = [sections.paragraph(escape(text)) for text in layers.conclusion(report)]
    if report.recipe:
        text = escape(layers.command_of(report, command))
        blocks.append(f'<pre id="command" tabindex="0"><code>{text}</code></pre>')
        button = '<button type="button" id="copy-command">Copy the command</button>'
        blocks.append(f'<p class="controls">{button}</p>')
    yield sections.section("recipe", "What to do", blocks)


def _table(label: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return sections.table(label, list(map(escape, head)), _escaped(rows))


def _escaped(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [list(map(escape, row)) for row in rows]


def _error_table(report: LayersReport) -> str:
    """Return the table of errors with a bar behind that of each layer alone: the longer, the larger."""
    head, rows = layers.error_table(report)
    ratios = {layer.name: layer.alone for layer in report.layers}
    place = head.index(ALONE) + 1
    drawn = [
        [*cells[:place], _bar(ratios[row[0]]), *cells[place:]]
        for row, cells in zip(rows, _escaped(rows), strict=True)
    ]
    return sections.table("Errors of the layers", [*head[:place], "error", *head[place:]], drawn)


def _bar(ratio: float | None) -> str:
    """Return a bar that is full at 0 dB and empty at ``FULL``."""
    share = 0.0 if ratio is None else min(1.0, max(0.0, 1 - ratio / FULL))
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" aria-hidden="true">'
        f'<rect width="{WIDTH * share:.0f}" height="{HEIGHT}" fill="currentColor"/></svg>'
    )
