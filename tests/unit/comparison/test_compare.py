"""Comparisons of runs with known truths: their verdicts, and what is refused."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from qx.analysis.measurements import analyse
from qx.comparison import RunComparison, Source, changes, compare, page, refusal, screen, with_labels
from qx.contract.figures import Figure, Point
from qx.contract.records import Metric, Option
from qx.errors import UsageError
from qx.processes.answers import PlainSamples
from qx.results.recording import Series

ONE, OTHER = {"fingerprint": "one"}, {"fingerprint": "other", "cpu": "Another CPU"}


def source(run: Any, label: str, **environment: Any) -> Source:
    """Return a run as it would be read from its files."""
    run = evolve(run, environment=environment)
    return Source(place=f"{label}.json", results=run.results(), recording=run.recording(), label=label)


def verdicts(compared: RunComparison, config: str, run: str = "ours") -> dict[tuple[Any, ...], str]:
    """Return the verdicts of a config by metric, batch size and basis."""
    return {
        (change.metric, change.point.batch_size if change.point else None, change.basis): change.verdict
        for change in compared.changes
        if change.config == config and change.run == run
    }


@pytest.fixture
def base(builders: ModuleType) -> Source:
    """Return the run that others are compared with."""
    return source(builders.small(), "base", **ONE)


def test_better_and_worse_are_told_by_metric(base: Source, builders: ModuleType) -> None:
    """Each metric is better, worse or the same, in its own terms."""
    cells = {**builders.small().cells, "quick": builders.Cell(hits=790, weight=240_000, delay=0.6, heap=400)}
    compared = compare([base, source(builders.small(cells=cells, seed=1), "ours", **OTHER)])
    quick = verdicts(compared, "quick")
    assert quick["hits", None, "items"] == "worse"
    assert quick["weight", None, "exact"] == "better"
    assert quick["delay", 1, "own baseline"] == quick["delay", 32, "own baseline"] == "worse"
    assert quick["heap", None, "own baseline"] == "same"
    assert quick["outputs", None, "outputs"] == "changed"
    delay = next(
        change for change in compared.changes if (change.config, change.metric) == ("quick", "delay")
    )
    assert delay.kind == "speedup" and delay.value == pytest.approx(0.5 / 0.6, rel=0.01)
    assert delay.base is not None and delay.base.value == pytest.approx(4, rel=0.01)
    assert set(verdicts(compared, "alike").values()) == {"same"}


def test_the_machine_itself_is_no_change(base: Source, builders: ModuleType) -> None:
    """On a machine twice as slow every ratio to the own baseline stays, and nothing is compared directly."""
    cells = {name: evolve(cell, delay=2 * cell.delay) for name, cell in builders.small().cells.items()}
    twice = builders.Cell(delay=4.0)
    slow = source(builders.small(cells=cells, base=twice, control=twice, seed=1), "ours", **OTHER)
    quick = verdicts(compare([base, slow]), "quick")
    assert quick["delay", 1, "own baseline"] == "same"
    assert ("delay", 1, "direct") not in quick
    assert verdicts(compare([base, slow]), "base")["delay", 1, "direct"] == "not comparable"


def test_one_machine_is_compared_directly(base: Source, builders: ModuleType) -> None:
    """With one fingerprint and other software, launches are compared directly too, and labelled so."""
    cells = {**builders.small().cells, "quick": builders.Cell(hits=850, weight=260_000, delay=0.5, heap=800)}
    ours = source(builders.small(cells=cells, seed=1), "ours", **ONE, distributions={"torch": "2.15.0"})
    quick = verdicts(compare([base, ours]), "quick")
    assert quick["heap", None, "direct"] == quick["heap", None, "own baseline"] == "worse"
    assert verdicts(compare([base, ours]), "base")["heap", None, "direct"] == "same"


def test_with_the_same_software_the_baseline_tells_the_drift(base: Source, builders: ModuleType) -> None:
    """Where the machine itself can have slowed all launches by a half, no config is called slower."""
    cells = {name: evolve(cell, delay=1.5 * cell.delay) for name, cell in builders.small().cells.items()}
    slow = builders.Cell(delay=3.0)
    run = builders.small(cells=cells, base=slow, control=slow, seed=1)
    copy_verdicts = verdicts(compare([base, source(run, "ours", **ONE)]), "alike")
    drift = abs(np.log(1.5))
    (change,) = (
        change
        for change in compare([base, source(run, "ours", **ONE)]).changes
        if (change.config, change.figure, change.basis) == ("alike", Figure("delay", Point(1)), "direct")
    )
    assert change.value is not None and abs(np.log(change.value)) == pytest.approx(drift, rel=0.3)
    assert copy_verdicts["delay", 1, "own baseline"] == "same"


def test_gone_new_and_failed_are_told_apart(base: Source, builders: ModuleType) -> None:
    """A missing cell is gone, an additional one is new, and a failed one shows stage and cause."""
    cells = dict(builders.small().cells)
    cells["quick"] = builders.Cell(outcome="unsupported", stage="prepare_model", cause="no such API")
    cells["fresh"], cells["lost"] = builders.Cell(), builders.Cell()
    del cells["alike"]
    compared = compare([base, source(builders.small(cells=cells), "ours", **ONE)])
    whole = {
        change.config: (change.verdict, change.reason or "")
        for change in compared.changes
        if change.metric is None
    }
    assert whole["quick"] == ("gone", "unsupported in prepare_model: no such API")
    assert whole["alike"][0] == "gone"
    assert whole["fresh"][0] == "new"
    assert whole["lost"][0] == "new" and "ValueError: no | pipe" in whole["lost"][1]
    both = compare([base, source(builders.small(seed=1), "ours", **ONE)])
    (lost,) = (change for change in both.changes if change.config == "lost")
    assert lost.verdict == "not comparable" and (lost.reason or "").startswith("in both runs failed")


def test_a_metric_that_is_missing_is_gone(base: Source, builders: ModuleType) -> None:
    """A metric that one run did not measure is gone or new, and no error."""
    few = source(builders.small(metrics=builders.METRICS[:2]), "ours", **ONE)
    assert verdicts(compare([base, few]), "quick")["heap", None, None] == "gone"
    base_few, ours = evolve(few, label="base"), evolve(base, label="ours")
    assert verdicts(compare([base_few, ours]), "quick")["heap", None, None] == "new"


def test_options_tell_cells_of_a_config_apart(builders: ModuleType) -> None:
    """Cells are matched by their options: a new option is no other cell, and a sweep has several."""

    def with_options(run: Source, *options: dict[str, Any]) -> Source:
        results = run.results
        cell = results.cells["toy/quick"]
        cells = {name: other for name, other in results.cells.items() if name != "toy/quick"}
        cells |= {f"toy/quick_{i}": evolve(cell, options=values) for i, values in enumerate(options)}
        return evolve(run, results=evolve(results, cells=cells))

    run = source(builders.small(), "run", **ONE)
    plain = with_options(run, {})
    two = with_options(run, {"n": 32}, {"n": 256})
    assert two.partner(two, "toy/quick_1") == "toy/quick_1"
    single = with_options(run, {"n": 256})
    assert plain.partner(single, "toy/quick_0") == single.partner(plain, "toy/quick_0") == "toy/quick_0"
    assert two.partner(plain, "toy/quick_0") is None
    assert plain.partner(two, "toy/quick_0") is plain.partner(two, "toy/quick_1") is None
    both = with_options(run, {}, {"n": 32})
    assert plain.partner(both, "toy/quick_0") == "toy/quick_0"
    assert plain.partner(both, "toy/quick_1") is None
    assert with_options(run, {"n": 8}).partner(two, "toy/quick_0") is None


def test_a_metric_with_other_options_is_another_one(builders: ModuleType) -> None:
    """A metric with other options is not compared, and the option and both its values are named."""
    runs = [
        source(builders.small(run={"metric_options": {"hits": {"k": k, "all": True}}}), name, **ONE)
        for name, k in (("base", 1), ("ours", 5))
    ]
    (change,) = (
        change for change in compare(runs).changes if (change.config, change.metric) == ("quick", "hits")
    )
    assert change.verdict == "not comparable"
    assert change.reason == "it was measured with other options: k is 5 in ours and 1 in base"
    assert verdicts(compare(runs), "quick")["weight", None, "exact"] == "same"


def test_an_option_that_a_run_does_not_know_is_at_its_default(builders: ModuleType) -> None:
    """An option that a later version adds makes another metric only where it was set."""
    before = source(builders.small(), "base", **ONE)
    hits = evolve(builders.HITS, options=[Option(name="k", default=1, help="Of the best, how many.")])
    for value, verdict in ((1, "same"), (5, "not comparable")):
        run = builders.small(
            metrics=(hits, *builders.METRICS[1:]), run={"metric_options": {"hits": {"k": value}}}
        )
        quick = verdicts(compare([before, source(run, "ours", **ONE)]), "quick")
        assert quick["hits", None, "items"] == verdict


def test_without_samples_nothing_is_paired(base: Source, builders: ModuleType) -> None:
    """Where the raw samples are missing, the reason says so, and nothing is guessed."""
    ours = evolve(source(builders.small(), "ours", **ONE), recording=None)
    compared = compare([base, ours])
    figures = [change for change in compared.changes if change.config == "quick"]
    assert {change.verdict for change in figures} == {"not comparable"}
    assert all("raw samples" in (change.reason or "") for change in figures)
    assert compared.runs[1].notes == ("its raw samples are missing",)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"weights_sha256": "ffff0000ff"}, "different weights of toy"),
        ({"evaluation_sha256": "ffff0000ff"}, "different evaluation data of toy"),
        ({"calibrations": {"256": "ffff0000ff"}}, "different calibration data of toy"),
    ],
)
def test_other_weights_and_data_are_refused(
    base: Source, builders: ModuleType, changed: dict[str, Any], word: str
) -> None:
    """Runs of other weights or data are refused with the reason."""
    workloads = {"toy": evolve(base.results.run.workloads["toy"], **changed)}
    run = evolve(base.results.run, workloads=workloads)
    ours = evolve(base, label="ours", place="ours.json", results=evolve(base.results, run=run))
    with pytest.raises(UsageError, match=word) as caught:
        compare([base, ours])
    assert "ffff0000 against d0a5e0ad" in str(caught.value)
    calibration, weights = "calibrations" in changed, "weights_sha256" in changed
    assert ("--other-calibration" in str(caught.value)) == calibration
    assert (refusal(base, ours, other_calibration=True) is None) == calibration
    assert ("give --other-weights to compare them anyway" in str(caught.value)) == weights
    assert (refusal(base, ours, other_weights=True) is None) == weights


def with_weights(run: Source, sha256: str | None) -> Source:
    """Return the run as of weights with another hash; None: no hash is known."""
    workloads = {"toy": evolve(run.results.run.workloads["toy"], weights_sha256=sha256)}
    return evolve(run, results=evolve(run.results, run=evolve(run.results.run, workloads=workloads)))


@pytest.mark.parametrize("sha256", ["ffff0000ff", None])
def test_other_weights_can_be_allowed(base: Source, builders: ModuleType, sha256: str | None) -> None:
    """A retrained model is compared on the same items in pairs, and every medium says that it is another."""
    cells = {**builders.small().cells, "quick": builders.Cell(hits=790, weight=260_000, delay=0.5, heap=400)}
    ours = with_weights(source(builders.small(cells=cells, seed=1), "ours", **OTHER), sha256)
    compared = compare([base, ours], other_weights=True)
    (hits,) = (c for c in compared.changes if (c.config, c.metric) == ("quick", "hits"))
    assert (hits.verdict, hits.basis) == ("worse", "items")
    assert hits.value == pytest.approx(-0.06)
    assert [run.other_weights for run in compared.runs] == [(), ("toy",)]
    words = f"other weights than base of toy (SHA-256 {'ffff0000' if sha256 else 'unknown'} against d0a5e0ad)"
    assert compared.runs[1].notes == (f"{words}; hits on the same items in pairs; all else as usual",)
    media = (
        changes.to_markdown(compared),
        changes.to_terminal(compared, "simple", 200),
        screen.render(compared, 200),
        page.to_html(compared),
        compared.to_json(),
    )
    assert all(words in medium for medium in media)


@pytest.mark.parametrize(
    ("sha256", "cause"), [("ffff0000ff", "outputs against own baseline"), ("d0a5e0ad", "outputs")]
)
def test_nearness_to_other_baselines_is_a_cause_of_its_own(
    base: Source, builders: ModuleType, sha256: str, cause: str
) -> None:
    """With other weights a model that answers worse, and a recipe that keeps more of it, are two findings."""
    nearness = Metric(
        name="nearness",
        summary="How near the outputs are to the baseline's.",
        unit="dB",
        better="higher",
        samples="per_item",
        compare="difference",
        phase="derived",
        derived_from=("outputs",),
    )

    def with_nearness(run: Source, decibels: float) -> Source:
        assert run.recording is not None
        values = decibels + np.random.default_rng(0).normal(size=1000)
        for cell in run.recording.outputs:
            run.recording.add(cell, Figure("nearness"), Series.plain(PlainSamples(values=values)))
        old = run.results
        results = analyse(
            run=old.run,
            environment=old.environment,
            metrics={**old.metrics, "nearness": nearness},
            configs=old.configs,
            cells=old.cells,
            recording=run.recording,
            failures={},
        )
        return evolve(run, results=results)

    cells = {**builders.small().cells, "quick": builders.Cell(hits=700, weight=260_000, delay=0.5, heap=400)}
    ours = source(builders.small(cells=cells, seed=1), "ours", **OTHER)
    compared = compare(
        [with_nearness(base, 30), with_nearness(with_weights(ours, sha256), 33)], other_weights=True
    )
    (change,) = (c for c in compared.changes if (c.config, c.metric) == ("quick", "nearness"))
    assert (change.verdict, change.cause) == ("better", cause)
    assert change.value == pytest.approx(3)
    judged = {each.verdict for each in changes.ChangeView(compared).causes("ours") if each.changes}
    assert ("mixed" in judged) == (cause == "outputs")
    assert {"worse", "better"} <= judged or cause == "outputs"
    note = "".join(compared.runs[1].notes)
    assert ("nearness of each run against its own baseline" in note) == (cause != "outputs")


def test_equal_weights_are_no_other_weights(base: Source, builders: ModuleType) -> None:
    """Where the weights are the same, allowing others says nothing."""
    ours = source(builders.small(seed=1), "ours", **OTHER)
    compared = compare([base, ours], other_weights=True)
    assert (compared.runs[1].other_weights, compared.runs[1].notes) == ((), ())


def test_other_weights_do_not_excuse_other_items(base: Source) -> None:
    """Without the same evaluation data nothing can be paired, so runs of other weights are refused too."""
    record = evolve(
        base.results.run.workloads["toy"], weights_sha256="ffff0000ff", evaluation_sha256="00ff", items=900
    )
    run = evolve(base.results.run, workloads={"toy": record})
    ours = evolve(base, label="ours", results=evolve(base.results, run=run))
    with pytest.raises(UsageError, match=r"different evaluation data of toy \(900 items against 1,000; SHA"):
        compare([base, ours], other_weights=True)


def test_other_numbers_of_drawn_items_are_said(base: Source) -> None:
    """A refusal says how many of how many each run has; of a run with drawn items a note does."""

    def drawn(items: int, sha: str) -> Source:
        record = base.results.run.workloads["toy"]
        record = evolve(record, items=items, total_items=5000, evaluation_sha256=sha)
        run = evolve(base.results.run, workloads={"toy": record})
        return evolve(base, label=sha, results=evolve(base.results, run=run))

    with pytest.raises(
        UsageError, match=r"\(900 of 5,000 items against 1,000 of 5,000, --eval-n draws as many;"
    ):
        compare([drawn(1000, "00ff"), drawn(900, "ff00")])
    compared = compare([drawn(1000, "00ff"), evolve(drawn(1000, "00ff"), label="ours")])
    assert compared.runs[1].notes == ("toy was evaluated on 1,000 of 5,000 items",)


def test_other_workloads_are_refused(base: Source) -> None:
    """Runs without a workload in common are refused, with the names of both."""
    run = evolve(base.results.run, workloads={"game": base.results.run.workloads["toy"]})
    ours = evolve(base, label="ours", results=evolve(base.results, run=run))
    assert "of different workloads, game and toy" in (refusal(base, ours) or "")


def test_a_run_against_itself_is_the_same(base: Source) -> None:
    """Nothing changes between a run and its copy."""
    compared = compare([base, evolve(base, label="ours")])
    assert {change.verdict for change in compared.changes} == {"same", "not comparable"}
    assert [change.config for change in compared.changes if change.verdict != "same"] == ["lost"]


@pytest.mark.parametrize(
    ("count", "most"),
    # At 5 %, which is promised, more have a probability below 0.005.
    [(100, 11), pytest.param(200, 20, marks=pytest.mark.slow)],
)
def test_verdicts_are_held_jointly(builders: ModuleType, count: int, most: int) -> None:
    """Few comparisons of runs that are alike show any change at all."""
    runs = [
        source(builders.Run(cells={"alike": builders.Cell()}, seed=seed, noise=0.02), "run", **ONE)
        for seed in range(2 * count)
    ]
    alarms = 0
    for index in range(count):
        compared = compare([runs[2 * index], evolve(runs[2 * index + 1], label="ours")])
        alarms += any(change.verdict != "same" for change in compared.changes)
        assert compared.expected_false_alarms == pytest.approx(0.05 * compared.tests)
    assert alarms <= most


@pytest.mark.parametrize(
    ("ours", "labels"),
    [
        ({"python": "3.13.0"}, ["Python 3.11, torch 2.14.1", "Python 3.13, torch 2.14.1"]),
        (
            {"cpu": "Z80"},
            [
                "Python 3.11, torch 2.14.1, A CPU, 2 CPUs, 8 GiB",
                "Python 3.11, torch 2.14.1, Z80, 2 CPUs, 8 GiB",
            ],
        ),
        ({}, ["Python 3.11, torch 2.14.1, a.json", "Python 3.11, torch 2.14.1, b.json"]),
    ],
)
def test_labels_say_what_tells_runs_apart(
    builders: ModuleType, ours: dict[str, Any], labels: list[str]
) -> None:
    """Labels name Python and torch, and as much more as is needed."""
    pair = [
        evolve(source(builders.small(), "x", **facts), label="", place=f"{name}.json")
        for name, facts in (("a", {}), ("b", ours))
    ]
    assert [run.label for run in with_labels(pair)] == labels


def test_a_slow_cell_more_is_no_change_of_the_others(builders: ModuleType) -> None:
    """A slow cell more, compared directly with another torch, does not change how others are summed up."""
    cells = {"quick": builders.Cell(delay=0.5)}
    run = builders.Run(cells=cells, rounds=5, noise=0.01, environment={"fingerprint": "one"})
    newer = {"fingerprint": "one", "distributions": {"torch": "2.15.0"}}
    more = evolve(run, cells=cells | {"slow": builders.Cell(delay=60.0, calls=1)}, environment=newer)
    recording = more.recording()
    for cell, series in run.recording().series.items():
        recording.series[cell] |= series
    before = Source(place="before", results=run.results(), recording=run.recording(), label="before")
    after = Source(place="after", results=more.results(recording), recording=recording, label="after")
    changes = [change for change in compare([before, after]).changes if change.metric == "delay"]
    assert {change.verdict for change in changes if change.config != "slow"} == {"same"}
