"""The navigation of the site: the lists of ``docs/README.md``, which is the contents for the repository."""

from __future__ import annotations

import os
import re

from sphinx.application import Sphinx

from qx_site import configs
from qx_site.places import DOCS, REFERENCE, REPOSITORY
from qx_site.reference import GROUPS

#: Pages that stand under another one.
CHILDREN = {
    "configs": [f"configs/{name}" for name in configs.modules()],
    "benchmarks": [f"{REPOSITORY}/benchmarks/results/grid"],
    "plugins": [f"{REPOSITORY}/examples/qx-extras/README"],
    "results": [f"{REPOSITORY}/artifacts/results/pareto"],
    "api": [f"{REFERENCE}/{group}" for group in GROUPS],
}


def toctree(entries: list[str], caption: str = "") -> str:
    """Return a table of contents that is not shown on the page, only beside it."""
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["", "```{toctree}", *options, "", *entries, "```", ""])


def contents() -> dict[str, list[str]]:
    """Return the links of each section of ``docs/README.md``, each as ``TITLE <FILE>``."""
    sections = re.split(r"^## (.+)\n", (DOCS / "README.md").read_text(encoding="utf-8"), flags=re.M)
    return {
        caption: [
            f"{title} <{target}>" for title, target in re.findall(r"^- \[([^\]]+)\]\(([^)]+)\)", body, re.M)
        ]
        for caption, body in zip(sections[1::2], sections[2::2], strict=True)
    }


def add_to_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Add to the first page, and to pages that others stand under, the table of these."""
    from qx_site.repository import page_of

    if docname == app.config.root_doc:
        for caption, entries in contents().items():
            placed = [
                re.sub(r"<(.+)>", lambda match: f"<{page_of(os.path.normpath(DOCS / match[1]))}>", entry)
                for entry in entries
            ]
            source[0] += toctree(placed, caption)
    if docname in CHILDREN:
        source[0] += toctree(CHILDREN[docname])
