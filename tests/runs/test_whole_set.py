"""Statistics of a whole set: how they are resampled, what their intervals hold, and what comes of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from qx.analysis import whole_set
from qx.analysis.recompute import differences, recompute
from qx.comparison import Source, compare
from qx.contract.records import Context, Metric, Predictions
from qx.contract.references import reference_of
from qx.errors import QxError
from qx.gate import decide, read_rules
from qx.host.host import Host
from qx.report import markdown
from qx.results.recording import Recording, Resampled, Series
from qx.statistics import intervals as stats
from qx.worker import whole_set as resampling
from qx.worker.whole_set import MAX_COUNTS, MIN_COUNTS, SECONDS, plan_counts, samples_of_set

Write = Callable[[str, str], str]

PLUGIN = """
    import numpy as np
    from qx import Metric, Samples, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="figure", summary="A figure.", unit="fraction", better="higher", samples="per_set",
            compare="difference", phase="predictions",
        )

    @hookimpl
    def statistic(outputs, labels, indices):
        right = outputs[indices].argmax(axis=1) == labels[indices]
        {statistic}
"""
SHARE = "return right.mean()"
WORST = "return min(right[labels[indices] == label].mean() for label in set(labels[indices]))"
MEASURE = """
@hookimpl
def measure(data):
    {body}
"""


def scores(answers: Any, classes: int = 3) -> Any:
    """Outputs that are highest where the answer is."""
    return np.eye(classes, dtype=np.float32)[answers]


@pytest.fixture
def sampled(write_plugin: Write) -> Callable[..., dict[str, Any]]:
    """Have a metric with this statistic, and perhaps ``measure``, resampled."""
    hosts: dict[str, Host] = {}

    def sample(outputs: Any, labels: Any, statistic: str = SHARE, measure: str = "") -> dict[str, Any]:
        source = dedent(PLUGIN.format(statistic=statistic)) + (
            MEASURE.format(body=measure) if measure else ""
        )
        if source not in hosts:
            reference = evolve(reference_of(write_plugin("figure", source)), name="figure")
            hosts[source] = Host.of([reference])
        data = Predictions(outputs=outputs, labels=labels, classes=("a", "b", "c"))
        return samples_of_set(hosts[source], "figure", data, Context())

    return sample


def resampled(value: Callable[[Any], float], items: int, groups: int, draws: int = 0) -> Resampled:
    """A statistic of places, resampled as the worker does; its step is not tried."""
    every, places = np.arange(items), whole_set.group_of_items(items, groups)
    without = np.array([value(every[places != group]) for group in range(groups)])
    return Resampled(
        value=value(every),
        items=items,
        influence=(groups - 1) * (value(every) - without),
        draws=[value(whole_set.drawn_items(items, draw)) for draw in range(draws)],
        step=None,
    )


# Resampling ---------------------------------------------------------------------------------------


def test_groups_and_draws_go_by_the_number_of_items_alone() -> None:
    """Any two cells with as many items are resampled alike, and two groups of many make one of few."""
    groups = whole_set.group_of_items(500, 64)
    assert np.bincount(groups).tolist() == [8] * 52 + [7] * 12
    assert (whole_set.group_of_items(500, 32) == groups % 32).all()
    drawn = whole_set.drawn_items(500, 3)
    assert (drawn == whole_set.drawn_items(500, 3)).all()
    assert (drawn != whole_set.drawn_items(500, 4)).any()
    assert 280 < len(set(drawn)) < 350


def test_a_mean_moves_by_its_items(sampled: Any) -> None:
    """Of a share the influence of an item is how far it lies from the share, and a step is one item."""
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    answers = np.where(np.arange(100) < 90, labels, 0)
    told = sampled(scores(answers), labels)
    assert told["values"] == pytest.approx([0.9])
    (whole,) = told["resampled"]
    assert sorted({round(one, 9) for one in whole["influence"]}) == pytest.approx([-0.9, 0.1])
    assert whole["step"] == pytest.approx(0.01)
    assert whole["items"] == len(whole["influence"]) == 100
    assert np.std(whole["draws"], ddof=1) == pytest.approx(0.03, rel=0.15)


def test_what_takes_long_is_resampled_less() -> None:
    """A plan fits into its seconds, halved until it does, down to the fewest that serve."""
    assert plan_counts(1e-4) == MAX_COUNTS
    for seconds in (0.01, 0.03, 0.06):
        assert 0.4 * SECONDS < seconds * sum(plan_counts(seconds).values()) <= SECONDS
    assert plan_counts(10.0) == MIN_COUNTS


@pytest.mark.parametrize(
    ("statistic", "words"),
    [
        ("return (outputs.argmax(axis=1) == labels).mean()", "alone, whatever their order"),
        ("return float(right @ np.arange(len(right)))", "alone, whatever their order"),
        ("return 'good'", "statistic gave 'good', and a finite number is due"),
        ("return float('inf')", "statistic gave inf, and a finite number is due"),
    ],
)
def test_a_statistic_of_other_items_is_refused(sampled: Any, statistic: str, words: str) -> None:
    """One that does not go by the items that are named would have an interval of nothing."""
    labels = np.tile([0, 1, 2], 20)
    with pytest.raises(QxError, match=words):
        sampled(scores(np.where(np.arange(60) < 41, labels, 0)), labels, statistic)


def test_what_a_statistic_is_lent_cannot_be_spoilt(sampled: Any) -> None:
    """Outputs, labels and indices are read-only: other metrics see them too."""
    labels = np.tile([0, 1, 2], 20)
    for array in ("outputs", "labels", "indices"):
        with pytest.raises(ValueError, match="read-only"):
            sampled(scores(labels), labels, f"{array}[0] = 0; return 1.0")


def test_measure_beside_a_statistic_tells_details_and_groups(sampled: Any) -> None:
    """Its details are kept, each group is resampled by itself, and its value must be the statistic's."""
    labels = np.repeat([0, 1], [40, 20])
    outputs = scores(np.where(np.arange(60) % 10 == 0, 2, labels))
    right = "(data.outputs.argmax(axis=1) == data.labels).mean()"
    told = sampled(
        outputs, labels, measure=f"return Samples({right}, {{'k': 1}}, groups=data.labels, group_names='abc')"
    )
    assert told["details"] == {"k": 1}
    assert told["group_names"] == ["a", "b", "c"]
    whole, *groups = told["resampled"]
    assert [one["items"] for one in (whole, *groups)] == [60, 40, 20, 0]
    assert [one["value"] for one in groups[:2]] == [0.9, 0.9]
    assert sampled(outputs, labels, measure="return None") == {"values": None}
    with pytest.raises(QxError, match=r"measure gave 0.5, and statistic 0.9 for all items"):
        sampled(outputs, labels, measure="return 0.5")
    with pytest.raises(QxError, match="measure gave 3 groups, and there are 60 items"):
        sampled(outputs, labels, measure=f"return Samples({right}, groups=[0, 0, 1], group_names='ab')")


