"""The reports that a run writes beside its table: a picture and a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qx.report import picture
from qx.report.html import page, sections
from qx.results.recording import Recording
from qx.results.records import Results
from qx.results.results_file import PAGE, PICTURE

if TYPE_CHECKING:
    from qx.report.layers_part import LayersPart


def pictures(
    results: Results,
    recording: Recording | None,
    parts: Sequence[LayersPart] = (),
    further: Sequence[sections.Part] = (),
) -> dict[str, str]:
    """Return the texts of ``pareto.svg`` and ``report.html`` by these names.

    The page has what ``qx layers`` has found about configs of the run, and further parts. Without a
    recording, where the raw samples are gone, it has no plots of them.
    """
    return {PICTURE: picture.render(results), PAGE: page.render(results, recording, parts, further)}
