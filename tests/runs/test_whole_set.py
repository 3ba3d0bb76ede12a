"""Statistics of a whole set: how they are resampled, what their intervals cover, and how they are used."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import dedent
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from qx.analysis import whole_set
from qx.analysis.recompute import differences, recompute
from qx.comparison import Source, compare
from qx.contract.figures import Figure
from qx.contract.records import OUTPUT, Context, Metric, Predictions
from qx.contract.references import reference_of
from qx.errors import QxError
from qx.gate import decide, read_rules
from qx.host.host import Host
from qx.processes.answers import PlainSamples
from qx.report import markdown
from qx.results.recording import Recording, Resampled, Series
from qx.statistics import over_items
from qx.worker import whole_set as resampling
from qx.worker.plugins import BoundPlugin
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
    def statistic(outputs, targets, indices):
        scores, labels = next(iter(outputs.values())), targets.get("labels")
        right = labels is not None and scores[indices].argmax(axis=1) == labels[indices]
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
    """Return outputs ``[items, classes]`` whose highest value is at the answer."""
    return np.eye(classes, dtype=np.float32)[answers]


@pytest.fixture
def sampled(write_plugin: Write) -> Callable[..., PlainSamples | None]:
    """Resample a metric with this statistic, and with ``measure`` where there is a body for it."""
    hosts: dict[str, Host] = {}

    def sample(outputs: Any, labels: Any, statistic: str = SHARE, measure: str = "") -> PlainSamples | None:
        source = dedent(PLUGIN.format(statistic=statistic)) + (
            MEASURE.format(body=measure) if measure else ""
        )
        if source not in hosts:
            reference = evolve(reference_of(write_plugin("figure", source)), name="figure")
            hosts[source] = Host.of([reference])
        named = outputs if isinstance(outputs, dict) else {"output": outputs}
        targets = {} if labels is None else {"labels": labels}
        data = Predictions(outputs=named, targets=targets, classes=("a", "b", "c"))
        return samples_of_set(BoundPlugin(hosts[source], "figure", Context()), data)

    return sample


def resampled(value: Callable[[Any], float], items: int, groups: int, draws: int = 0) -> Resampled:
    """Resample a statistic of item indices as the worker does, without trying its step."""
    all_items, groups_of_items = np.arange(items), whole_set.group_of_items(items, groups)
    leaving_out = np.array([value(all_items[groups_of_items != group]) for group in range(groups)])
    return Resampled(
        value=value(all_items),
        items=items,
        influence=(groups - 1) * (value(all_items) - leaving_out),
        draws=[value(whole_set.drawn_items(items, draw)) for draw in range(draws)],
        step=None,
    )


# Resampling ---------------------------------------------------------------------------------------


def test_groups_and_draws_depend_on_the_number_of_items_alone() -> None:
    """Cells with as many items have the same groups and draws, and fine groups merge into coarse ones."""
    groups = whole_set.group_of_items(500, 64)
    assert np.bincount(groups).tolist() == [8] * 52 + [7] * 12
    assert (whole_set.group_of_items(500, 32) == groups % 32).all()
    drawn = whole_set.drawn_items(500, 3)
    assert (drawn == whole_set.drawn_items(500, 3)).all()
    assert (drawn != whole_set.drawn_items(500, 4)).any()
    assert 280 < len(set(drawn)) < 350


def test_a_mean_moves_by_its_items(sampled: Any) -> None:
    """For a share the influence of an item is its distance from the share, and the step is one item."""
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    answers = np.where(np.arange(100) < 90, labels, 0)
    samples = sampled(scores(answers), labels)
    assert samples.values == pytest.approx([0.9])
    (sample,) = samples.resampled
    assert sorted({round(influence, 9) for influence in sample.influence}) == pytest.approx([-0.9, 0.1])
    assert sample.step == pytest.approx(0.01)
    assert sample.items == len(sample.influence) == 100
    assert np.std(sample.draws, ddof=1) == pytest.approx(0.03, rel=0.15)


def test_a_slow_statistic_is_resampled_less() -> None:
    """A plan is halved until it fits into its seconds, down to the fewest draws that suffice."""
    assert plan_counts(1e-4) == MAX_COUNTS
    for seconds in (0.01, 0.03, 0.06):
        assert 0.4 * SECONDS < seconds * sum(plan_counts(seconds).values()) <= SECONDS
    assert plan_counts(10.0) == MIN_COUNTS


def test_a_busy_moment_costs_no_draws(sampled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first timed calls take long, and the next one does not, all draws are made."""
    times = iter([0.0, 1.0, 1.0, 1.001])
    monkeypatch.setattr(resampling, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    (sample,) = sampled(scores(labels), labels).resampled
    assert len(sample.draws) == MAX_COUNTS["draws"]


@pytest.mark.parametrize(
    ("statistic", "words"),
    [
        (
            "return (scores.argmax(axis=1) == labels).mean()",
            "in any order",
        ),
        (
            "return float(right @ np.arange(len(right)))",
            "in any order",
        ),
        ("return 'good'", "statistic gave 'good', expected a finite number"),
        ("return float('inf')", "statistic gave inf, expected a finite number"),
    ],
)
def test_a_statistic_of_other_items_is_refused(sampled: Any, statistic: str, words: str) -> None:
    """A statistic that does not depend on the given indices alone, or is no number, is refused."""
    labels = np.tile([0, 1, 2], 20)
    with pytest.raises(QxError, match=words):
        sampled(scores(np.where(np.arange(60) < 41, labels, 0)), labels, statistic)


def test_a_statistic_cannot_change_its_arguments(sampled: Any) -> None:
    """Outputs, labels and indices are read-only, since other metrics use them too."""
    labels = np.tile([0, 1, 2], 20)
    for array in ("scores", "labels", "indices"):
        with pytest.raises(ValueError, match="read-only"):
            sampled(scores(labels), labels, f"{array}[0] = 0; return 1.0")
    for mapping in ("outputs", "targets"):
        with pytest.raises(TypeError, match="does not support item assignment"):
            sampled(scores(labels), labels, f"{mapping}['more'] = scores; return 1.0")


def test_a_step_is_tried_where_the_only_output_is_scores(sampled: Any) -> None:
    """A changed answer is tried with a single output and labels, and not with several outputs or without."""
    labels = np.tile([0, 1, 2], 20)
    answers = scores(np.where(np.arange(60) < 41, labels, 0))
    two = {"first": answers, "second": np.zeros((60, 4))}
    steps = [sampled(outputs, labels).resampled[0].step for outputs in (answers, two)]
    assert steps[0] == pytest.approx(1 / 60)
    assert steps[1] is None
    unlabelled = sampled(answers, None, "return float(scores[indices].max(axis=1).mean())")
    assert unlabelled.resampled[0].step is None


def test_a_statistic_may_be_of_several_outputs(sampled: Any) -> None:
    """All outputs and targets are given by name, and resampled by the same items."""
    labels = np.tile([0, 1], 30)
    outputs = {"scores": scores(labels), "boxes": np.arange(60.0).reshape(60, 1)}
    samples = sampled(outputs, labels, "return float(outputs['boxes'][indices].mean())")
    assert samples.values == [29.5]
    assert len(samples.resampled[0].influence) == 60


def test_measure_beside_a_statistic_gives_details_and_groups(sampled: Any) -> None:
    """The details of ``measure`` are kept, each group is resampled, and its value must be the statistic's."""
    labels = np.repeat([0, 1], [40, 20])
    outputs = scores(np.where(np.arange(60) % 10 == 0, 2, labels))
    right = "(data.outputs['output'].argmax(axis=1) == data.targets['labels']).mean()"
    groups = "groups=data.targets['labels'], group_names='abc'"
    samples = sampled(outputs, labels, measure=f"return Samples({right}, {{'k': 1}}, {groups})")
    assert samples.details == {"k": 1}
    assert samples.group_names == ("a", "b", "c")
    whole_set_sample, *by_group = samples.resampled
    assert [sample.items for sample in (whole_set_sample, *by_group)] == [60, 40, 20, 0]
    assert [sample.value for sample in by_group[:2]] == [0.9, 0.9]
    assert sampled(outputs, labels, measure="return None") is None
    with pytest.raises(QxError, match=r"measure gave 0.5, but statistic 0.9 for all items"):
        sampled(outputs, labels, measure="return 0.5")
    with pytest.raises(QxError, match="measure gave 3 groups, and there are 60 items"):
        sampled(outputs, labels, measure=f"return Samples({right}, groups=[0, 0, 1], group_names='ab')")


def test_a_statistic_that_gives_none_does_not_apply(sampled: Any) -> None:
    """None for all items is 'not applicable', and None without some of the items costs the interval."""
    labels = np.repeat([0, 1, 2], [40, 19, 1])
    assert sampled(scores(labels), labels, "return None") is None
    samples = sampled(scores(labels), labels, "return right.mean() if 2 in labels[indices] else None")
    sample = Series.plain(samples).resampled[0]
    assert whole_set.estimate(sample).ci is None
    assert "no value without some of its items" in whole_set.estimate(sample).reason
    draws_lost = sampled(scores(labels), labels, "return right.mean() if len(set(indices)) > 36 else None")
    assert None in draws_lost.resampled[0].draws
    assert whole_set.estimate(Series.plain(draws_lost).resampled[0]).ci is not None


# Intervals ----------------------------------------------------------------------------------------


def test_a_share_has_the_interval_of_accuracy(sampled: Any) -> None:
    """As statistics of the set, accuracies and their difference have nearly the usual intervals."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    answers = np.where(rng.random((2, 600)) < 0.9, labels, (labels + 1) % 3)
    answers[1, :560] = answers[0, :560]
    samples = [Series.plain(sampled(scores(cell), labels)).resampled[0] for cell in answers]
    right = [(cell == labels).astype(float) for cell in answers]
    for level in (0.95, 0.999):
        usual, own = over_items.item_mean(right[0], level), whole_set.estimate(samples[0], level)
        assert own.value == pytest.approx(usual.value)
        # A statistic may not be of 0 and 1, so its interval is longer on one side and has pseudo-items.
        assert 1 <= np.diff(own.ci)[0] / np.diff(usual.ci)[0] < 1.3
        expected = over_items.paired_difference(right[0], right[1], level)
        difference = whole_set.compare(samples[0], samples[1], "difference", level)
        assert difference.value == pytest.approx(expected.value)
        assert np.diff(difference.ci)[0] == pytest.approx(np.diff(expected.ci)[0], rel=0.2)
    assert difference.p == pytest.approx(expected.p, abs=0.1)
    assert "600 items" in difference.method and "512 bootstrap draws" in difference.method


@pytest.mark.parametrize("statistic", [SHARE, WORST])
@pytest.mark.parametrize("changed", [1, 5])
def test_intervals_hold_the_truth_where_few_answers_change(
    sampled: Any, monkeypatch: pytest.MonkeyPatch, statistic: str, changed: int
) -> None:
    """With one or five of 150 answers expected to change, 93 % of intervals cover the mean difference.

    Intervals of the bootstrap alone cover it in 63 % where one is expected, since in all other sets no answer
    changes.
    """
    monkeypatch.setattr(resampling, "MAX_COUNTS", {"groups": 2048, "draws": 40, "probes": 40})
    rng, differences = np.random.default_rng(changed), []
    for _ in range(60):
        labels = np.repeat([0, 1], [120, 30])
        right = rng.random(150) < 0.9
        newly_wrong = right & (rng.random(150) < changed / 150 / 0.9)
        pair = [
            Series.plain(sampled(scores(np.where(hits, labels, 2)), labels, statistic)).resampled[0]
            for hits in (right & ~newly_wrong, right)
        ]
        differences.append(whole_set.compare(*pair, "difference"))
    truth = np.mean([difference.value for difference in differences])
    coverage = np.mean([difference.ci[0] <= truth <= difference.ci[1] for difference in differences])
    assert coverage >= 0.93


def test_groups_of_items_serve_where_items_are_too_many() -> None:
    """64 groups of 3,200 items give nearly the error of all items, and a pair uses the coarser of two."""
    rng = np.random.default_rng(1)
    values, noise = rng.standard_normal((2, 3200))
    by_item, by_group = (
        resampled(lambda places: values[places].mean(), 3200, groups) for groups in (3200, 64)
    )
    widths = [np.diff(whole_set.estimate(sample).ci)[0] for sample in (by_item, by_group)]
    assert widths[1] == pytest.approx(widths[0], rel=0.3)
    other = resampled(lambda places: (values + 0.1 * noise)[places].mean(), 3200, 64)
    difference = whole_set.compare(by_item, other, "difference")
    assert difference.ci == pytest.approx(whole_set.compare(by_group, other, "difference").ci)
    assert "64 groups of 3,200 items" in difference.method
    assert np.diff(difference.ci)[0] == pytest.approx(4 * 0.1 / np.sqrt(3200), rel=0.3)


def test_the_error_of_a_median_is_that_of_its_draws() -> None:
    """A median's error is the spread of its bootstrap draws, since influences of items underestimate it."""
    rng, covered = np.random.default_rng(2), 0
    for _ in range(200):
        values = rng.exponential(size=101)
        sample = resampled(lambda places, values=values: float(np.median(values[places])), 101, 101, draws=60)
        low, high = whole_set.estimate(sample).ci
        covered += low <= np.log(2) <= high
    assert covered >= 0.93 * 200


def test_a_ratio_is_on_the_scale_of_logs() -> None:
    """The ratio of two statistics has an interval around it, and a speedup is its inverse."""
    values = np.random.default_rng(3).exponential(size=400)
    ours, theirs = (
        resampled(lambda places, factor=factor: factor * values[places].mean(), 400, 400, draws=40)
        for factor in (3.0, 2.0)
    )
    ratio, speedup = (whole_set.compare(ours, theirs, kind) for kind in ("ratio", "speedup"))
    assert ratio.value == pytest.approx(1.5) and speedup.value == pytest.approx(1 / 1.5)
    assert ratio.ci[0] <= 1.5 <= ratio.ci[1]
    assert speedup.ci == pytest.approx((1 / ratio.ci[1], 1 / ratio.ci[0]))


def test_all_pairs_are_the_pairs_one_by_one() -> None:
    """The intervals of all pairs, for the front, are those of single pairs, and NaN where there is none."""
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
    """Samples of 90 and 80 items cannot be paired, and comparing them is an error."""
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


def run_of(builders: ModuleType, metric: Metric, mistakes: dict[str, Sequence[int]], seed: int = 0) -> Source:
    """Return a run with one metric, in which the baseline and configs are wrong about these of 100 items."""
    run = builders.Run(
        cells={name: builders.Cell() for name in mistakes if name != "base"}, metrics=(metric,), control=None
    )
    recording = Recording()
    for name, wrong in mistakes.items():
        hits = np.ones(100)
        hits[list(wrong)] = 0
        sample = evolve(resampled(lambda places, hits=hits: hits[places].mean(), 100, 100, 60), step=0.01)
        series = Series.plain(PlainSamples(values=[hits.mean()]))
        series = evolve(series, resampled=(sample,)) if metric.samples == "per_set" else series
        recording.add(f"toy/{name}", Figure("figure"), series)
        recording.outputs[f"toy/{name}"] = {OUTPUT: np.stack([hits, 1 - hits], axis=1) * (1 + seed)}
    return Source(place="run", results=run.results(recording), recording=recording, label=f"run {seed}")


def figure(source: Source, name: str) -> Any:
    (measurement,) = (entry for entry in source.results.measurements if entry.cell == f"toy/{name}")
    return measurement


def test_a_run_has_value_interval_and_clear(builders: ModuleType) -> None:
    """One more wrong answer of 100 is not clear and thirty are, and the details say how it was resampled."""
    mistakes = {"base": (0, 1), "slightly": (0, 1, 2), "much": range(32)}
    source = run_of(builders, METRIC, mistakes)
    base, slightly, much = (figure(source, name) for name in mistakes)
    assert base.value == 0.98 and base.ci[0] < 0.98 < base.ci[1] <= 1.0
    assert [measurement.vs_baseline.clear for measurement in (base, slightly, much)] == [False, False, True]
    assert slightly.vs_baseline.value == pytest.approx(-0.01)
    assert (base.n, base.details["resampled"]["groups"], base.details["resampled"]["draws"]) == (100, 100, 60)
    assert source.results.front["toy/base"].dominated_by == ()
    assert source.results.front["toy/much"].dominated_by
    (pick,) = source.results.picks
    assert (pick.cell, pick.tied_with) == ("toy/base", ("toy/slightly",))


def test_figures_are_computed_again_from_the_samples(builders: ModuleType, tmp_path: Path) -> None:
    """Resampled values that are written and read give the same results without the plugin."""
    source = run_of(builders, METRIC, {"base": (0, 1), "ours": (0, 1, 2)})
    place = tmp_path / "samples.npz"
    assert source.recording is not None
    place.write_bytes(source.recording.to_bytes())
    read = Recording.read(place)
    assert differences(recompute(source.results, read), source.results) == []


def test_groups_have_values_and_differences(builders: ModuleType) -> None:
    """Each group has its difference with an interval that is corrected for the number of groups."""
    source = run_of(builders, METRIC, {"base": (0, 1), "ours": range(30)})
    recording = source.recording
    assert recording is not None
    for series in recording.series.values():
        recorded = series[Figure("figure")]
        parts = [evolve(recorded.resampled[0], items=100), evolve(recorded.resampled[0], items=0)]
        series[Figure("figure")] = evolve(
            recorded, resampled=(recorded.resampled[0], *parts), group_names=("x", "y")
        )
    measurements = recompute(source.results, recording).measurements
    groups = {measurement.cell: measurement.details["groups"] for measurement in measurements}
    assert list(groups["toy/ours"]) == ["x"]
    compared = groups["toy/ours"]["x"]["vs_baseline"]
    assert (compared["level"], compared["value"]) == (0.975, pytest.approx(-0.28))
    assert compared["ci"][1] < 0 and compared["p_adjusted"] == compared["p"] < 0.001
    assert "vs_baseline" not in groups["toy/base"]["x"]


def ruling(source: Source, rule: str, base: Source | None = None) -> list[tuple[str, str]]:
    Path("rules.toml").write_text(f'[[rule]]\nmetric = "figure"\n{rule}\n')
    decided = decide(read_rules(Path("rules.toml")), source, base)
    return [(decision.verdict, decision.line) for decision in decided.decisions]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("smallest = 0.995", "too wide"),
        ("largest_drop = 0.0001", "too wide"),
        ("largest_drop = 0.15", "met"),
        ("smallest = 0.8", "met"),
    ],
)
def test_a_gate_reports_no_breach_of_an_answer_or_two(builders: ModuleType, rule: str, expected: str) -> None:
    """98 right answers of 100 do not show a share below 99.5 %, nor does one answer less show a drop."""
    source = run_of(builders, METRIC, {"base": (0,), "ours": (0, 1)})
    assert [verdict for verdict, _ in ruling(source, rule)] == [expected]


