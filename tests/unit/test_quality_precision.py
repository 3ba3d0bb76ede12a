"""How well the quality of configs is to be known: reading it, saying what came of it, and its intervals."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from attrs import evolve

from benchmarks.narrow import ACCURACY, KINDS, LOSS, TRUTHS, Kind, answers, half_width, series, simulate
from qx.analysis import on_items
from qx.api.run import _quality_precision
from qx.contract.figures import Figure
from qx.errors import UsageError
from qx.processes.time_limit import TimeLimit
from qx.results.quality_precision import read_quality_precision, words_of
from qx.results.recording import Recording
from qx.results.run_record import ItemLooks
from qx.runner.item_looks import Pace, has_no_time, looks_of_earlier_sittings, seconds_of
from qx.runner.journal import Entry, ItemLookRecord, Journal
from qx.statistics import over_items
from qx.worker.arrays import Split, fair_order
from qx.worker.output_files import PREDICTIONS

LOOKS = ItemLooks(
    precision="0.2pt", metric="accuracy", planned=(2500, 5000, 10_000), items=2500, is_reached=True
)


@pytest.mark.parametrize(
    ("text", "metric", "expected"),
    [
        ("0.2pt", ACCURACY, 0.002),
        (" 1 points ", ACCURACY, 0.01),
        ("1\tpt", ACCURACY, 0.01),
        ("0.2pt", evolve(ACCURACY, unit="points"), 0.2),
        ("0.01", evolve(ACCURACY, unit="", name="r2"), 0.01),
        (".5", LOSS, 0.5),
    ],
)
def test_a_precision_is_read_in_the_unit_of_the_metric(text: str, metric: object, expected: float) -> None:
    """Points of shares, plain numbers of everything else."""
    precision = read_quality_precision(text)
    assert precision is not None
    assert precision.text == "".join(text.split())
    assert precision.half_width(metric) == pytest.approx(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.2%", "expected points of a share, such as 0.2pt, or a number"),
        ("-1pt", "it must be above 0"),
        ("0", "it must be above 0"),
        ("pt", "expected points"),
        ("nan", "expected points"),
        ("", "expected points"),
    ],
)
def test_other_words_are_one_line_with_the_forms(text: str, words: str) -> None:
    """The line quotes what was written."""
    with pytest.raises(UsageError, match=words) as raised:
        read_quality_precision(text)
    assert str(raised.value).startswith(f"--quality-precision {text}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "metric", "words"),
    [
        ("0.01", ACCURACY, "accuracy judges the answers, in fraction, .* expected points, such as 0.2pt"),
        ("0.2pt", LOSS, "loss judges the answers, in no unit, and is compared by ratio: expected a number"),
    ],
)
def test_a_unit_of_another_metric_is_refused(text: str, metric: object, words: str) -> None:
    """The line names the metric and what its precision looks like."""
    precision = read_quality_precision(text)
    assert precision is not None
    with pytest.raises(UsageError, match=words):
        precision.half_width(metric)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"seconds_saved": 33.7},
            "stopped after 2,500 of 10,000 items: accuracy of every config is known against the baseline to "
            "within 0.2pt; that saved 75 % of the items, about 34 s of evaluation",
        ),
        (
            {"items": 10_000},
            "stopped after all 10,000 items: accuracy of every config is known against the baseline to "
            "within 0.2pt",
        ),
        (
            {"items": 10_000, "is_reached": False, "widest": 0.0031},
            "0.2pt is not reached with all 10,000 items: accuracy of int8 is known against the baseline to "
            "within 0.31pt; at most about 25,000 items would be needed",
        ),
        (
            {"is_reached": False, "widest": 0.004, "is_out_of_time": True},
            "0.2pt is not reached with 2,500 of 10,000 items, which is what the time was enough for: "
            "accuracy of int8 is known against the baseline to within 0.4pt; at most about 10,000 items "
            "would be needed",
        ),
        (
            {"items": 10_000, "is_reached": False},
            "0.2pt is not reached with all 10,000 items: accuracy of int8 has no interval against the "
            "baseline",
        ),
    ],
)
def test_reports_say_when_the_evaluation_ended_and_what_that_saved(
    changes: dict[str, object], expected: str
) -> None:
    """Of how many items, why, and what is missing."""
    assert words_of(evolve(LOOKS, **changes), ACCURACY, "int8") == expected


def test_every_beginning_of_the_order_is_a_fair_sample() -> None:
    """Each class has its share to within an item, each item comes once, and the order is always the same."""
    generator = np.random.default_rng(0)
    labels = generator.choice(4, size=997, p=[0.7, 0.2, 0.09, 0.01])
    order = fair_order(labels, 997)
    assert sorted(order) == list(range(997))
    np.testing.assert_array_equal(order, fair_order(labels, 997))
    for count in (1, 10, 100, 400, 996):
        shares = np.bincount(labels[order[:count]], minlength=4)
        np.testing.assert_array_less(np.abs(shares - count * np.bincount(labels) / 997), 1.0001)
    assert np.corrcoef(order, np.arange(997))[0, 1] < 0.2, "not the order of the data"
    assert sorted(fair_order(None, 30)) == list(range(30))


def test_items_in_another_order_are_read_when_they_are_asked_for() -> None:
    """Inputs may be objects that only give arrays when they are indexed."""

    class Lazy:
        asked = 0

        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: object) -> np.ndarray:
            self.asked += 1
            return np.arange(6)[index] * 10  # type: ignore[index]

    lazy = Lazy()
    split = Split({"x": lazy}, {"labels": np.arange(6)}, (), "made up").reordered(
        np.array([5, 0, 3, 1, 2, 4])
    )
    assert lazy.asked == 0
    assert (len(split), list(split.targets["labels"])) == (6, [5, 0, 3, 1, 2, 4])
    first = split.first(3)
    assert (len(first), list(first.rows(1, 3)["x"]), list(first.targets["labels"])) == (3, [0, 30], [5, 0, 3])


def test_samples_say_that_widths_decided_their_number() -> None:
    """They are written and read with it, and every interval of them is at the level of a look."""
    generator = np.random.default_rng(0)
    base, ours = (generator.random((2, 400)) < [[0.9], [0.8]]).astype(float)
    recording = Recording()
    recording.add("int8", Figure("accuracy"), series(ours, looked=True))
    recording.add("fp32", Figure("accuracy"), series(base))
    read = Recording.from_bytes(recording.to_bytes())
    own, other = (read.series[cell][Figure("accuracy")] for cell in ("int8", "fp32"))
    assert (own.looked, other.looked) == (True, False)
    level = 1 - 0.05 * 2 / 3
    compared = on_items.compare(ACCURACY, own, other)
    plain = over_items.paired_difference(ours, base, level)
    assert compared is not None
    assert compared.ci == plain.ci
    assert compared.p == pytest.approx(1.5 * plain.p)
    assert on_items.estimate(ACCURACY, own).ci == over_items.item_mean(ours, level).ci
    low, high = on_items.pairwise(ACCURACY, [own, other])
    assert (low[0, 1], high[0, 1]) == pytest.approx(plain.ci)


@pytest.mark.parametrize("changed", [1, 10, 50])
@pytest.mark.parametrize("losing", [1.0, 0.5])
def test_intervals_hold_the_truth_although_their_widths_end_the_evaluation(
    changed: int, losing: float
) -> None:
    """In 93 of 100 sets or more at every precision; and evaluation does end early."""
    outcomes = simulate(Kind(ACCURACY, answers(losing)), changed, (1.5, 2.0, 3.25), 250, looked=True)
    assert min(outcome.covered for outcome in outcomes.values()) >= 0.93
    assert outcomes[3.25].items < 6000


def test_plain_intervals_would_hold_it_less_often() -> None:
    """Where all changed answers are lost, fewer of them make an interval narrower, and end the evaluation."""
    lost = Kind(ACCURACY, answers(1.0))
    plain = simulate(lost, 50, (3.0, 3.25), 1500, looked=False)
    assert min(outcome.covered for outcome in plain.values()) < 0.935
    looked = simulate(lost, 50, (3.0, 3.25), 500, looked=True)
    assert min(outcome.covered for outcome in looked.values()) >= 0.95


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_metric_has_an_interval_at_each_look(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of means, ratios of means and statistics of the whole set it becomes narrower with more items."""
    # The truth takes long to simulate, and is not needed here.
    monkeypatch.setitem(TRUTHS, 200, 0.0)
    first, _ = KINDS[name].draw(np.random.default_rng(0), 200)
    widths = [half_width(KINDS[name].metric, first, count, looked=True)[0] for count in (700, 2500, 10_000)]
    assert widths[0] > widths[1] > widths[2] > 0


