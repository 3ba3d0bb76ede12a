"""The race of a search: who leaves, who is in the final, and what the final may return."""

from __future__ import annotations

import math

import numpy as np
import pytest
from attrs import evolve

from qx.contract.records import Metric
from qx.results.constraints import bound_of, read_constraint
from qx.results.recording import Series
from qx.searching.figures import Figures, Limit, Seen
from qx.searching.race import (
    BREAKS,
    DOMINATED,
    FINALISTS,
    Design,
    Exit,
    Race,
    choose_recipe,
    excess,
    is_over,
    is_shown_to_break,
    is_shown_to_meet,
)

QUALITY = Metric(
    name="quality",
    summary="Share of right answers.",
    unit="fraction",
    better="higher",
    samples="per_item",
    compare="difference",
    phase="predictions",
    margin=0.005,
    axis=True,
)
SIZE = Metric(
    name="size",
    summary="Bytes.",
    unit="bytes",
    better="lower",
    samples="exact",
    compare="ratio",
    phase="artifact",
    margin=0.01,
    axis=True,
)
TIME = evolve(
    SIZE, name="time", unit="ms", samples="per_block", compare="speedup", phase="block", margin=0.02
)


def limit(text: str = "1pt", aim: str = "drop", metric: Metric = QUALITY) -> Limit:
    """Return a limit as the command line sets it."""
    constraint = read_constraint(aim, text)
    return Limit(constraint=constraint, metric=metric, bound=bound_of(constraint, metric))


def figures(lost: int = 0, won: int = 0, items: int = 4000, size: float = 1.0, times: float = 1.0) -> Figures:
    """Return a candidate that loses and wins so many answers against the baseline."""
    ours, theirs = np.zeros(items), np.zeros(items)
    ours[:won] = theirs[won : won + lost] = 1
    none = np.full(items, -1)
    series = [Series(values=values, wave=none, round=none, position=none) for values in (ours, theirs)]
    noise = 0.005 * np.random.default_rng(lost + items).standard_normal(6)
    return Figures(
        items=(series[0], series[1]),
        exact={"size": (size, 1.0)},
        log_ratios={"time": {wave: math.log(times) + value for wave, value in enumerate(noise)}},
        launches={"time": [times] * 6},
    )


def race(metric: Metric = SIZE, candidates: int = 3) -> Race:
    """Return a race with a limit of a point."""
    return Race(Design.of(candidates, 1), [limit()], metric)


def test_what_is_shown_to_break_a_constraint_leaves() -> None:
    """A candidate leaves once its whole interval is beyond the limit, and stays while a part is within."""
    running = race()
    seen = {"collapsed": figures(lost=400), "near": figures(lost=50, won=5), "good": figures(lost=5, won=5)}
    running.drop_breaking(0, seen)
    assert running.exits == {"collapsed": Exit(look=1, reason=BREAKS, by="--max-drop 1pt")}
    assert running.alive(seen) == ["near", "good"]


def test_only_what_surely_meets_the_constraints_drives_others_out() -> None:
    """The smallest candidate drives larger ones out once it is shown to meet all constraints, not before."""
    seen = {"small": figures(lost=8, won=4, items=500, size=0.3), "large": figures(size=0.5, items=500)}
    running = race()
    running.drop_dominated(0, seen)
    assert not running.exits
    seen["small"] = figures(lost=8, won=4, size=0.3)
    running.drop_dominated(1, seen)
    assert running.exits == {"large": Exit(look=2, reason=DOMINATED, by="small")}


def test_a_difference_within_the_margin_drives_out_only_what_is_not_yet_shown() -> None:
    """Within the margin a leader drops what is not yet shown, and never what is shown to be better."""
    open_ones = {"leader": figures(size=0.502), "open": figures(lost=40, won=10, size=0.5)}
    running = race()
    running.drop_dominated(0, open_ones)
    assert running.exits["open"].by == "leader"
    shown = {"leader": figures(size=0.502), "shown": figures(size=0.5)}
    running = race()
    running.drop_dominated(0, shown)
    assert list(running.exits) == ["leader"]


