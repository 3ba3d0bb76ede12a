"""Times of operators in a typical call: the middle half of the calls, the same for all operators."""

from __future__ import annotations

import pytest
from qx_plugins.recipes.profiling import WatchedCalls


def test_calls_that_others_have_stopped_are_left_out() -> None:
    """The sum of the operators stays comparable with the call, whatever a few calls have met."""
    made = WatchedCalls((1.0, 9.0, 1.1, 0.1))
    assert sorted(made.typical) == [0, 2]
    assert made.seconds == pytest.approx(1.05)
    first, second = made.share((0.6, 8.0, 0.6, 0.1)), made.share((0.1, 0.1, 0.2, 0.3, 0.1, 0.2, 0.0, 0.0))
    assert first == pytest.approx(0.6)
    assert second == pytest.approx((0.2 + 0.3) / 2)


def test_runs_that_differ_between_calls_are_spread_over_all() -> None:
    """Where calls do not have equally many runs, their mean is over all calls."""
    assert WatchedCalls((1.0, 1.0)).share((0.5, 0.5, 0.5)) == pytest.approx(0.75)
    assert WatchedCalls((1.0, 1.0)).share(()) == 0


def test_calls_are_made_as_often_as_asked() -> None:
    """Each call is timed by itself."""
    calls: list[int] = []
    made = WatchedCalls.make(lambda: calls.append(1), 7)
    assert len(calls) == len(made.times) == 7
    assert min(made.times) > 0
