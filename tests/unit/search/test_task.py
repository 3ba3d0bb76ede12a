"""What the items of a search can show: refused where that is too little, said where it is enough."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from attrs import evolve

from qx.contract.records import Metric
from qx.errors import UsageError
from qx.results.constraints import bound_of, read_constraint, read_constraints
from qx.results.recording import Series
from qx.searching.figures import Limit
from qx.searching.task import Task, check_judges, what_is_judged_late, what_items_show


def task(drop: str) -> Task:
    """Return a search with this constraint on quality."""
    return Task(constraints=read_constraints({"drop": [drop]}), minimize="size")


def limit(drop: str, metric: Metric) -> Limit:
    """Return the constraint on the scale of a metric."""
    constraint = read_constraint("drop", drop)
    return Limit(constraint=constraint, metric=metric, bound=bound_of(constraint, metric))


def samples(values: np.ndarray) -> Series:
    """Return samples of items."""
    none = np.full(len(values), -1)
    return Series(values=values, wave=none, round=none, position=none)


def test_250_items_cannot_show_half_a_point(builders: ModuleType) -> None:
    """Items that cannot show a drop are refused with the number that can, before anything is built."""
    hits = evolve(builders.HITS, quality=2)
    with pytest.raises(UsageError, match=r"250 items cannot show that.*; 928 can, half of which"):
        check_judges(task("0.5pt"), [hits], "toy", 250)
    check_judges(task("0.5pt"), [hits], "toy", 928)
    with pytest.raises(UsageError, match="926 items cannot"):
        what_items_show(task("0.5pt"), limit("0.5pt", hits), samples(np.ones(50)), 926)


def test_a_possible_score_is_asked_first(builders: ModuleType) -> None:
    """Where a function of the user's may judge, nothing is refused before the baseline has shown that."""
    hits, score = evolve(builders.HITS, quality=2), evolve(builders.HITS, quality=3, takes_score=True)
    check_judges(task("0.5pt"), [hits, score], "toy", 250)
    nearness = evolve(builders.HITS, phase="derived", quality=1)
    with pytest.raises(UsageError, match="nothing judges the answers of toy"):
        check_judges(task("0.5pt"), [nearness], "toy", 10_000)


def test_points_of_any_scale_are_judged_by_their_spread(builders: ModuleType) -> None:
    """For values that are not 0 and 1 the smallest interval follows from how they spread."""
    score = evolve(builders.HITS, unit="points")
    base = samples(np.random.default_rng(0).normal(50, 10, 100))
    with pytest.raises(UsageError, match="400 items cannot show"):
        what_items_show(task("0.05"), limit("0.05", score), base, 400)
    assert what_items_show(task("5"), limit("5", score), base, 400) == []


def test_what_can_be_shown_is_said(builders: ModuleType) -> None:
    """The search says how often a config that loses nothing is verified, by how many answers it changes."""
    hits = evolve(builders.HITS, quality=2)
    (words,) = what_items_show(task("1pt"), limit("1pt", hits), samples(np.ones(100)), 10_000)
    assert words.startswith("5,000 items verify. A config that loses nothing and changes 1, 2 or 4 % of the ")
    assert "is shown to be within 1pt in 100, 100 and 9" in words


def test_an_absolute_time_is_judged_late(builders: ModuleType) -> None:
    """A latency in milliseconds is no matter of the race, and that is said."""
    constraint = read_constraint("time", "2ms")
    late = Limit(constraint=constraint, metric=builders.DELAY, bound=bound_of(constraint, builders.DELAY))
    (words,) = what_is_judged_late([late, limit("1pt", builders.HITS)])
    assert words.startswith("--max-latency 2ms is judged in the final only")
