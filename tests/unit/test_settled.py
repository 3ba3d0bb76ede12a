"""Which cells need no more rounds: those about which nothing that is decided is open at 99 %."""

from __future__ import annotations

from typing import Any

import builders
import numpy as np
import pytest
from attrs import evolve

from qx.analysis import settled
from qx.analysis.settled import Decisions, Settling, front_is_open, pick_is_open
from qx.contract.figures import Figure, Point
from qx.contract.records import Metric
from qx.results.constraints import read_constraint
from qx.results.recording import Recording, Series
from qx.statistics.pareto import Axis

ONE = Point(1)
DELAY, WEIGHT = evolve(builders.DELAY, pick="the shortest delay"), evolve(builders.WEIGHT, pick=None)
DISTANCE = Metric(
    name="distance",
    summary="Distance from the baseline's answers.",
    unit="things",
    better="lower",
    samples="per_item",
    compare="difference",
    phase="derived",
    axis=True,
    quality=1,
)
CELLS = ("base", "quick", "quicker", "slow")


def decisions(*metrics: Metric, cells: tuple[str, ...] = CELLS, **fields: Any) -> Decisions:
    """Return what is decided about cells by these metrics."""
    return Decisions(
        metrics=metrics, points=(ONE,), baseline="base", control="control", cells=cells, **fields
    )


def recorded(
    delays: dict[str, float],
    *,
    waves: int = 4,
    spread: float = 0.005,
    weights: dict[str, float] | None = None,
) -> Recording:
    """Return samples of cells with these delays, which vary by ``spread`` from launch to launch."""
    rng, recording = np.random.default_rng(3), Recording()
    wave, number = (index.ravel() for index in np.indices((waves, 6, 3))[:2])
    for cell, delay in (delays | {"control": delays["base"]}).items():
        logs = rng.normal(0, spread, waves)[wave] + rng.exponential(0.002, len(wave))
        series = Series(values=delay * np.exp(logs), wave=wave, round=number, position=np.zeros_like(wave))
        recording.add(cell, Figure("delay", ONE), series)
        none = np.array([-1])
        weight = np.array([(weights or {}).get(cell, 100.0)])
        recording.add(cell, Figure("weight"), Series(values=weight, wave=none, round=none, position=none))
    return recording


APART = {"base": 4.0, "quick": 2.0, "quicker": 1.0, "slow": 8.0}


def test_cells_that_are_far_apart_are_settled() -> None:
    """Where it is sure who dominates whom, all are settled but the baseline, which all are compared with."""
    settling = Settling(decisions(DELAY, WEIGHT))
    assert settling.settled_cells(recorded(APART)) == {"quick", "quicker", "slow"}


def test_a_pair_is_open_until_it_is_told_apart() -> None:
    """Two cells that may be within the margin stay open until more waves show that they differ."""
    settling, near = Settling(decisions(DELAY, WEIGHT)), APART | {"quick": 1.03}
    assert settling.settled_cells(recorded(near)) == {"slow"}
    assert settling.settled_cells(recorded(near, waves=40)) == {"quick", "quicker", "slow"}


def test_a_settled_cell_becomes_open_again() -> None:
    """What three waves seemed to show does not bind: further waves that differ open the cell again."""
    settling = Settling(decisions(DELAY, WEIGHT))
    assert "slow" in settling.settled_cells(recorded(APART, waves=3))
    assert "slow" not in settling.settled_cells(recorded(APART | {"slow": 1.01}, waves=4))


def test_what_rounds_cannot_decide_leaves_no_cell_open() -> None:
    """An axis that is not known yet opens nothing by itself, and nobody is dominated for sure."""
    assert Settling(decisions(DELAY, WEIGHT, DISTANCE)).settled_cells(recorded(APART)) == {
        "quick",
        "quicker",
        "slow",
    }
    near = APART | {"slow": 4.04}
    assert "slow" in Settling(decisions(DELAY, WEIGHT)).settled_cells(recorded(near))
    assert "slow" not in Settling(decisions(DELAY, WEIGHT, DISTANCE)).settled_cells(recorded(near))


def test_a_constraint_keeps_a_cell_open() -> None:
    """A cell whose latency may be on either side of a limit needs more rounds."""
    limit = read_constraint("time", "0.5x")
    settling = Settling(decisions(DELAY, WEIGHT, constraints=(limit,)))
    assert settling.settled_cells(recorded(APART)) == {"quicker", "slow"}
    assert settling.settled_cells(recorded(APART | {"quick": 1.8})) == {"quick", "quicker", "slow"}


def test_what_is_picked_keeps_those_open_that_may_be_picked() -> None:
    """Rounds decide which of two cells is the quickest, though both are on the front, if that is picked."""
    weights = {"base": 100.0, "quick": 50.0, "quicker": 40.0, "slow": 100.0}
    loads = {"base": 100.0, "quick": 40.0, "quicker": 50.0, "slow": 100.0}
    recording = recorded(APART | {"quick": 1.03}, weights=weights)
    for cell in CELLS:
        series = recording.series[cell][Figure("weight")]
        recording.add(cell, Figure("load"), evolve(series, values=np.array([loads[cell]])))
    load = evolve(WEIGHT, name="load")
    metrics = (WEIGHT, load, evolve(DELAY, pick=None))
    assert Settling(decisions(*metrics)).settled_cells(recording) == {"quick", "quicker", "slow"}
    assert Settling(decisions(WEIGHT, load, DELAY)).settled_cells(recording) == {"slow"}
    lightest = evolve(WEIGHT, pick="the lightest")
    assert Settling(decisions(lightest, *metrics[1:])).settled_cells(recording) == {
        "quick",
        "quicker",
        "slow",
    }


