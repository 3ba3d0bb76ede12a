"""Pages for files of the repository that lie outside of ``docs/`` and that a page links to.

Markdown and notebooks become pages like others, everything else is shown as source. A link is written as it
works in the repository; here it is changed to what it must be in the site.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from qx_site.places import DOCS, REPOSITORY, TOP

LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")
README = TOP / "README.md"
#: Head of a page that need not have a place in the navigation, and of one that a search leaves out as well:
#: results have all words, and nobody looks for them there.
HEAD = "---\norphan: true\n---\n\n"
RESULTS_HEAD = "---\norphan: true\nnosearch: true\n---\n\n"
#: Endings of files that become pages.
PAGES = (".md", ".ipynb")
#: Largest file that is shown as source, in bytes.
LARGEST = 200_000
LANGUAGES = {".py": "python", ".c": "c", ".json": "json", ".ini": "ini", ".cfg": "ini", ".toml": "toml"}


def linked(path: Path, text: str) -> set[Path]:
    """Return the files of the repository that a text links to, itself at a path."""
    targets = (Path(os.path.normpath(path.parent / match["target"])) for match in LINK.finditer(text))
    return {target for target in targets if target.is_relative_to(TOP) and target.is_file()}


def page_of(path: str | Path) -> str:
    """Return the name of the page that shows a file."""
    path = Path(path)
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).with_suffix("").as_posix()
    shown = path.relative_to(TOP)
    return f"{REPOSITORY}/{(shown.with_suffix('') if path.suffix in PAGES else shown).as_posix()}"


def is_page(path: Path) -> bool:
    """Return whether a file is, or becomes, a page with text; the contents in ``docs/README.md`` is none."""
    return path.suffix in PAGES and path != DOCS / "README.md"


def write_pages(app: Sphinx) -> None:
    """Write a page for each Markdown file and each notebook that is linked, into ``docs/repository/``."""
    folder = DOCS / REPOSITORY
    shutil.rmtree(folder, ignore_errors=True)
    waiting = [path for path in DOCS.rglob("*.md") if not path.is_relative_to(folder)]
    done = {*waiting, README}
    while waiting:
        path = waiting.pop()
        text = to_markdown(path)
        if not path.is_relative_to(DOCS):
            page = DOCS / f"{page_of(path)}.md"
            page.parent.mkdir(parents=True, exist_ok=True)
            head = RESULTS_HEAD if path.parent.name == "results" else HEAD
            shown = with_links(text, path, page, app.config.root_doc)
            page.write_text(f"{head}{shown}", encoding="utf-8")
        more = {target for target in linked(path, text) if is_page(target)} - done
        done |= more
        waiting += more


def to_markdown(path: Path) -> str:
    """Return the text of a file, of a notebook with its outputs as they were stored."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n\n".join(part for cell in json.loads(text)["cells"] for part in cell_parts(cell))


def cell_parts(cell: dict[str, Any]) -> Iterator[str]:
    """Yield a cell of a notebook, and what it printed and returned, as Markdown."""
    source = "".join(cell["source"])
    if cell["cell_type"] != "code":
        yield source
        return
    yield fenced("python", source)
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "text" in output:
            yield fenced("text", "".join(output["text"]))
        elif "image/png" in data:
            png = "".join(data["image/png"]).replace("\n", "")
            yield fenced(
                "{raw} html", f'<img alt="The plot that this cell draws" src="data:image/png;base64,{png}">'
            )
        elif "text/html" in data:
            html = "".join(data["text/html"])
            yield fenced("{raw} html", f'<div class="table-wrapper notebook">{html}</div>')
        elif "text/plain" in data:
            yield fenced("text", "".join(data["text/plain"]))


def fenced(language: str, text: str) -> str:
    """Return a block of code whose fence is longer than any in the text."""
    fence = max([*re.findall(r"`{3,}", text), "``"], key=len) + "`"
    return f"{fence}{language}\n{text}\n{fence}"


def rewrite_links(app: Sphinx, docname: str, source: list[str]) -> None:
    """Change links of a page to files outside of ``docs/`` into links to their pages."""
    if not docname.startswith(f"{REPOSITORY}/"):  # those were written with their links changed
        page = DOCS / f"{docname}.md"
        source[0] = with_links(source[0], page, page, app.config.root_doc)


def with_links(text: str, origin: Path, page: Path, first_page: str) -> str:
    """Return the text of a file with the links that the page which shows it must have."""

    def placed(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(origin.parent / match["target"]))
        if not target.exists():
            return match[0]
        if target == README:
            target = DOCS / f"{first_page}.md"
        elif is_page(target):
            target = DOCS / f"{page_of(target)}.md"
        # A text that names the file is for the repository; without a text the link has the title of the page.
        shown = "" if match["text"].endswith(".md") and is_page(target) else match["text"]
        return f"[{shown}]({os.path.relpath(target, page.parent)}{match['anchor'] or ''})"

    return LINK.sub(placed, text)


class LinkSources(SphinxTransform):
    """Turn links to files that are no pages into links to a page that shows the source, or to HTML itself."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:  # noqa: ARG002 - the generator may pass some
        """Replace the nodes that offer such files for download."""
        docname = self.env.docname
        here = (DOCS / docname).parent
        for node in list(self.document.findall(addnodes.download_reference)):
            path = Path(os.path.normpath(here / node["reftarget"]))
            shown = path.suffix == ".html"
            if not path.is_relative_to(TOP) or (path.stat().st_size > LARGEST and not shown):
                continue
            self.env.metadata[docname].setdefault("sources", []).append(path.relative_to(TOP).as_posix())
            uri = os.path.relpath(page_of(path) + (".html" if not shown else ""), Path(docname).parent)
            link = nodes.reference("", "", *node.children, internal=True, refuri=uri)
            node.replace_self(link)


def source_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield a page for each file whose source is linked; copy HTML that is linked."""
    names = {name for data in app.env.metadata.values() for name in data.get("sources", ())}
    for name in sorted(names):
        path = TOP / name
        if path.suffix == ".html":
            place = Path(app.outdir, page_of(path))
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
            continue
        language = LANGUAGES.get(path.suffix, "text")
        code = app.builder.highlighter.highlight_block(path.read_text(encoding="utf-8"), language)
        body = f"<h1><code>{name}</code></h1>\n{code}"
        yield page_of(path), {"title": name, "body": body}, "page.html"
