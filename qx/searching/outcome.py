"""What the final says of a candidate, and the rules that hold its recipe to the constraints later."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from qx.contract.records import Metric
from qx.searching.figures import Figures, Limit, Seen
from qx.searching.report import Finalist, Held


def finalist(
    row: str,
    figures: Figures,
    limits: Sequence[Limit],
    aim: Metric,
    error: float,
    files: Mapping[str, str],
) -> Finalist:
    """Return a candidate with its figures held against the limits, each with this error at either end."""
    objective = figures.objective(aim)
    seen = [(limit, figures.seen(limit, error)) for limit in limits]
    return Finalist(
        row=row,
        objective=math.exp(objective) if math.isfinite(objective) else None,
        held=tuple(_held(limit, figure) for limit, figure in seen if figure is not None),
        files=files,
    )


def _held(limit: Limit, seen: Seen) -> Held:
    ends = (seen.low, seen.high) if math.isfinite(seen.low) and math.isfinite(seen.high) else None
    return Held(
        constraint=limit.constraint.words,
        metric=limit.metric.name,
        unit=limit.metric.unit,
        kind=limit.bound.kind,
        value=seen.value,
        ci=ends,
        verdict=limit.bound.verdict(seen.value, ends),
    )


def gate_rules(config: str, limits: Sequence[Limit], figures: Figures) -> list[dict[str, str | float]]:
    """Return rules of ``qx gate`` that hold later runs of a recipe to the constraints.

    A share of the baseline's size or memory has no rule: the amount that it was in the final stands for it.
    """
    return [{"metric": limit.metric.name, "config": config, **_rule(limit, figures)} for limit in limits]


def _rule(limit: Limit, figures: Figures) -> dict[str, float]:
    name, edge = limit.metric.name, limit.bound.edge
    if limit.constraint.aim == "drop":
        word = "largest_increase" if limit.bound.is_upper else "largest_drop"
        return {word: abs(edge) if limit.bound.kind == "difference" else abs(1 - edge)}
    if limit.bound.kind == "value":
        return {"largest": edge}
    if limit.metric.compare == "speedup":
        return {"smallest_speedup": 1 / edge}
    if name in figures.exact:
        return {"largest": edge * figures.exact[name][1]}
    ratio = math.exp(figures.objective(limit.metric))
    return {"largest": edge * float(np.median(figures.launches[name])) / ratio}