def test_a_statistic_that_gives_none_does_not_apply(sampled: Any) -> None:
    """None for all items is 'not applicable'; for some that may be left out it costs the interval."""
    labels = np.repeat([0, 1, 2], [40, 19, 1])
    assert sampled(scores(labels), labels, "return None") == {"values": None}
    told = sampled(scores(labels), labels, "return right.mean() if 2 in labels[indices] else None")
    sample = Series.plain(told).resampled[0]
    assert whole_set.estimate(sample).ci is None
    assert "no value without some of its items" in whole_set.estimate(sample).reason
    draws_lost = sampled(scores(labels), labels, "return right.mean() if len(set(indices)) > 36 else None")
    assert None in draws_lost["resampled"][0]["draws"]
    assert whole_set.estimate(Series.plain(draws_lost).resampled[0]).ci is not None


# Intervals ----------------------------------------------------------------------------------------


def test_a_share_has_the_interval_of_accuracy(sampled: Any) -> None:
    """Told as a statistic of the set, accuracies and their difference have nearly the usual intervals."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    answers = np.where(rng.random((2, 600)) < 0.9, labels, (labels + 1) % 3)
    answers[1, :560] = answers[0, :560]
    samples = [Series.plain(sampled(scores(one), labels)).resampled[0] for one in answers]
    right = [(one == labels).astype(float) for one in answers]
    for level in (0.95, 0.999):
        usual, own = stats.item_mean(right[0], level), whole_set.estimate(samples[0], level)
        assert own.value == pytest.approx(usual.value)
        # What is not known to be of 0 and 1 has the longer side for skewness, and pseudo-items.
        assert 1 <= np.diff(own.ci)[0] / np.diff(usual.ci)[0] < 1.3
        expected = stats.paired_difference(right[0], right[1], level)
        found = whole_set.compare(samples[0], samples[1], "difference", level)
        assert found.value == pytest.approx(expected.value)
        assert np.diff(found.ci)[0] == pytest.approx(np.diff(expected.ci)[0], rel=0.2)
    assert found.p == pytest.approx(expected.p, abs=0.1)
    assert "600 items" in found.method and "512 bootstrap draws" in found.method


@pytest.mark.parametrize("statistic", [SHARE, WORST])
@pytest.mark.parametrize("changed", [1, 5])
def test_intervals_hold_the_truth_where_few_answers_change(
    sampled: Any, monkeypatch: pytest.MonkeyPatch, statistic: str, changed: int
) -> None:
    """With one or five of 150 answers expected to be lost, 93 % of intervals hold what sets give on average.

    The intervals that a bootstrap gives by itself hold it in 63 % where one is expected: in all other sets
    nothing is seen to change.
    """
    monkeypatch.setattr(resampling, "MAX_COUNTS", {"groups": 2048, "draws": 40, "probes": 40})
    rng, found = np.random.default_rng(changed), []
    for _ in range(60):
        labels = np.repeat([0, 1], [120, 30])
        right = rng.random(150) < 0.9
        lost = right & (rng.random(150) < changed / 150 / 0.9)
        pair = [
            Series.plain(sampled(scores(np.where(hits, labels, 2)), labels, statistic)).resampled[0]
            for hits in (right & ~lost, right)
        ]
        found.append(whole_set.compare(*pair, "difference"))
    truth = np.mean([one.value for one in found])
    held = np.mean([one.ci[0] <= truth <= one.ci[1] for one in found])
    assert held >= 0.93


def test_groups_of_items_serve_where_items_are_too_many() -> None:
    """64 groups of 3,200 items give nearly the error that all items give; a pair takes the coarser of two."""
    rng = np.random.default_rng(1)
    values, noise = rng.standard_normal((2, 3200))
    of_all, of_few = (resampled(lambda places: values[places].mean(), 3200, groups) for groups in (3200, 64))
    width = [np.diff(whole_set.estimate(one).ci)[0] for one in (of_all, of_few)]
    assert width[1] == pytest.approx(width[0], rel=0.3)
    other = resampled(lambda places: (values + 0.1 * noise)[places].mean(), 3200, 64)
    difference = whole_set.compare(of_all, other, "difference")
    assert difference.ci == pytest.approx(whole_set.compare(of_few, other, "difference").ci)
    assert "64 groups of 3,200 items" in difference.method
    assert np.diff(difference.ci)[0] == pytest.approx(4 * 0.1 / np.sqrt(3200), rel=0.3)


def test_a_median_goes_by_its_draws() -> None:
    """Influences of single items know too little of a median: the bootstrap's spread is its error."""
    rng, held = np.random.default_rng(2), 0
    for _ in range(200):
        values = rng.exponential(size=101)
        sample = resampled(lambda places, of=values: float(np.median(of[places])), 101, 101, draws=60)
        low, high = whole_set.estimate(sample).ci
        held += low <= np.log(2) <= high
    assert held >= 0.93 * 200


