"""Where things lie, in the repository and in the site."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).parents[1]
TOP = DOCS.parent
#: Folder in ``docs/`` for pages of files that lie outside of it, under their paths in the repository.
REPOSITORY = "repository"
#: Folder in ``docs/`` for the reference of the public names.
REFERENCE = "reference"
