"""The site loads nothing from the network: a page that would makes the build fail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

#: Attributes that a browser loads from, but for links that a reader follows.
LOADED = {"src", "srcset", "data", "poster", "action"}
ELSEWHERE = re.compile(r"\s*(https?:)?//", re.I)
IN_STYLES = re.compile(r"(?:url\(|@import)\s*['\"]?\s*(?:https?:)?//[^'\") ]+", re.I)


class Loads(HTMLParser):
    """Collects what a page loads from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at the attributes of one element."""
        for name, value in attrs:
            loads = name in LOADED or (name == "href" and tag in ("link", "use", "image", "base"))
            if loads and value and ELSEWHERE.match(value) and ("rel", "canonical") not in attrs:
                self.addresses.append(value)
            if name == "style" and value:
                self.addresses += IN_STYLES.findall(value)


def loads(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file of a site that loads something from elsewhere, with the address."""
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".html", ".css", ".svg"):
            continue
        text = path.read_text(encoding="utf-8")
        found = IN_STYLES.findall(text) if path.suffix != ".html" else []
        if path.suffix != ".css":
            parser = Loads()
            parser.feed(text)
            found += parser.addresses
            found += [
                address
                for style in re.findall(r"<style.*?</style>", text, re.S)
                for address in IN_STYLES.findall(style)
            ]
        for address in found:
            yield path.relative_to(folder), address


def check(app: Sphinx, error: Exception | None) -> None:
    """Fail where a file of the site loads something from elsewhere."""
    if error:
        return
    if wrong := [f"{path}: {address}" for path, address in loads(Path(app.outdir))]:
        raise ExtensionError("the site loads from elsewhere:\n" + "\n".join(wrong))