def test_a_ratio_is_on_the_scale_of_logs() -> None:
    """The ratio of two statistics is told with an interval around it; a speedup is its inverse."""
    values = np.random.default_rng(3).exponential(size=400)
    ours, theirs = (
        resampled(lambda places, by=by: by * values[places].mean(), 400, 400, draws=40) for by in (3.0, 2.0)
    )
    ratio, speedup = (whole_set.compare(ours, theirs, kind) for kind in ("ratio", "speedup"))
    assert ratio.value == pytest.approx(1.5) and speedup.value == pytest.approx(1 / 1.5)
    assert ratio.ci[0] <= 1.5 <= ratio.ci[1]
    assert speedup.ci == pytest.approx((1 / ratio.ci[1], 1 / ratio.ci[0]))


def test_all_pairs_are_the_pairs_one_by_one() -> None:
    """For the front: the intervals of all pairs, and NaN where one of them has none."""
    values = np.random.default_rng(4).normal(1, 0.3, (3, 90))
    samples = [
        resampled(lambda places, row=row: float(np.exp(row[places].mean())), 90, 90, draws=40)
        for row in values
    ]
    for relative, kind in ((False, "difference"), (True, "ratio")):
        low, high = whole_set.pairwise(samples, relative=relative)
        for ours, theirs in np.ndindex(3, 3):
            expected = np.array(whole_set.compare(samples[ours], samples[theirs], kind).ci)
            expected = np.log(expected) if relative else expected
            assert (low[ours, theirs], high[ours, theirs]) == pytest.approx(tuple(expected))
    low, _ = whole_set.pairwise([*samples[:2], evolve(samples[2], reason="no")], relative=False)
    assert np.isnan(low).tolist() == [[False, False, True]] * 2 + [[True] * 3]