def test_what_is_saved_follows_from_the_pace_of_the_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a process needs until its first prediction, and after its last, is no part of it."""
    clock = iter([0.0, 10.0, 11.0, 14.0, 100.0])
    monkeypatch.setattr("qx.runner.item_looks.time.monotonic", lambda: next(clock))
    pace = Pace()
    next(clock)
    for items in (100, 200, 500):
        pace.note(items, PREDICTIONS)
    pace.note(500, "answers")
    assert pace.seconds_an_item == pytest.approx(0.01)
    assert seconds_of([pace, pace], 1000, side_by_side=2) == pytest.approx(10.0)
    assert seconds_of([pace, Pace()], 1000, side_by_side=2) is None


@pytest.mark.parametrize(
    ("left", "items", "expected"), [(100.0, 1000, False), (19.0, 1000, True), (19.0, 4000, False)]
)
def test_a_look_that_the_time_is_too_short_for_is_not_begun(left: float, items: int, expected: bool) -> None:
    """The next 1,000 items would take twice as long as these 500; behind the last look there is none."""
    limit = TimeLimit(seconds=None)
    limit.end = time.monotonic() + left
    assert has_no_time(limit, (500, 1000, 2000, 4000), items, seconds=10.0) is expected


@pytest.mark.parametrize(("content", "expected"), [("same", {2500: LOOKS}), ("another", {})])
def test_looks_at_a_build_that_was_not_made_again_are_not_used(content: str, expected: object) -> None:
    """Where the cache has lost a build and another came out, its items are looked at anew."""
    record = ItemLookRecord(workload="net", looks=LOOKS, builds={"net/fp32": "same", "net/int8": "same"})
    journal = Journal(earlier=(Entry(record, Recording(), 0, 1.0),))
    builds = {"net/fp32": "same", "net/int8": content, "net/failed_before": "any"}
    contents = {cell: SimpleNamespace(content=own) for cell, own in builds.items()}
    workload_run = SimpleNamespace(name="net", successful_builds=lambda: contents)
    run: Any = SimpleNamespace(journal=journal)
    assert looks_of_earlier_sittings(run, cast(Any, workload_run)) == expected


@pytest.mark.parametrize(("value", "text"), [(1e-5, "0.00001"), (2, "2"), (0.5, "0.5"), ("0.2pt", "0.2pt")])
def test_a_number_of_python_is_an_amount(value: str | float, text: str) -> None:
    """``qx.run(quality_precision=...)`` takes small numbers too, which Python writes with an exponent."""
    precision = _quality_precision(value)
    assert precision is not None
    assert precision.text == text
