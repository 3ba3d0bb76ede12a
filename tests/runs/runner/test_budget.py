"""A budget for several workloads, and too short for some of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qx.cli.display import Lines
from qx.runner.measure.plan import LEAST_WAVES, Measured
from qx.runner.measure.shares import BudgetShares
from qx.runner.measure.waves import BudgetTooShort

NAMES = ("first", "second")


def two_workloads(toy: Any, write_plugin: Any) -> list[str]:
    """The toy under two names, without weights of its own."""
    source = Path(toy.plugins[0]).read_text(encoding="utf-8")
    return [
        write_plugin(name, source.replace('name="toy"', f'name="{name}", random_weights=True'))
        for name in NAMES
    ]


@pytest.mark.parametrize("refused", [["second"], pytest.param(["first", "second"], marks=pytest.mark.slow)])
def test_a_budget_too_short_for_one_workload_costs_its_own_timings(
    qx: Callable[..., Any],
    toy: Any,
    write_plugin: Any,
    monkeypatch: pytest.MonkeyPatch,
    refused: list[str],
) -> None:
    """Other workloads keep their timings and the results say why one has none; without any, exit code 2."""
    timing = import_module("qx.runner.measure.timing")
    measure = timing.measure_in_waves

    def measure_but_for_some(plan: Any, *others: Any) -> Any:
        if plan.baseline.partition("/")[0] in refused:
            raise BudgetTooShort(7.0)
        return measure(plan, *others)

    monkeypatch.setattr(timing, "measure_in_waves", measure_but_for_some)
    plugins = two_workloads(toy, write_plugin)
    done = qx(
        *("run", "--workload", "first", "--workload", "second", *toy.plugin_arguments(*plugins)),
        *("-m", "latency", "-m", "file_size", "--batch-size", 1, "--quick", "--budget", 4, "--out", "out"),
    )
    message = "--budget 4, shared by 2 workloads, is too short: 6 waves of the cells of "
    if refused == list(NAMES):
        assert done.code == 2
        assert done.err.splitlines()[-1].startswith(f"qx: error: {message}")
        assert not Path("out").exists()
        return
    assert done.code == 1, done.err
    latencies = {
        measurement["cell"]: measurement
        for measurement in done.results["measurements"]
        if measurement["metric"] == "latency"
    }
    assert latencies["first/toy_fp32"]["value"] > 0
    missing = latencies["second/toy_fp32"]
    assert (missing["value"], missing["outcome"]) == (None, "failed")
    assert f"{message}second take about 7 s; give 14," in done.table.replace("\N{NO-BREAK SPACE}", " ")
    assert {
        measurement["value"]
        for measurement in done.results["measurements"]
        if measurement["metric"] == "file_size"
    } != {None}
    assert done.results["run"]["failures"] == ["second/toy_fp32: metric latency"]
    measuring = done.results["run"]["workloads"]["second"]["measuring"]
    assert measuring["ended_by"] == "too short a budget"


@pytest.mark.parametrize(
    ("needed", "refused"), [(2165, False), pytest.param(3200, True, marks=pytest.mark.slow)]
)
def test_a_workload_may_take_of_what_those_to_come_would_have(
    qx: Callable[..., Any],
    toy: Any,
    write_plugin: Any,
    monkeypatch: pytest.MonkeyPatch,
    needed: float,
    refused: bool,
) -> None:
    """A workload that needs more than half of 4,000 s takes what it needs, up to three quarters."""
    waves = import_module("qx.runner.measure.waves")
    seconds = needed / LEAST_WAVES / waves.LEAST_ROUNDS
    monkeypatch.setattr(waves, "round_seconds", lambda *arguments: seconds)
    monkeypatch.setattr(Lines, "PAUSE", 0.0)
    plugins = two_workloads(toy, write_plugin)
    done = qx(
        *("run", "--workload", "first", "--workload", "second", *toy.plugin_arguments(*plugins)),
        *("-m", "latency", "--batch-size", 1, "--precision", 0.99, "--budget", 4000, "--out", "out"),
    )
    assert done.code == int(refused), done.err
    first, second = (done.results["run"]["workloads"][name]["measuring"] for name in ("first", "second"))
    assert "in waves, at most 2000 s, or 3000 s if 6 waves need it" in done.err
    assert first["ended_by"] == ("too short a budget" if refused else "precision")
    assert first["budget"] == 3000 if refused else needed <= first["budget"] < 3000
    # The second has all that the first did not use, since none comes after it.
    assert second["ended_by"] == "precision"
    assert 3200 < second["budget"] <= 4000
    assert done.err.count("waves need it") == 1
    assert done.results["run"]["measuring"]["budget"] == 4000


@pytest.mark.parametrize(
    ("budget", "most", "seconds", "granted"),
    [
        (16.5, 24.75, 3.2, 16.5),
        (16.5, 24.75, 16.4, 16.5),
        (16.5, 24.75, 17.2, 18),
        (16.5, 24.75, 24.6, 24.75),
    ],
)
def test_no_more_is_taken_than_is_needed_or_allowed(
    budget: float, most: float, seconds: float, granted: float
) -> None:
    """Seconds that fit leave the budget as it is; more are rounded up, but never above the most allowed."""
    waves = import_module("qx.runner.measure.waves")
    plan = SimpleNamespace(max_budget=most, seed=0, end=math.inf)
    measured = Measured(budget=budget, waves=1)
    group = waves._Group(plan, (), None, None, measured, None, began=0.0, share=0.5)
    group._grant(seconds)
    assert (measured.budget, measured.needed) == (granted, seconds)
    assert group.deadline == granted / 2
    with pytest.raises(BudgetTooShort, match="30 s"):
        group._grant(30.0)
    measured.waves = 2
    group._grant(30.0)
    assert measured.budget == granted


def test_shares_of_a_budget() -> None:
    """Each later workload keeps half of an equal share, whatever the earlier ones took."""
    shares = BudgetShares(100.0, 4, left=100.0, to_come=4)
    granted = []
    for _ in range(4):
        assert shares.equal_share <= shares.largest_share
        granted.append(shares.largest_share)
        shares.left -= shares.largest_share
        shares.to_come -= 1
    assert granted == [62.5, 12.5, 12.5, 12.5]
    assert (BudgetShares(100.0, 1, left=100.0, to_come=1).largest_share) == 100.0
    # A workload that overran leaves nothing for the next.
    late = BudgetShares(100.0, 2, left=-3.0, to_come=1)
    assert (late.equal_share, late.largest_share) == (0.0, 0.0)


@pytest.mark.parametrize(("needed", "left"), [(27.0, 26.0), (74.0, 60.0), (10.0, 5.0)])
def test_the_budget_that_is_asked_for_is_more_than_the_one_that_was_set(needed: float, left: float) -> None:
    """The budget that is asked for suffices for equal shares, and is always more than the refused one."""
    shares = BudgetShares(100.0, 2, left=left, to_come=1, needed=needed)
    assert shares.sufficient_budget > 100
    assert shares.sufficient_budget >= 2 * needed
    assert shares.sufficient_budget - (100 - left) >= needed


@pytest.mark.slow
def test_a_look_at_several_workloads_shares_its_budget_equally(
    qx: Callable[..., Any], toy: Any, write_plugin: Any
) -> None:
    """With ``--quick`` no workload is refused, so one that takes longer takes nothing from the next."""
    plugins = two_workloads(toy, write_plugin)
    done = qx(
        *("run", "--workload", "first", "--workload", "second", *toy.plugin_arguments(*plugins)),
        *("-m", "latency", "--batch-size", 1, "--quick", "--budget", 0.5, "--out", "out"),
    )
    assert done.code == 0, done.err
    workloads = done.results["run"]["workloads"]
    assert [workloads[name]["measuring"]["budget"] for name in ("first", "second")] == [0.25, 0.25]
    assert done.results["run"]["measuring"]["budget"] == 0.5


def test_waves_of_one_workload_do_not_hold_up_another(
    qx: Callable[..., Any], toy: Any, write_plugin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workload with half the rounds in a wave is as precise as the first, and ends with that as well."""
    calls = itertools.count()

    def count_rounds(tasks: Any, costs: Any, seconds: float) -> Any:
        return dict.fromkeys(tasks, 12 if next(calls) < LEAST_WAVES else 6)

    monkeypatch.setattr(import_module("qx.runner.measure.waves"), "count_rounds", count_rounds)
    plugins = two_workloads(toy, write_plugin)
    done = qx(
        *("run", "--workload", "first", "--workload", "second", *toy.plugin_arguments(*plugins)),
        *("-m", "latency", "--batch-size", 1, "--precision", 9, "--budget", 60, "--out", "out"),
    )
    assert done.code == 0, done.err
    measuring = [done.results["run"]["workloads"][name]["measuring"] for name in NAMES]
    assert [record["rounds"] for record in measuring] == [{"latency": {"1": 12}}, {"latency": {"1": 6}}]
    assert [record["ended_by"] for record in measuring] == ["precision"] * 2
    assert [record["waves"] for record in measuring] == [LEAST_WAVES] * 2
