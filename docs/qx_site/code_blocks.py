"""The languages of code: the Markdown marks code by indenting it, which names none."""

from __future__ import annotations

import ast
import re
from typing import Any

from docutils import nodes
from sphinx.transforms import SphinxTransform

COMMAND = re.compile(r"(\$ )?(qx|pip|python3?|pytest|tox|ruff|mypy|git|export|cd|[A-Z_]+=\S+) ?")


def language_of(text: str) -> str:
    """Return the name of the language that a block of code is in, ``"text"`` where that is not clear."""
    if COMMAND.match(text.lstrip()):
        return "bash"
    if text.lstrip().startswith(">>> "):
        return "pycon"
    if text.lstrip().startswith("{"):
        return "json"
    if re.match(r"\s*\[[\w.\":]+\]\n", text):
        return "ini"
    try:
        statements = ast.parse(text).body
    except SyntaxError:
        return "text"
    said = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign)
    return "python" if any(isinstance(statement, said) for statement in statements) else "text"


class NameLanguages(SphinxTransform):
    """Give each block of code that names no language the one that it is in."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:  # noqa: ARG002 - the generator may pass some
        """Set the language of literal blocks."""
        for node in self.document.findall(nodes.literal_block):
            if node.get("language", "none") == "none":
                node["language"] = language_of(node.astext())