def test_a_gate_reports_a_breach_that_is_shown(builders: ModuleType) -> None:
    """Thirty right answers less of 100 are a breach, in one run and against another one."""
    source = run_of(builders, METRIC, {"base": (0,), "ours": range(31)})
    before = run_of(builders, METRIC, {"base": (0,), "ours": (0,)}, seed=1)
    assert ruling(source, "largest_drop = 0.05")[0][0] == "breached"
    assert ruling(source, 'against = "base"\nlargest_drop = 0.05', before)[0][0] == "breached"
    assert ruling(before, 'against = "base"\nlargest_drop = 0', before)[0][0] == "met"


def test_runs_are_compared_on_the_same_items(builders: ModuleType) -> None:
    """Thirty more wrong answers are worse, one more is the same, and none has the interval zero."""
    base = run_of(builders, METRIC, {"base": (0,), "a": (0,), "b": (0,), "c": (0, 1)})
    ours = run_of(builders, METRIC, {"base": (0,), "a": range(31), "b": (0, 1), "c": (0, 1)}, seed=1)
    changes = {change.config: change for change in compare([base, ours]).changes if change.metric == "figure"}
    assert {name: change.verdict for name, change in changes.items()} == {
        "base": "same",
        "a": "worse",
        "b": "same",
        "c": "same",
    }
    assert {change.basis for change in changes.values()} == {"items"}
    assert changes["c"].ci == (0.0, 0.0)
    assert changes["b"].ci[0] < -0.01 < changes["b"].ci[1]


