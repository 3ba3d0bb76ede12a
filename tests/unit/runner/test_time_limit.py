"""How the time of a run is shared by its phases and workloads."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from qx.processes.time_limit import TimeLimit
from qx.runner.phase_limits import PhaseLimit


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return a clock that stands still, at second 100."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    return clock


def phase(limit: TimeLimit, name: str, workloads: int = 1, derived: bool = False) -> tuple[PhaseLimit, Any]:
    """Return the limit of a phase, and a workload of ten built cells."""
    chosen: Any = SimpleNamespace(metrics_of=lambda phase: ["a metric"] if derived else [])
    workload: Any = SimpleNamespace(successful_builds=lambda: range(10))
    return PhaseLimit(limit, name, chosen, workloads), workload


@pytest.mark.parametrize(("seconds", "kept"), [(5, 2.5), (10, 3), (100, 10), (600, 60), (7200, 60)])
def test_time_is_kept_for_the_results(clock: SimpleNamespace, seconds: float, kept: float) -> None:
    """A tenth is kept, three seconds at least and a minute at most, and never more than half."""
    limit = TimeLimit(seconds, began=clock.now)
    assert limit.work_end == clock.now + seconds - kept


def test_without_a_limit_nothing_ends(clock: SimpleNamespace) -> None:
    """A run without a limit has all the time."""
    limit = TimeLimit()
    measure, workload = phase(limit, "measure", derived=True)
    measure.begin(workload)
    assert limit.end == math.inf and not limit.is_over


def test_a_phase_leaves_time_for_those_that_follow(clock: SimpleNamespace) -> None:
    """Builds have half of what is left, evaluating half of the rest, measuring all but what is derived."""
    limit = TimeLimit(600, began=clock.now)
    clock.now += 40
    build, workload = phase(limit, "build")
    build.begin(workload)
    assert limit.end == clock.now + 250
    clock.now = limit.end
    assert limit.is_over
    evaluate, _ = phase(limit, "evaluate")
    evaluate.begin(workload)
    assert not limit.is_over and limit.end == clock.now + 125
    measure, _ = phase(limit, "measure")
    measure.begin(workload)
    assert limit.end == limit.work_end
    # Ten cells, of which each may need a second.
    measure, _ = phase(limit, "measure", derived=True)
    measure.begin(workload)
    assert limit.end == pytest.approx(limit.work_end - max(10, 0.1 * limit.left))


def test_workloads_pass_on_what_they_leave(clock: SimpleNamespace) -> None:
    """Each workload may take an equal part of what those before it have left of the phase."""
    limit = TimeLimit(600, began=clock.now)
    build, workload = phase(limit, "build", workloads=3)
    build.begin(workload)
    assert limit.end == clock.now + 90
    clock.now += 10
    build.end()
    build.begin(workload)
    assert limit.end == clock.now + 130
    clock.now += 130
    build.end()
    build.begin(workload)
    assert limit.end == clock.now + 130
    assert limit.end == build.phase_end


def test_the_cause_names_the_option_as_it_was_given(clock: SimpleNamespace) -> None:
    """A cause says what was not done, what had no time left, and by which limit."""
    limit = TimeLimit(600, began=clock.now)
    limit.allow(10, "builds")
    assert limit.cause("not begun") == "not begun when the time for builds was over (--max-time 10m)"
