"""The extension of Sphinx that makes the site of what the repository has.

The Markdown in ``docs/`` is written for who reads it in the repository. This package adds what a site needs
and such a reader does not: navigation (:mod:`~qx_site.navigation`), pages for files outside of ``docs/`` that
are linked (:mod:`~qx_site.repository`), the record of each config on its page (:mod:`~qx_site.configs`), and
a reference of the public names (:mod:`~qx_site.reference`). It fails where a page would load something from
the network (:mod:`~qx_site.offline`).
"""

from __future__ import annotations

from sphinx.application import Sphinx

from qx_site import configs, navigation, offline, reference, repository
from qx_site.code_blocks import NameLanguages


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect what the modules do to the steps of a build."""
    app.connect("builder-inited", repository.write_pages)
    app.connect("builder-inited", reference.write_pages)
    # Links last: what others add to a page has links too.
    app.connect("source-read", navigation.add_to_page)
    app.connect("source-read", configs.add_to_page)
    app.connect("source-read", reference.add_to_page)
    app.connect("source-read", repository.rewrite_links, priority=900)
    app.connect("autodoc-process-signature", reference.plain_defaults)
    app.add_transform(NameLanguages)
    app.add_transform(repository.LinkSources)
    app.connect("html-collect-pages", repository.source_pages)
    app.connect("build-finished", offline.check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