def test_sets_of_other_items_are_not_compared() -> None:
    """There is no pair to make of 90 items and 80."""
    first, second = (resampled(lambda places: float(len(places)), items, items) for items in (90, 80))
    with pytest.raises(ValueError, match="the same items, not 90 and 80"):
        whole_set.compare(first, second, "difference")


# In a run -----------------------------------------------------------------------------------------

METRIC = Metric(
    name="figure",
    summary="A figure.",
    unit="fraction",
    better="higher",
    samples="per_set",
    compare="difference",
    phase="predictions",
    margin=0.05,
    axis=True,
    pick="the best figure",
)
BARE = evolve(METRIC, samples="exact", axis=False, pick=None)


def run_of(builders: ModuleType, metric: Metric, right: dict[str, Sequence[int]], seed: int = 0) -> Source:
    """A run in which the baseline and configs are wrong about these of 100 items, by this metric alone."""
    run = builders.Run(
        cells={name: builders.Cell() for name in right if name != "base"}, metrics=(metric,), control=None
    )
    recording = Recording()
    for name, wrong in right.items():
        hits = np.ones(100)
        hits[list(wrong)] = 0
        sample = evolve(resampled(lambda places, of=hits: of[places].mean(), 100, 100, 60), step=0.01)
        series = {"values": [hits.mean()]}
        one = Series.plain(series)
        one = evolve(one, resampled=(sample,)) if metric.samples == "per_set" else one
        recording.add(f"toy/{name}", ("figure", None), one)
        recording.outputs[f"toy/{name}"] = np.stack([hits, 1 - hits], axis=1) * (1 + seed)
    return Source(place="run", results=run.results(recording), recording=recording, label=f"run {seed}")


def figure(source: Source, name: str) -> Any:
    (one,) = (one for one in source.results.measurements if one.cell == f"toy/{name}")
    return one


def test_a_run_tells_value_interval_and_clear(builders: ModuleType) -> None:
    """One more wrong answer of 100 is not clear, thirty are; how it was resampled stands in the details."""
    right = {"base": (0, 1), "slightly": (0, 1, 2), "much": range(32)}
    source = run_of(builders, METRIC, right)
    base, slightly, much = (figure(source, name) for name in right)
    assert base.value == 0.98 and base.ci[0] < 0.98 < base.ci[1] <= 1.0
    assert [one.vs_baseline.clear for one in (base, slightly, much)] == [False, False, True]
    assert slightly.vs_baseline.value == pytest.approx(-0.01)
    assert (base.n, base.details["resampled"]["groups"], base.details["resampled"]["draws"]) == (100, 100, 60)
    assert source.results.front["toy/base"].dominated_by == ()
    assert source.results.front["toy/much"].dominated_by
    (pick,) = source.results.picks
    assert (pick.cell, pick.tied_with) == ("toy/base", ("toy/slightly",))


def test_figures_are_computed_again_from_the_samples(builders: ModuleType, tmp_path: Path) -> None:
    """Written and read, what was resampled gives the same results, without the plugin."""
    source = run_of(builders, METRIC, {"base": (0, 1), "ours": (0, 1, 2)})
    place = tmp_path / "samples.npz"
    assert source.recording is not None
    place.write_bytes(source.recording.to_bytes())
    read = Recording.read(place)
    assert differences(recompute(source.results, read), source.results) == []