def test_equals_stay_open_that_latency_decides_between() -> None:
    """Where several are equal in what is picked by, the axes that follow decide, each between those left."""
    tie, quicker = np.zeros((3, 3)), np.array([0.0, 0.03, -1.0])[:, None] - np.array([0.0, 0.03, -1.0])
    equal, timed = Axis(tie, tie, 0.01), Axis(quicker - 0.02, quicker + 0.02, 0.02)
    assert pick_is_open([equal, timed], [False, True]).tolist() == [True, True, False]
    assert pick_is_open([equal, timed], [False, False]).tolist() == [False, False, False]
    smaller = np.array([0.0, -1.0, 0.0])[:, None] - np.array([0.0, -1.0, 0.0])
    other = Axis(smaller, smaller, 0.01)
    assert pick_is_open([equal, other, timed], [False, False, True]).tolist() == [False, False, False]


def test_nothing_is_settled_where_it_cannot_be_computed() -> None:
    """That is so where the control raises an alarm, and where a metric is known only after all waves."""
    alarm = recorded(APART)
    values = alarm.series["control"][Figure("delay", ONE)]
    alarm.add("control", Figure("delay", ONE), evolve(values, values=1.5 * values.values))
    assert Settling(decisions(DELAY, WEIGHT)).settled_cells(alarm) == set()
    later = evolve(DELAY, name="token_delay", phase="derived", per_point=False, derived_from=("delay",))
    assert Settling(decisions(DELAY, WEIGHT, later)).settled_cells(recorded(APART)) == set()


def test_cells_that_are_not_measured_yet_keep_others_open() -> None:
    """Until the last group is measured only those are settled that are dominated already."""
    cells = (*CELLS, "to_come")
    assert Settling(decisions(DELAY, WEIGHT, cells=cells)).settled_cells(recorded(APART)) == {"quick", "slow"}
    failed = Settling(decisions(DELAY, WEIGHT, cells=cells)).settled_cells(recorded(APART), {"to_come"})
    assert failed == {"quick", "quicker", "slow"}


def test_a_cell_that_has_hardly_been_measured_is_open() -> None:
    """One whose launches completed a single wave has no interval, so nothing about it is settled."""
    recording = recorded(APART)
    series = recording.series["slow"][Figure("delay", ONE)]
    is_last = series.wave == 3
    fields = {name: getattr(series, name)[is_last] for name in ("values", "wave", "round", "position")}
    recording.add("slow", Figure("delay", ONE), evolve(series, **fields))
    assert "slow" not in Settling(decisions(DELAY, WEIGHT)).settled_cells(recording)


def test_a_cell_whose_answers_are_wrong_settles_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results leave out a cell whose answers have nothing to do with the baseline's, however quick it is."""
    recording, near = recorded(APART | {"quick": 0.1}), recorded(APART | {"quick": 0.1, "slow": 1.01})
    answers = np.random.default_rng(4).normal(size=(50, 3))
    for cell in CELLS:
        outputs = -answers if cell == "quick" else answers
        recording.outputs[cell] = near.outputs[cell] = {"output": outputs}
    assert Settling(decisions(DELAY, WEIGHT)).settled_cells(recording) == {"quicker", "slow"}
    assert Settling(decisions(DELAY, WEIGHT)).settled_cells(near) == set()
    monkeypatch.setattr(settled, "OUTPUT_BYTES", 100)
    assert Settling(decisions(DELAY, WEIGHT)).settled_cells(recording) == {"quicker", "slow"}
    for cell in CELLS:
        near.outputs[cell] = {"output": np.concatenate([answers[:4], near.outputs[cell]["output"][4:]])}
    assert Settling(decisions(DELAY, WEIGHT)).settled_cells(near) == {"quick", "quicker", "slow"}


def test_rounds_matter_where_they_decide_who_dominates() -> None:
    """A timed axis matters if a cell may be worse in it, or if it is better in nothing else."""

    def pairs(low: float, high: float) -> Axis:
        """Return an axis in which the first of two cells is better by so much."""
        return Axis([[0.0, low], [-high, 0.0]], [[0.0, high], [-low, 0.0]], 0.02)

    smaller, same = pairs(0.5, 0.5), pairs(0.0, 0.0)
    for other, timed, is_open in (
        (smaller, pairs(-0.01, 0.10), False),
        (smaller, pairs(-0.10, 0.01), True),
        (same, pairs(-0.01, 0.10), True),
        (same, pairs(-0.01, 0.01), False),
        (pairs(-0.5, -0.5), pairs(0.03, 0.10), False),
    ):
        assert front_is_open([other, timed], [False, True]).tolist() == [is_open] * 2
        assert not front_is_open([other, timed], [False, False]).any()
    # Whether it dominates is open, but for what rounds say nothing of.
    unsure = pairs(-0.10, 0.10)
    assert not front_is_open([smaller, unsure, pairs(-0.01, 0.10)], [False, False, True]).any()
    assert front_is_open([smaller, unsure, pairs(-0.10, 0.01)], [False, False, True]).all()


def test_a_dominated_cell_does_not_care_who_else_may_dominate_it() -> None:
    """A pair is not open where one is dominated for sure, unless that one may dominate the other."""
    low = np.array([[0.0, 0.5, 0.5], [-1.5, 0.0, -0.1], [-1.5, -0.1, 0.0]])
    wide = Axis(low, -low.T, 0.0)
    assert front_is_open([wide], [True]).tolist() == [False, False, False]
    assert front_is_open([wide], [True], is_whole=False).tolist() == [False, True, True]
    assert front_is_open([wide], [True], has_more=True).tolist() == [True, False, False]
    assert pick_is_open([wide], [True]).tolist() == [False, False, False]
    assert pick_is_open([wide], [True], has_more=True).tolist() == [True, False, False]