def test_the_metrics_of_the_tutorial_report_no_breach_of_one_answer(
    builders: ModuleType, write_plugin: Write
) -> None:
    """The tutorial's metrics show no breach for 49 right answers of 50."""
    text = (Path(__file__).parents[2] / "docs" / "tutorial-metric.md").read_text()
    blocks = re.findall(r"(?:^    .*\n|^\n)+", text, re.MULTILINE)
    sources = [dedent(block) for block in blocks if re.match(r"\n*    # \w+\.py\n", block)]
    paths = [write_plugin(f"taught{index}", source) for index, source in enumerate(sources)]
    catalogue = Host.discover(paths)
    references = [catalogue.get("metric", name).reference for name in ("worst_class", "confidence_gap")]
    host = Host.of([reference for reference in references if reference is not None])
    rng, labels = np.random.default_rng(5), np.repeat(np.arange(10), 50)
    outputs = 8 * np.eye(10)[labels] + rng.standard_normal((500, 10))
    outputs[0] = outputs[60]
    targets = {"labels": labels}
    data = Predictions(outputs={"output": outputs}, targets=targets, classes=tuple("abcdefghij"))
    values = {}
    for name, limit in (("worst_class", "smallest = 0.995"), ("confidence_gap", "largest = 0.0001")):
        entry = host.get("metric", name)
        assert isinstance(entry.record, Metric)
        context = Context(options={option.name: option.default for option in entry.record.options})
        samples = samples_of_set(BoundPlugin(host, name, context), data)
        values[name] = samples.values[0]
        recording = Recording()
        recording.add("toy/base", Figure("figure"), Series.plain(samples))
        metric = evolve(entry.record, name="figure")
        run = builders.Run(cells={}, metrics=(metric,), control=None)
        source = Source(place="run", results=run.results(recording), recording=recording, label="run")
        assert ruling(source, f'config = "base"\n{limit}')[0][0] == "too wide"
    assert values["worst_class"] == 0.98 and 0.001 < values["confidence_gap"] < 0.01