def test_of_a_group_value_and_difference_are_told(builders: ModuleType) -> None:
    """As of samples per item: each group with its interval, and its difference corrected for all of them."""
    source = run_of(builders, METRIC, {"base": (0, 1), "ours": range(30)})
    recording = source.recording
    assert recording is not None
    for series in recording.series.values():
        one = series["figure", None]
        parts = [evolve(one.resampled[0], items=100), evolve(one.resampled[0], items=0)]
        series["figure", None] = evolve(one, resampled=(one.resampled[0], *parts), group_names=("x", "y"))
    groups = {one.cell: one.details["groups"] for one in recompute(source.results, recording).measurements}
    assert list(groups["toy/ours"]) == ["x"]
    compared = groups["toy/ours"]["x"]["vs_baseline"]
    assert (compared["level"], compared["value"]) == (0.975, pytest.approx(-0.28))
    assert compared["ci"][1] < 0 and compared["p_adjusted"] == compared["p"] < 0.001
    assert "vs_baseline" not in groups["toy/base"]["x"]


def ruling(source: Source, rule: str, base: Source | None = None) -> list[tuple[str, str]]:
    Path("rules.toml").write_text(f'[[rule]]\nmetric = "figure"\n{rule}\n')
    decided = decide(read_rules(Path("rules.toml")), source, base)
    return [(one.verdict, one.line) for one in decided.decisions]


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ("smallest = 0.995", "too wide"),
        ("largest_drop = 0.0001", "too wide"),
        ("largest_drop = 0.15", "met"),
        ("smallest = 0.8", "met"),
    ],
)
def test_a_gate_tells_no_breach_of_an_answer_or_two(builders: ModuleType, rule: str, verdict: str) -> None:
    """98 right of 100 do not show that fewer than 99.5 % are, nor one answer less that answers are lost."""
    source = run_of(builders, METRIC, {"base": (0,), "ours": (0, 1)})
    assert [one for one, _ in ruling(source, rule)] == [verdict]


def test_a_gate_tells_what_is_shown(builders: ModuleType) -> None:
    """Thirty answers less of 100 are a breach, in the run and against another one."""
    source = run_of(builders, METRIC, {"base": (0,), "ours": range(31)})
    before = run_of(builders, METRIC, {"base": (0,), "ours": (0,)}, seed=1)
    assert ruling(source, "largest_drop = 0.05")[0][0] == "breached"
    assert ruling(source, 'against = "base"\nlargest_drop = 0.05', before)[0][0] == "breached"
    assert ruling(before, 'against = "base"\nlargest_drop = 0', before)[0][0] == "met"


def test_runs_are_compared_on_the_same_items(builders: ModuleType) -> None:
    """A change of thirty answers is worse, one of one answer the same, and none is none at all."""
    base = run_of(builders, METRIC, {"base": (0,), "a": (0,), "b": (0,), "c": (0, 1)})
    ours = run_of(builders, METRIC, {"base": (0,), "a": range(31), "b": (0, 1), "c": (0, 1)}, seed=1)
    told = {one.config: one for one in compare([base, ours]).changes if one.metric == "figure"}
    assert {name: one.verdict for name, one in told.items()} == {
        "base": "same",
        "a": "worse",
        "b": "same",
        "c": "same",
    }
    assert {one.basis for one in told.values()} == {"items"}
    assert told["c"].ci == (0.0, 0.0)
    assert told["b"].ci[0] < -0.01 < told["b"].ci[1]


def test_the_metrics_of_the_tutorial_tell_no_breach_of_one_answer(
    builders: ModuleType, write_plugin: Write
) -> None:
    """Calibration error and the worst class as the tutorial has them: 49 right of 50 show no breach."""
    text = (Path(__file__).parents[2] / "docs" / "tutorial-metric.md").read_text()
    blocks = re.findall(r"(?:^    .*\n|^\n)+", text, re.MULTILINE)
    sources = [dedent(block) for block in blocks if re.match(r"\n*    # \w+\.py\n", block)]
    paths = [write_plugin(f"taught{index}", source) for index, source in enumerate(sources)]
    found = Host.discover(paths)
    references = [found.get("metric", name).reference for name in ("worst_class", "calibration_error")]
    host = Host.of([reference for reference in references if reference is not None])
    rng, labels = np.random.default_rng(5), np.repeat(np.arange(10), 50)
    outputs = 8 * np.eye(10)[labels] + rng.standard_normal((500, 10))
    outputs[0] = outputs[60]
    data = Predictions(outputs=outputs, labels=labels, classes=tuple("abcdefghij"))
    values = {}
    for name, limit in (("worst_class", "smallest = 0.995"), ("calibration_error", "largest = 0.0001")):
        entry = host.get("metric", name)
        assert isinstance(entry.record, Metric)
        context = Context(options={option.name: option.default for option in entry.record.options})
        given = samples_of_set(host, name, data, context)
        values[name] = given["values"][0]
        recording = Recording()
        recording.add("toy/base", ("figure", None), Series.plain(given))
        metric = evolve(entry.record, name="figure")
        run = builders.Run(cells={}, metrics=(metric,), control=None)
        source = Source(place="run", results=run.results(recording), recording=recording, label="run")
        assert ruling(source, f'config = "base"\n{limit}')[0][0] == "too wide"
    assert values["worst_class"] == 0.98 and 0.001 < values["calibration_error"] < 0.01