@pytest.mark.parametrize(("times", "leaves"), [(1.2, True), (1.001, False)])
def test_times_are_compared_in_the_waves_that_both_have(times: float, leaves: bool) -> None:
    """A candidate that is shown to be slower than the leader leaves, and one that may be as fast stays."""
    seen = {"fast": figures(lost=1), "slow": figures(lost=0, times=times)}
    running = race(TIME)
    running.drop_dominated(3, seen)
    assert ("slow" in running.exits) == leaves


def test_without_enough_waves_nothing_is_shown() -> None:
    """One wave has no interval, so nothing is faster by it; none gives no objective."""
    one, other = figures(), figures(times=5.0)
    one.log_ratios["time"] = {0: 0.0}
    assert one.advantage(other, TIME, 0.01) == -math.inf or len(other.log_ratios["time"]) > 1
    other.log_ratios["time"] = {0: 1.6}
    assert one.advantage(other, TIME, 0.01) == -math.inf
    assert Figures().objective(TIME) == math.inf


def test_finalists_are_those_shown_first_then_those_that_seem_to_meet() -> None:
    """The final has room for three: shown ones by size, then open ones, then the nearest miss."""
    seen = {
        "open": figures(lost=12, won=4, items=1200, size=0.1),
        "shown": figures(lost=2, size=0.5),
        "missed": figures(lost=60, won=10, size=0.01),
        "missed more": figures(lost=70, won=10, size=0.01),
    }
    assert race().finalists(seen, [limit()]) == ["shown", "open", "missed"]
    running = race()
    assert not is_over(running, seen)
    running.exits["missed more"] = Exit(look=1, reason=BREAKS, by="")
    assert len(running.alive(seen)) == FINALISTS
    assert is_over(running, seen)


def test_the_final_returns_the_best_that_is_shown() -> None:
    """Of the finalists that are shown to meet all limits the smallest is the recipe, or there is none."""
    seen = {
        "open": figures(lost=12, won=4, items=1200, size=0.1),
        "shown": figures(lost=2, size=0.5),
        "smaller": figures(lost=3, size=0.4),
    }
    assert choose_recipe(seen, [limit()], SIZE) == "smaller"
    assert choose_recipe(seen, [limit(), limit("0.45x", "size", SIZE)], SIZE) == "smaller"
    assert choose_recipe(seen, [limit(), limit("0.2x", "size", SIZE)], SIZE) is None
    assert choose_recipe({}, [limit()], SIZE) is None
    assert choose_recipe({"nothing": Figures()}, [limit()], SIZE) is None


def test_absolute_times_are_judged_by_the_launches() -> None:
    """An absolute limit is held against the times of launches, a share against the ratio in each wave."""
    seen = figures(times=2.0)
    absolute, share = limit("3ms", "time", TIME), limit("0.5x", "time", TIME)
    assert seen.seen(absolute, 0.025) == Seen(2.0, 2.0, 2.0)
    ratio = seen.seen(share, 0.025)
    assert ratio is not None
    assert ratio.low < 2.0 < ratio.high
    assert is_shown_to_break(share, ratio)
    assert is_shown_to_meet(absolute, Seen(2.0, 1.9, 2.1))
    # Answers say nothing of times.
    assert Figures(items=seen.items).seen(share, 0.025) is None
    assert Figures(items=seen.items).seen(absolute, 0.025) is None


def test_misses_are_shares_of_their_limits() -> None:
    """The constraint that is missed most, as a share of its limit, says how far a candidate is off."""
    seen = figures(lost=60, size=0.5)
    assert excess(seen, [limit()]) == pytest.approx(0.5)
    assert excess(seen, [limit(), limit("0.1x", "size", SIZE)]) == pytest.approx(4.0)
    assert excess(figures(), [limit()]) < 0


def test_more_candidates_and_more_constraints_make_single_tests_stricter() -> None:
    """All tests of a race share one error, so each has less of it where there are more."""
    few, many = Design.of(2, 1), Design.of(200, 2)
    for name in ("exclusion", "meeting", "domination"):
        assert all(one > other for one, other in zip(getattr(few, name), getattr(many, name), strict=True))
    assert len(few.shares) == 4
    assert few.shares[-1] == 1
