"""A budget for several workloads, and too short for some of them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from qx.runner.plan import LEAST_WAVES
from qx.runner.waves import BudgetTooShort


@pytest.mark.parametrize("refused", [["second"], ["first", "second"]])
def test_a_budget_too_short_for_one_workload_costs_its_own_timings(
    qx: Callable[..., Any],
    toy: Any,
    write_plugin: Any,
    monkeypatch: pytest.MonkeyPatch,
    refused: list[str],
) -> None:
    """What the others have measured is kept, the reason stands in the results; refused for all, exit 2."""
    timing = import_module("qx.runner.timing")
    measure = timing.measure_in_waves

    def measure_but_for_some(plan: Any, *others: Any) -> Any:
        if plan.baseline.partition("/")[0] in refused:
            raise BudgetTooShort(7.0)
        return measure(plan, *others)

    monkeypatch.setattr(timing, "measure_in_waves", measure_but_for_some)
    source = Path(toy.plugins[0]).read_text(encoding="utf-8")
    names = ("first", "second")
    plugins = [
        write_plugin(name, source.replace('name="toy"', f'name="{name}", random_weights=True'))
        for name in names
    ]
    done = qx(
        *("run", "--workload", "first", "--workload", "second", *toy.given(*plugins)),
        *("-m", "latency", "-m", "file_size", "--batch-size", 1, "--quick", "--budget", 4, "--out", "out"),
    )
    told = "--budget 4, shared by 2 workloads, is too short: 6 waves of the cells of "
    if refused == list(names):
        assert done.code == 2
        assert done.err.splitlines()[-1].startswith(f"qx: error: {told}")
        assert not Path("out").exists()
        return
    assert done.code == 1, done.err
    measured = {one["cell"]: one for one in done.results["measurements"] if one["metric"] == "latency"}
    assert measured["first/toy_fp32"]["value"] > 0
    lost = measured["second/toy_fp32"]
    assert (lost["value"], lost["outcome"]) == (None, "failed")
    assert f"{told}second take about 7 s; give 14," in done.table.replace("\N{NO-BREAK SPACE}", " ")
    assert {one["value"] for one in done.results["measurements"] if one["metric"] == "file_size"} != {None}
    assert done.results["run"]["due_failures"] == ["second/toy_fp32: metric latency"]
    measuring = done.results["run"]["workloads"]["second"]["measuring"]
    assert measuring["ended_by"] == "too short a budget"


@pytest.mark.parametrize(("needed", "refused"), [(216, False), (320, True)])
def test_a_workload_may_take_of_what_those_to_come_would_have(
    qx: Callable[..., Any],
    toy: Any,
    write_plugin: Any,
    monkeypatch: pytest.MonkeyPatch,
    needed: float,
    refused: bool,
) -> None:
    """Half of 400 s is too short for it: it takes what it needs, but no more than three quarters."""
    waves = import_module("qx.runner.waves")
    due = needed / LEAST_WAVES / waves.LEAST_ROUNDS
    monkeypatch.setattr(waves, "round_seconds", lambda *given: due)
    source = Path(toy.plugins[0]).read_text(encoding="utf-8")
    plugins = [
        write_plugin(name, source.replace('name="toy"', f'name="{name}", random_weights=True'))
        for name in ("first", "second")
    ]
    done = qx(
        *("run", "--workload", "first", "--workload", "second", *toy.given(*plugins)),
        *("-m", "latency", "--batch-size", 1, "--precision", 0.99, "--budget", 400, "--out", "out"),
    )
    assert done.code == int(refused), done.err
    first, second = (done.results["run"]["workloads"][name]["measuring"] for name in ("first", "second"))
    assert first["ended_by"] == ("too short a budget" if refused else "precision")
    assert refused or needed <= first["budget"] <= 300
    # The second has all that the first did not use.
    assert second["ended_by"] == "precision"
    assert 320 < second["budget"] <= 400
