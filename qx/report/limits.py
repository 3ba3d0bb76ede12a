"""Say which configs meet the constraints that the user set: surely, perhaps, or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qx.report.wording import Markup, listed, names_in_row
from qx.results.columns import View
from qx.results.constraints import Verdict
from qx.results.records import LimitResult

#: What the verdicts rest on.
EXPLAINED = (
    "Surely means that the whole 95 % interval is within a limit, and perhaps that a part of it is, for each "
    "config by itself."
)


def sentences(view: View, markup: Markup) -> Iterator[str]:
    """Yield sentences: which constraint judges nothing, and what meets the others surely, perhaps or not."""
    for limit in view.results.limits:
        if not limit.verdicts:
            yield f"{markup.text(limit.reason)}."
    if not view.limits:
        return
    limits = listed([_limit(limit, markup) for limit in view.limits])
    surely, maybe, beyond = (cells(view, verdict) for verdict in ("surely", "perhaps", "no"))
    names = names_in_row(view, surely, markup) if surely else "none surely"
    yield f"{markup.strong('Within your limits')} ({limits}): {names}."
    if maybe:
        yield f"{markup.strong('Perhaps')}: {_with_limits(view, maybe, markup)}."
    if beyond:
        yield f"{markup.strong('Beyond them')}: {_with_limits(view, beyond, markup)}."
    ended_well = [cell for cell in view.rows if view.ended(cell).outcome == "ok"]
    if unjudged := [cell for cell in ended_well if view.meets(cell) is None]:
        names = names_in_row(view, unjudged, markup)
        yield f"Not judged, since a figure is missing or it is another network: {names}."
    yield EXPLAINED


def cells(view: View, verdict: Verdict) -> list[str]:
    """Return the cells with a verdict on all constraints, those on the front first."""
    ranks = {"yes": 0, "perhaps": 1}
    matching = [cell for cell in view.rows if view.meets(cell) == verdict]
    return sorted(matching, key=lambda cell: ranks.get(view.on_front(cell), len(ranks)))


def names_of_limits(view: View) -> str:
    """Return the constraints in words, such as ``--max-drop 0.5pt, --max-size 10MB``."""
    return ", ".join(limit.constraint.words for limit in view.limits)


def _limit(limit: LimitResult, markup: Markup) -> str:
    return f"{markup.name(limit.constraint.words)} of {markup.text(str(limit.metric))}"


def _with_limits(view: View, cells: Sequence[str], markup: Markup) -> str:
    """Name cells, each with the metrics whose constraints decide its verdict."""
    return listed([_with_own_limits(view, cell, markup) for cell in cells])


def _with_own_limits(view: View, cell: str, markup: Markup) -> str:
    verdict = view.meets(cell)
    deciding = [limit for limit in view.limits if limit.verdicts[cell] == verdict]
    names = dict.fromkeys(markup.text(str(limit.metric)) for limit in deciding)
    return f"{markup.name(view.name(cell))} ({listed([*names])})"