# One value of all items ---------------------------------------------------------------------------


def test_one_value_of_all_items_has_no_interval(builders: ModuleType) -> None:
    """A metric that calls a value of all items exact has the value, but no interval or clear difference."""
    source = run_of(builders, BARE, {"base": (0,), "ours": range(40)})
    measurement = figure(source, "ours")
    assert (measurement.value, measurement.ci) == (0.6, None)
    assert (measurement.vs_baseline.ci, measurement.vs_baseline.clear) == (None, None)
    assert "implement 'statistic'" in measurement.without_interval
    assert measurement.vs_baseline.method == f"no interval: {measurement.without_interval}"


def test_no_verdict_comes_of_one_value(builders: ModuleType) -> None:
    """One value is too wide for the gate and not comparable, with what to do, and dominates nothing."""
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
    changes = compare([before, source]).changes
    (change,) = (entry for entry in changes if (entry.config, entry.metric) == ("ours", "figure"))
    assert change.verdict == "not comparable" and "implement 'statistic'" in change.reason
    assert all(entry.on_front for entry in source.results.front.values())


def test_one_value_of_the_same_outputs_is_the_same(builders: ModuleType) -> None:
    """The value of outputs that are the same bit for bit is the same."""
    source = run_of(builders, BARE, {"base": (0,), "ours": (0,)})
    assert figure(source, "ours").vs_baseline.ci == (0.0, 0.0)
    assert ruling(source, "largest_drop = 0")[0][0] == "met"
    assert ruling(source, 'against = "base"\nlargest_drop = 0', source)[0][0] == "met"
    assert {change.verdict for change in compare([source, source]).changes} == {"same"}


