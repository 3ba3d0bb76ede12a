"""Settings of the site, built by ``python -m sphinx -EW --keep-going docs build/site``.

What is not a setting is in the package ``qx_site``.
"""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent), str(DOCS.parent / "plugins")]

project = "qx"
author = "the authors of qx"
copyright = author  # noqa: A001 - Sphinx names it so
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "qx_site"]
# README.md is the table of contents for who reads the folder; the site's navigation is made from it.
exclude_patterns = ["README.md", "requirements.txt", "qx_site"]
nitpicky = True
# Types of annotations that have no page here; references that a docstring makes do not match.
nitpick_ignore_regex = [("py:(class|data|obj)", r"(?!qx\.[A-Za-z_]+$).*")]
# Indented code names no language: the extension finds it.
highlight_language = "none"

myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
napoleon_google_docstring = False
python_maximum_signature_line_length = 100
add_module_names = False
toc_object_entries = False

html_theme = "furo"
html_title = "qx"
html_static_path = ["qx_site/static"]
html_css_files = ["qx.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
