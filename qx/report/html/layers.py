"""What ``qx layers`` found, as a page of its own, ``--out FILE.html``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qx.foreign import to_html as escape
from qx.report.html import costs, page, sections
from qx.report.layers_part import LayersPart, part_of
from qx.runner.layers import LayersReport


def to_html(report: LayersReport, command: Sequence[str]) -> str:
    """Return the report as a page; ``command`` is the command line of a run without the config."""
    title = f"{report.workload}: layers of {report.row} - qx"
    return page.document(title, _page(part_of(report, command)), {"kind": "layers"})


def _page(part: LayersPart) -> Iterator[str]:
    yield f"<h1>{sections.code(part.workload)}: layers of {sections.code(part.row)}</h1>"
    if not part.errors.rows:
        yield sections.paragraph("This config quantizes no layer of the model that it can leave in float.")
        return
    if part.gains is not None:
        yield sections.section("gains", "What a layer in float gives back", costs.gains(part, part.gains))
    yield sections.section("errors", "What quantizing each layer does", costs.errors(part))
    blocks = costs.conclusion(part)
    if part.command:
        blocks.append(f'<pre id="command" tabindex="0"><code>{escape(part.command)}</code></pre>')
        button = '<button type="button" id="copy-command">Copy the command</button>'
        blocks.append(f'<p class="controls">{button}</p>')
    yield sections.section("recipe", "What to do", blocks)