@pytest.mark.parametrize(("exact", "clear"), [(True, True), (False, None)])
def test_a_derived_value_is_exact_where_its_sources_are(
    builders: ModuleType, exact: bool, clear: bool | None
) -> None:
    """A ratio of file sizes is exact, and one of latencies has an unknown error."""
    derived = evolve(BARE, phase="derived")
    source = run_of(builders, derived, {"base": (0,), "ours": range(40)})
    assert source.recording is not None
    for series in source.recording.series.values():
        series[Figure("figure")] = evolve(series[Figure("figure")], exact=exact)
    source = evolve(source, results=recompute(source.results, source.recording))
    measurement = figure(source, "ours")
    assert measurement.vs_baseline.clear is clear
    assert (measurement.ci == (0.6, 0.6)) is exact
    for recording in (source.recording, None):
        verdict = ruling(evolve(source, recording=recording), "smallest = 0.9")[0][0]
        assert verdict == ("breached" if exact else "too wide")


def test_no_pick_is_made_by_one_value(builders: ModuleType) -> None:
    """The report says why no pick follows from a metric without intervals."""
    axis = evolve(BARE, axis=True, pick="the best figure")
    source = run_of(builders, axis, {"base": (0,), "ours": range(40)})
    page = markdown.render(source.results)
    assert source.results.picks == ()
    assert "No pick" in page and "implement 'statistic'" in " ".join(page.split())