# One value of all items ---------------------------------------------------------------------------


def test_one_value_of_all_items_has_no_interval(builders: ModuleType) -> None:
    """A metric of contract 1.0 that calls F1 exact has its value, and nothing is clear of it."""
    source = run_of(builders, BARE, {"base": (0,), "ours": range(40)})
    one = figure(source, "ours")
    assert (one.value, one.ci, one.vs_baseline.ci, one.vs_baseline.clear) == (0.6, None, None, None)
    assert "implement 'statistic'" in one.without_interval
    assert one.vs_baseline.method == f"no interval: {one.without_interval}"


def test_no_verdict_comes_of_one_value(builders: ModuleType) -> None:
    """It is too wide for the gate and not to be compared, with what to do; on the front it shows nothing."""
    source = run_of(builders, evolve(BARE, axis=True), {"base": (0,), "ours": range(40)})
    before = run_of(builders, BARE, {"base": (0,), "ours": (0,)}, seed=1)
    for rule, base in (
        ("smallest = 0.9", None),
        ("largest_drop = 0.1", None),
        ('against = "base"\nlargest_drop = 0.1', before),
    ):
        ((verdict, line),) = ruling(source, rule, base)
        assert verdict == "too wide"
        assert "implement 'statistic'" in line
        ((verdict, _),) = ruling(evolve(source, recording=None), rule, base)
        assert verdict == "too wide"
    (change,) = (
        one for one in compare([before, source]).changes if (one.config, one.metric) == ("ours", "figure")
    )
    assert change.verdict == "not comparable" and "implement 'statistic'" in change.reason
    assert all(one.on_front for one in source.results.front.values())


def test_one_value_of_the_same_outputs_is_the_same(builders: ModuleType) -> None:
    """Where every output is bit for bit what it was, no statistic of them can differ."""
    source = run_of(builders, BARE, {"base": (0,), "ours": (0,)})
    assert figure(source, "ours").vs_baseline.ci == (0.0, 0.0)
    assert ruling(source, "largest_drop = 0")[0][0] == "met"
    assert ruling(source, 'against = "base"\nlargest_drop = 0', source)[0][0] == "met"
    assert {one.verdict for one in compare([source, source]).changes} == {"same"}


@pytest.mark.parametrize(("exact", "clear"), [(True, True), (False, None)])
def test_one_derived_value_is_exact_where_all_is_that_it_comes_from(
    builders: ModuleType, exact: bool, clear: bool | None
) -> None:
    """A ratio of file sizes is exact, one of latencies has an error that one value does not tell."""
    derived = evolve(BARE, phase="derived")
    source = run_of(builders, derived, {"base": (0,), "ours": range(40)})
    assert source.recording is not None
    for series in source.recording.series.values():
        series["figure", None] = evolve(series["figure", None], exact=exact)
    source = evolve(source, results=recompute(source.results, source.recording))
    one = figure(source, "ours")
    assert one.vs_baseline.clear is clear
    assert (one.ci == (0.6, 0.6)) is exact
    for recording in (source.recording, None):
        verdict = ruling(evolve(source, recording=recording), "smallest = 0.9")[0][0]
        assert verdict == ("breached" if exact else "too wide")


def test_no_pick_is_made_by_one_value(builders: ModuleType) -> None:
    """Where a metric without intervals has an aim, the report says why nothing is picked by it."""
    axis = evolve(BARE, axis=True, pick="the best figure")
    source = run_of(builders, axis, {"base": (0,), "ours": range(40)})
    page = markdown.render(source.results)
    assert source.results.picks == ()
    assert "No pick" in page and "implement 'statistic'" in " ".join(page.split())
