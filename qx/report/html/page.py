"""Put a page together: one file with its style, script and data, that loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from qx.foreign import to_html, to_script_json
from qx.report.html import costs, data, sections
from qx.results.columns import View, with_units
from qx.results.recording import Recording
from qx.results.records import Results
from qx.values import JsonObject

if TYPE_CHECKING:
    from qx.report.layers_part import LayersPart

PACKAGE = files("qx.report.html")
ASSETS = PACKAGE.joinpath("assets")
#: The plotting library, unchanged as its authors publish it.
LIBRARY = PACKAGE.joinpath("vendor", "d3.min.js")
#: The parts of the script in the order in which they build on each other. They share one scope.
SCRIPTS = (
    *("elements.js", "numbers.js", "board.js", "chart.js", "scatter.js", "table.js", "copying.js"),
    *("limits.js", "waves.js", "answers.js", "stages.js", "comparison.js", "history.js", "main.js"),
)
#: What the page may do: run its own script and use its own style, and nothing else. Nothing can be loaded,
#: sent or framed, no text can become markup through the script.
POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data:; "
    "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


def render(
    results: Results,
    recording: Recording | None,
    parts: Sequence[LayersPart] = (),
    further: Sequence[sections.Part] = (),
) -> str:
    """Return the text of ``report.html``, with what ``qx layers`` has found about configs of the run.

    Further parts stand before the environment. Without a recording, where the raw samples are gone, the page
    has no plots of waves and changed answers.
    """
    from attrs import evolve

    content = data.run_content(results, recording)
    for part in further:
        content |= part.content
    shown = evolve(results, metrics=with_units(results.metrics, to_html))
    found = {
        name: costs.in_report([part for part in parts if part.workload == name])
        for name in results.run.workloads
    }
    return document(*sections.run_page(View(shown), content, found, further), content)


def document(title: str, body: Iterable[str], content: JsonObject) -> str:
    """Return a page with this title, these blocks of HTML, and the data that the script draws from.

    The title is plain text, and may be foreign.
    """
    style = ASSETS.joinpath("page.css").read_text(encoding="utf-8")
    parts = "\n".join(ASSETS.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'{LIBRARY.read_text(encoding="utf-8")}\n(() => {{\n"use strict";\n{parts}\n}})();\n'
    page = Template(ASSETS.joinpath("page.html").read_text(encoding="utf-8"))
    return page.substitute(
        policy=POLICY.format(script=_digest(script), style=_digest(style)),
        title=to_html(title),
        style=style,
        body="\n".join(body),
        data=to_script_json(content),
        script=script,
    )


def _digest(text: str) -> str:
    """Return the digest by which a policy allows an inline script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
