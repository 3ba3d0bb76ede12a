"""The reports that a run writes beside its table: a picture and a page."""

from __future__ import annotations

from qx.report import picture
from qx.report.html import page
from qx.results.recording import Recording
from qx.results.records import Results
from qx.results.results_file import PAGE, PICTURE


def pictures(results: Results, recording: Recording | None) -> dict[str, str]:
    """Return the texts of ``pareto.svg`` and ``report.html`` by these names.

    Without a recording, where the raw samples are gone, the page has no plots of them.
    """
    return {PICTURE: picture.render(results), PAGE: page.render(results, recording)}
