"""A cause is counted once, and shown in one line, however many figures show it."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from qx.comparison import RunComparison, Source, changes, compare
from qx.comparison.causes import Cause, cause_of, causes
from qx.comparison.changes import ChangeView
from qx.comparison.records import Change
from qx.contract.figures import Figure, Point
from qx.contract.records import Metric
from qx.report.terminal import MARKUP

ONE = {"fingerprint": "one"}


def rate(builders: ModuleType, **fields: Any) -> Metric:
    """Return a metric of calls a second, which derives from the calls that ``delay`` timed."""
    derived = {"name": "rate", "phase": "derived", "better": "higher", "compare": "ratio"}
    return evolve(builders.DELAY, **{**derived, "derived_from": ["delay"], **fields})


def source(run: Any, label: str, metric: Metric, **environment: Any) -> Source:
    """Return a run as it would be read from its files, with ``rate`` as one more metric."""
    run = evolve(run, metrics=(*run.metrics, metric), environment={**ONE, **environment})
    recording = run.recording()
    for series in recording.series.values():
        for size in run.batch_sizes:
            calls = series[Figure("delay", Point(size))]
            series[Figure("rate", Point(size))] = evolve(calls, values=1000 / calls.values)
    return Source(place=label, results=run.results(recording), recording=recording, label=label)


def compared(builders: ModuleType, metric: Metric, **changed: Any) -> RunComparison:
    """Compare ``quick`` before and after a change, with another torch on the same machine."""
    cells = builders.small().cells
    worse = {**cells, "quick": evolve(cells["quick"], **changed)}
    newer = {"distributions": {"torch": "2.15.0"}}
    return compare(
        [
            source(builders.small(), "base", metric),
            source(builders.small(cells=worse, seed=1), "ours", metric, **newer),
        ]
    )


def lines(comparison: RunComparison, config: str = "quick") -> list[str]:
    """Return the headlines of a config."""
    view = ChangeView(comparison)
    (cell,) = (row for row in view.cells if view.name(row) == config)
    return view.headlines(cell, "ours", MARKUP)


def test_a_slower_call_is_one_change(builders: ModuleType) -> None:
    """A slower call is one line for latency and what derives from it, with the range over batch sizes."""
    slower = compared(builders, rate(builders), delay=1.0)
    (line,) = lines(slower)
    figures = r"0\.\d+x to 0\.\d+x \(batch 1 and batch 32\)"
    assert re.fullmatch(f"delay worse {figures}, directly {figures}", line)
    assert sum(change.verdict == "worse" for change in slower.changes) == 8
    assert changes.counts(ChangeView(slower), "ours").startswith("1 worse, ")
    assert {change.cause for change in slower.changes if change.metric in ("delay", "rate")} == {"delay"}


def test_what_derives_from_nothing_is_a_change_of_its_own(builders: ModuleType) -> None:
    """A metric that does not say what it derives from is counted by itself."""
    headlines = lines(compared(builders, rate(builders, derived_from=[]), delay=0.6))
    assert [line.split()[0] for line in headlines] == ["delay", "rate"]


def test_memory_is_one_change(builders: ModuleType) -> None:
    """Memory that is more than its own baseline's and than before is one line."""
    (line,) = lines(compared(builders, rate(builders), heap=600))
    assert line.startswith("heap worse 1.50") and ", directly 1.50" in line


def test_other_answers_are_one_change(builders: ModuleType) -> None:
    """Outputs that changed and fewer right answers have one cause, which the metric that judges shows."""
    fewer = compared(builders, rate(builders), hits=700)
    assert [line.split(" [")[0] for line in lines(fewer)] == ["hits worse -15.00 pt"]
    outputs = [change for change in fewer.changes if change.metric == "outputs" and change.config == "quick"]
    assert [change.verdict for change in outputs] == ["changed"]
    few = compared(builders, rate(builders), hits=848)
    assert lines(few) == ["outputs changed 99.80 %"]


def test_a_difference_within_the_margin_is_none(builders: ModuleType) -> None:
    """A few bytes more are no change though bytes are exact, and both sides show them."""
    few = compared(builders, rate(builders), weight=260_012)
    assert lines(few) == []
    (change,) = (change for change in few.changes if (change.config, change.metric) == ("quick", "weight"))
    assert (change.verdict, change.why_same, change.beyond_margin) == ("same", "margin", False)
    assert ChangeView(few).delta(change) == "1.00005x< (+12 bytes)"
    many = compared(builders, rate(builders), weight=263_000)
    assert lines(many) == ["weight worse 1.01x"]


def test_a_cause_may_be_better_and_worse() -> None:
    """Better at one batch size and worse at another is one mixed cause, with both its changes."""
    blank = Change(
        run="ours",
        workload="toy",
        cell="toy/quick",
        config="quick",
        options={},
        threads=1,
        metric="delay",
        cause="delay",
        verdict="better",
    )
    other = evolve(blank, verdict="worse", point=Point(32))
    same = evolve(blank, verdict="same", within_margin=False)
    assert causes([blank, other, same], {}) == [Cause(verdict="mixed", changes=(blank, other))]
    assert causes([same], {}) == [Cause(verdict="same?", changes=())]
    assert causes([evolve(same, within_margin=True)], {}) == [Cause(verdict="same", changes=())]


def test_what_is_gone_is_not_hidden_by_what_is_worse() -> None:
    """A metric that is gone stays beside one that is worse, though both have their cause in the outputs."""
    worse = Change(
        run="r", workload="w", cell="w/c", config="c", options={}, threads=1, metric="hits", verdict="worse"
    )
    gone, changed = (
        evolve(worse, metric="same", verdict="gone"),
        evolve(worse, metric="outputs", verdict="changed"),
    )
    assert causes([changed, worse, gone], {}) == [Cause(verdict="worse", changes=(worse, gone))]


def test_a_circle_of_derivations_is_no_hang(builders: ModuleType) -> None:
    """Two metrics that each claim to derive from the other are counted, under one of them."""
    metrics = {
        name: rate(builders, name=name, derived_from=[parent])
        for name, parent in (("one", "other"), ("other", "one"))
    }
    assert cause_of("one", metrics) in metrics
    blank = Change(
        run="r", workload="w", cell="w/c", config="c", options={}, threads=1, metric="one", verdict="worse"
    )
    group = [blank, evolve(blank, metric="other")]
    assert causes(group, metrics) == [Cause(verdict="worse", changes=tuple(group))]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, {"interval", None}),
        ({"delay": 0.505}, {"margin"}),
    ],
)
def test_it_is_told_why_a_difference_is_none(
    builders: ModuleType, changed: dict[str, Any], why: set[str | None]
) -> None:
    """A mark, and a field in JSON, say that the interval includes no change or is within the margin."""
    comparison = compared(builders, rate(builders), **changed)
    own = [
        change
        for change in comparison.changes
        if (change.config, change.metric, change.basis) == ("quick", "delay", "own baseline")
    ]
    assert {change.why_same for change in own} <= why
    assert all(np.isfinite(change.value or np.nan) for change in own)
    for change in own:
        mark = {"interval": "?", "margin": "<"}[change.why_same or "interval"]
        assert f"x{mark} [" in ChangeView(comparison).delta(change)
