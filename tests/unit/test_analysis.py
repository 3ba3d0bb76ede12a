"""Values, deltas, the noise floor, the front and the picks, from samples with known truth."""

from __future__ import annotations

import itertools
import re
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from qx.analysis.axes import make_axis
from qx.analysis.measurements import analyse
from qx.analysis.quantity import Quantity
from qx.contract.figures import Figure, Point
from qx.contract.records import OUTPUT
from qx.processes.answers import PlainSamples
from qx.report import markdown
from qx.results.recording import Recording, Series
from qx.results.records import Comparison, Measurement, Results, UndecidedResult
from qx.statistics.undisturbed import spread_rounds


def measurement(results: Results, cell: str, metric: str, batch_size: int | None = None) -> Measurement:
    """Return the only measurement of a cell, a metric and a batch size."""
    (match,) = (
        entry
        for entry in results.measurements
        if (entry.cell, entry.figure) == (f"toy/{cell}", Figure(metric, batch_size and Point(batch_size)))
    )
    return match


def delta(results: Results, cell: str, metric: str, batch_size: int | None = None) -> Comparison:
    """Return the comparison of a measurement with the baseline."""
    compared = measurement(results, cell, metric, batch_size).vs_baseline
    assert compared is not None
    return compared


def test_ratios_are_those_that_were_built_in(builders: ModuleType) -> None:
    """Without noise every delta is the true one exactly, though the machine drifts by a tenth."""
    run = builders.small(noise=0.0)
    results = run.results()
    for size in (1, 32):
        assert delta(results, "quick", "delay", size).value == pytest.approx(4.0)
        assert delta(results, "alike", "delay", size).value == pytest.approx(1.0)
    assert delta(results, "quick", "heap").value == pytest.approx(0.8)
    assert delta(results, "quick", "weight") == Comparison(
        kind="ratio", value=0.26, ci=(0.26, 0.26), p=None, clear=True, method="exact"
    )
    hits = delta(results, "quick", "hits")
    assert (hits.kind, hits.value) == ("difference", pytest.approx(-0.01))
    assert hits.p == pytest.approx(2 * 0.5**10)
    times = measurement(results, "base", "delay", 1)
    assert times.n == 6 and times.value == pytest.approx(2.0, rel=0.1)
    assert times.samples_ref == f"{results.run.samples}#toy/base|delay|1|values"
    assert times.details["calls"] == 6 * 4 * 3


def test_the_interval_holds_the_truth(builders: ModuleType) -> None:
    """With noise the interval of a ratio holds the true one in about 95 of 100 runs."""
    held = 0
    for seed in range(40):
        run = builders.Run(
            cells={"quick": builders.Cell(delay=1.6)}, noise=0.01, seed=seed, items=10, rounds=2
        )
        low, high = delta(run.results(), "quick", "delay", 1).ci or (0.0, 0.0)
        held += low <= 1.25 <= high
    assert held >= 34


def test_a_value_for_a_block_is_compared_in_the_same_waves(builders: ModuleType) -> None:
    """One value for a block gives the median over launches, and the ratio of two cells in the same waves."""
    energy = evolve(builders.DELAY, name="energy", samples="per_round", compare="ratio", unit="mJ")
    cells = {"quick": builders.Cell(delay=1.0, calls=1)}
    single = builders.Cell(calls=1)
    run = builders.Run(cells=cells, base=single, control=single, noise=0.001, metrics=(builders.DELAY,))
    recording = run.recording()
    for series in recording.series.values():
        series[Figure("energy", Point(1))] = series[Figure("delay", Point(1))]
    results = evolve(run, metrics=(energy,)).results(recording)
    compared = delta(results, "quick", "energy", 1)
    assert compared.kind == "ratio" and compared.value == pytest.approx(0.5, rel=0.002)
    assert compared.ci is not None and compared.ci[0] < 0.5 < compared.ci[1] and compared.clear
    assert compared.ci[1] - compared.ci[0] < 0.005  # in pairs: the machine drifts by a tenth
    value = measurement(results, "quick", "energy", 1)
    assert value.n == 6 and value.details["blocks"] == 6 * 4
    assert "p95" not in value.details and "in_rounds" not in value.details
    assert [floor.metric for floor in results.noise_floor] == ["energy"]


def test_a_lost_launch_costs_its_wave(builders: ModuleType) -> None:
    """A cell without a launch in a wave is compared over the waves that it shares with the baseline."""
    lossy = builders.Cell(delay=1.0, waves=(0, 1, 3, 5))
    results = builders.Run(cells={"quick": lossy}, noise=0.0).results()
    assert delta(results, "quick", "delay", 1).value == pytest.approx(2.0)
    assert [measurement(results, cell, "delay", 1).n for cell in ("quick", "base")] == [4, 6]
    assert measurement(results, "quick", "heap").n == 4


def test_groups_are_compared_through_the_baseline(builders: ModuleType) -> None:
    """Cells that never lived in one wave are judged by what each of them is to the baseline."""
    cells = {
        "first": builders.Cell(delay=1.0, waves=range(6)),
        "second": builders.Cell(delay=0.5, weight=900_000, waves=range(6, 12)),
    }
    every = builders.Cell(waves=range(12))
    results = builders.Run(cells=cells, base=every, control=every).results()
    assert delta(results, "first", "delay", 1).value == pytest.approx(2.0, rel=0.01)
    assert delta(results, "second", "delay", 1).value == pytest.approx(4.0, rel=0.01)
    assert results.front["toy/first"].dominated_by == ("toy/second",)


def test_what_could_not_be_measured_is_told(builders: ModuleType) -> None:
    """A metric that failed has outcome and cause instead of figures, and its cell is not on the front."""
    failures = {("toy/quick", "delay"): ("crashed", "killed by SIGSEGV")}
    results = builders.small(failures=failures).results()
    for size in (1, 32):
        figure = measurement(results, "quick", "delay", size)
        assert (figure.outcome, figure.cause) == ("crashed", "killed by SIGSEGV")
        assert (figure.value, figure.ci, figure.vs_baseline, figure.comparisons) == (None, None, None, ())
    assert measurement(results, "quick", "heap").value == pytest.approx(400, rel=0.01)
    # The failed metric has samples, by which the cell would win.
    assert set(results.front) == {"toy/base", "toy/alike"}
    assert "toy/quick" not in {pick.cell for pick in results.picks}


def test_a_metric_that_does_not_apply_is_no_failure(builders: ModuleType) -> None:
    """Where a metric has no value for a cell, that is said, and if it is no axis nothing is lost."""
    cells = {"quick": builders.Cell(delay=0.5, without=("heap",))}
    metrics = (builders.HITS, builders.WEIGHT, builders.DELAY, evolve(builders.HEAP, axis=False))
    results = builders.Run(cells=cells, metrics=metrics).results()
    heap = measurement(results, "quick", "heap")
    assert (heap.outcome, heap.cause, heap.value) == ("unsupported", "not applicable here", None)
    assert results.front["toy/quick"].on_front
    assert {pick.metric: pick.cell for pick in results.picks}["heap"] == "toy/base"
    judged = builders.Run(cells=cells).results()
    assert "toy/quick" not in judged.front


def test_an_axis_that_nobody_has_figures_of_is_none(builders: ModuleType) -> None:
    """A workload without labels does not empty the front."""
    unlabelled = builders.Cell(without=("hits",))
    results = builders.Run(
        cells={"quick": evolve(unlabelled, delay=0.5)}, base=unlabelled, control=unlabelled
    ).results()
    assert [axis.metric for axis in results.axes] == ["weight", "delay", "heap"]
    assert results.front["toy/quick"].on_front


def test_a_cell_that_did_not_end_well_keeps_its_rows(builders: ModuleType) -> None:
    """The measurements of a cell that failed have its outcome and cause, and it is on no front."""
    results = builders.small().results()
    lost = [entry for entry in results.measurements if entry.cell == "toy/lost"]
    assert len(lost) == 5
    assert {(entry.outcome, entry.cause, entry.value) for entry in lost} == {
        ("failed", "ValueError: no | pipe", None)
    }
    assert "toy/lost" not in results.front


def test_the_control_is_measured_in_launches_and_takes_no_part(builders: ModuleType) -> None:
    """The control has figures of what launches measure, and is neither on the front nor picked."""
    results = builders.small().results()
    measured = {entry.metric for entry in results.measurements if entry.cell == builders.CONTROL}
    assert measured == {"delay", "heap"}
    assert builders.CONTROL not in results.front
    assert [floor.figure for floor in results.noise_floor] == [
        Figure("delay", Point(1)),
        Figure("delay", Point(32)),
        Figure("heap"),
    ]


def test_a_control_that_is_slower_raises_the_alarm(builders: ModuleType) -> None:
    """A control beyond its own 99.9 % interval raises an alarm, and one within it does not."""
    assert not any(floor.alarm for floor in builders.small(seed=3).results().noise_floor)
    loud = builders.small(control=builders.Cell(delay=2.1)).results()
    assert [floor.alarm for floor in loud.noise_floor] == [True, True, False]
    assert loud.noise_floor[0].value == pytest.approx(1 / 1.05, rel=0.01)


def test_no_more_than_the_control_is_not_clear(builders: ModuleType) -> None:
    """A speedup is clear when its interval excludes 1 and it is larger than what the control shows."""
    cells = {"slightly": builders.Cell(delay=1.96), "much": builders.Cell(delay=1.0)}
    honest = builders.Run(cells=cells).results()
    assert [delta(honest, cell, "delay", 1).clear for cell in cells] == [True, True]
    noisy = builders.Run(cells=cells, control=builders.Cell(delay=2.1)).results()
    assert [delta(noisy, cell, "delay", 1).clear for cell in cells] == [False, True]
    without = builders.Run(cells=cells, control=None).results()
    assert without.noise_floor == ()
    assert delta(without, "much", "delay", 1).clear is True


def test_the_front_says_who_dominates_and_who_is_tied(builders: ModuleType) -> None:
    """A cell that is worse within the margin everywhere and better nowhere is dominated; equals are tied."""
    cells = {
        "quick": builders.Cell(delay=0.5),
        "alike": builders.Cell(delay=0.5),
        "worse": builders.Cell(delay=1),
    }
    results = builders.Run(cells=cells).results()
    front = {cell.partition("/")[2]: result for cell, result in results.front.items()}
    assert [front[cell].on_front for cell in ("base", "quick", "alike", "worse")] == [
        False,
        True,
        True,
        False,
    ]
    assert front["worse"].dominated_by == ("toy/quick", "toy/alike")
    assert front["quick"].tied_with == ("toy/alike",)


def test_membership_says_how_sure_it_is(builders: ModuleType) -> None:
    """The only best is a member in all draws, the dominated in none, and twins in some."""
    metrics = (builders.DELAY,)
    twins = {"one": builders.Cell(delay=0.5), "other": builders.Cell(delay=0.5)}
    results = builders.Run(cells=twins, metrics=metrics, noise=0.05).results()
    first, second = (results.front[f"toy/{cell}"].probability or 0 for cell in twins)
    assert 1 < first + second < 2 and min(first, second) > 0.1
    assert results.front["toy/base"].probability == 0.0
    still = builders.Run(cells=twins, metrics=metrics, noise=0.0001).results()
    assert [still.front[f"toy/{cell}"].probability for cell in twins] == [1.0, 1.0]
    alone = builders.Run(cells={"one": twins["one"]}, metrics=metrics).results()
    assert alone.front["toy/one"].probability == 1.0
    assert builders.Run(cells=twins, metrics=metrics, noise=0.05).results() == results


def test_what_is_not_shown_to_be_dominated_is_perhaps_on_the_front(builders: ModuleType) -> None:
    """With few items no cell is shown to be off the front, and the slow one is on it perhaps."""
    cells = {"quick": builders.Cell(delay=0.5), "slow": builders.Cell(delay=3.0)}
    results = builders.Run(cells=cells, metrics=(builders.HITS, builders.DELAY), items=100).results()
    assert [results.front[f"toy/{cell}"].on_front for cell in ("base", "quick", "slow")] == [True] * 3
    assert results.front["toy/slow"].probability == 0.0
    page = markdown.render(results)
    assert re.search(r"`quick` +\| yes +\| 100 of 100 +\| nothing dominates it ", page)
    assert re.search(r"`slow` +\| perhaps +\| 0 of 100 +\| probably dominated, but not shown to be ", page)
    assert "On the front, by hits and delay (batch 1): `quick`. Perhaps too: `base` and `slow`." in page


def test_a_pick_between_equals_says_so(builders: ModuleType) -> None:
    """Where the axis of a pick shows two cells to be equal, the next axis decides, by name."""
    cells = {"large": builders.Cell(delay=0.5), "little": builders.Cell(delay=0.5, weight=500_000)}
    results = builders.Run(cells=cells).results()
    picks = {pick.metric: pick for pick in results.picks}
    assert picks["delay"].aim == "the quickest"
    assert picks["delay"].point == Point(1)
    assert (picks["delay"].cell, picks["delay"].tied_with) == ("toy/little", ("toy/large",))
    assert picks["delay"].decided_by == "weight"
    assert (picks["weight"].cell, picks["weight"].tied_with, picks["weight"].decided_by) == (
        "toy/little",
        (),
        None,
    )


def test_the_runtime_baseline_is_compared_with_too(builders: ModuleType) -> None:
    """A config that names the fp32 config of its runtime is compared with that one as well."""
    cells = {
        "runtime_fp32": builders.Cell(delay=1.0),
        "runtime_int8": builders.Cell(delay=0.25, runtime_baseline="runtime_fp32"),
    }
    results = builders.Run(cells=cells, noise=0.0).results()
    compared = {
        comparison.against: comparison
        for comparison in measurement(results, "runtime_int8", "delay", 1).comparisons
    }
    assert compared["toy/runtime_fp32"].value == pytest.approx(4.0)
    assert delta(results, "runtime_int8", "delay", 1).value == pytest.approx(8.0)
    assert compared["toy/runtime_fp32"].kind == "speedup"


def test_a_recipe_in_two_runtimes_is_a_pair(builders: ModuleType) -> None:
    """Cells of one recipe show how many predictions they share, and are compared in pairs."""
    cells = {
        "ours": builders.Cell(hits=850, delay=0.5, counterpart="theirs"),
        "theirs": builders.Cell(hits=860),
        "alone": builders.Cell(counterpart="elsewhere"),
        "widowed": builders.Cell(counterpart="lost"),
        "lost": builders.Cell(outcome="failed", stage="convert", cause="no"),
    }
    results = builders.Run(cells=cells, noise=0.0).results()
    (pair,) = results.pairs
    assert (pair.cell, pair.counterpart, pair.agreement, pair.n) == ("toy/ours", "toy/theirs", 0.99, 1000)
    assert pair.ci is not None and pair.ci[0] < 0.99 < pair.ci[1]
    compared = {
        comparison.against: comparison for comparison in measurement(results, "ours", "hits").comparisons
    }
    assert compared["toy/theirs"].value == pytest.approx(-0.01)
    assert compared["toy/theirs"].p is not None


def test_every_cell_is_compared_with_those_of_the_front(builders: ModuleType) -> None:
    """A dominated cell is compared with each cell of the front."""
    results = builders.small().results()
    assert [comparison.against for comparison in measurement(results, "alike", "weight").comparisons] == [
        "toy/base",
        "toy/quick",
    ]


def test_values_without_logarithm_are_not_compared_by_ratio(builders: ModuleType) -> None:
    """A metric that may be 0 has values and no ratio, and breaks nothing else."""
    results = builders.Run(cells={"nothing": builders.Cell(weight=0)}).results()
    figure = measurement(results, "nothing", "weight")
    assert (figure.value, figure.vs_baseline) == (0.0, None)
    assert {pick.metric: pick.cell for pick in results.picks}["weight"] == "toy/nothing"


def test_derived_samples_of_unequal_number_are_compared(builders: ModuleType) -> None:
    """A derived metric that has fewer samples of a cell, because a launch died, is compared all the same."""
    rate = evolve(builders.HEAP, name="rate", phase="derived", better="higher", axis=True)
    run = builders.Run(cells={"quick": builders.Cell()}, metrics=(*builders.METRICS, rate))
    recording = run.recording()
    for cell, launches, value in (("toy/base", 6, 100.0), ("toy/quick", 5, 150.0)):
        recording.add(cell, Figure("rate"), Series.plain(PlainSamples(values=np.full(launches, value))))
    results = run.results(recording)
    assert delta(results, "quick", "rate").value == pytest.approx(1.5)
    assert measurement(results, "quick", "rate").n == 5
    assert results.front["toy/quick"].on_front


def test_details_of_launches_are_told_by_their_median(builders: ModuleType) -> None:
    """Numbers in the details of launches are shown as their median, and all else as the first has it."""
    run = builders.Run(cells={})
    recording = run.recording()
    series = recording.series["toy/base"][Figure("heap")]
    details = tuple(
        {"stages": {"load": {"stage": "load", "peak": float(peak), "faults": peak}}, "on": True}
        for peak in (9, 1, 2, 3, 2, 2)
    )
    recording.add("toy/base", Figure("heap"), evolve(series, details=details))
    figure = measurement(run.results(recording), "base", "heap")
    assert figure.details == {"stages": {"load": {"stage": "load", "peak": 2.0, "faults": 2}}, "on": True}
    assert isinstance(figure.details["stages"]["load"]["faults"], int)


# Groups, and what did not end well ----------------------------------------------------------------


@pytest.fixture
def grouped(builders: ModuleType) -> Any:
    """Return a run of two cells in two groups; ``slower_second_group`` slows the second by a fifth."""
    cells = {
        "first": builders.Cell(delay=1.0, waves=range(6), runtime_baseline="second"),
        "second": builders.Cell(delay=0.5, waves=range(6, 12)),
    }
    every = builders.Cell(waves=range(12))
    return builders.Run(cells=cells, base=every, control=every)


def slower_second_group(run: Any) -> Any:
    recording = run.recording()
    for series in recording.series.values():
        for key in [key for key in series if key.metric in ("delay", "heap")]:
            slower = np.where(series[key].wave >= 6, 1.2, 1.0)
            series[key] = evolve(series[key], values=series[key].values * slower)
    return recording


def test_two_groups_are_compared_through_the_baseline_everywhere(grouped: Any) -> None:
    """In the table as on the front, a change of the machine between two groups is no difference of cells."""
    results = grouped.results(slower_second_group(grouped))
    for metric, size, truth in (("delay", 1, 0.5), ("heap", None, 1.0)):
        (other,) = (
            comparison
            for comparison in measurement(results, "first", metric, size).comparisons
            if comparison.against == "toy/second"
        )
        assert other.value == pytest.approx(truth, rel=0.01)
        assert other.ci[0] <= truth <= other.ci[1]
        assert "through the baseline" in other.method
    assert results.front["toy/first"].dominated_by == ("toy/second",)


def test_the_baseline_need_not_be_judged_to_be_gone_by(grouped: Any) -> None:
    """Where the baseline has no figures of one axis, groups are still compared through it on the others."""
    results = evolve(grouped, failures={("toy/base", "hits"): ("failed", "no")}).results()
    assert "toy/base" not in results.front
    assert results.front["toy/first"].dominated_by == ("toy/second",)
    assert results.front["toy/first"].probability == 0.0


@pytest.mark.parametrize("ended", [{"base": "crashed"}, {"control": "crashed"}])
def test_nothing_is_held_against_what_did_not_end_well(builders: ModuleType, ended: dict[str, str]) -> None:
    """A baseline that crashed after some waves is no baseline, and such a control shows no noise."""
    ((name, outcome),) = ended.items()
    run = builders.Run(cells={"quick": builders.Cell(delay=0.5)})
    recording = run.recording()
    results = evolve(run, **{name: builders.Cell(outcome=outcome, stage="measure", cause="killed")}).results(
        recording
    )
    compared = measurement(results, "quick", "delay", 1).vs_baseline
    assert (compared is None) == (name == "base")
    assert results.noise_floor == ()
    metric = {"failures": {(f"toy/{name}", "delay"): ("timeout", "no end")}}
    results = evolve(run, **metric).results(recording)
    compared = measurement(results, "quick", "delay", 1).vs_baseline
    assert (compared is None) == (name == "base")
    assert [floor.metric for floor in results.noise_floor] == ["heap"]


def test_a_cell_without_logs_changes_nothing_for_the_others(builders: ModuleType) -> None:
    """Margins stay shares: 500 and 501 MiB are tied, though a third cell once held nothing."""
    cells = {"more": builders.Cell(heap=501.0), "nothing": builders.Cell(heap=500.0)}
    run = builders.Run(cells=cells, noise=1e-5, metrics=(builders.HITS, builders.HEAP))
    recording = run.recording()
    series = recording.series["toy/nothing"]
    values = series[Figure("heap")].values.copy()
    values[0] = 0
    series[Figure("heap")] = evolve(series[Figure("heap")], values=values)
    results = run.results(recording)
    assert results.front["toy/more"].on_front
    assert "toy/nothing" not in results.front
    exact = builders.Run(cells={"more": builders.Cell(weight=1_000_500), "nothing": builders.Cell(weight=0)})
    results = evolve(exact, metrics=(builders.WEIGHT,)).results()
    assert results.front["toy/more"].dominated_by == ("toy/nothing",)
    assert results.front["toy/base"].dominated_by == ("toy/nothing",)


def test_items_may_be_nothing_where_their_mean_is_something(builders: ModuleType) -> None:
    """The ratio of means needs positive means, as in `qx compare`, and not positive items."""
    hits = evolve(builders.HITS, compare="ratio")
    results = builders.Run(cells={"less": builders.Cell(hits=430)}, metrics=(hits,)).results()
    assert delta(results, "less", "hits").value == pytest.approx(0.5)


def test_a_control_that_is_compared_by_difference_raises_the_alarm(builders: ModuleType) -> None:
    """A control compared by difference raises the alarm like one compared by ratio."""
    heap = evolve(builders.HEAP, compare="difference", margin=1.0)
    sound = builders.Run(cells={}, metrics=(heap,)).results()
    loud = builders.Run(cells={}, metrics=(heap,), control=builders.Cell(heap=800)).results()
    assert [results.noise_floor[0].alarm for results in (sound, loud)] == [False, True]
    same = builders.Cell(heap=1.0)
    quiet = builders.Run(cells={"alike": same}, base=same, control=same, metrics=(heap,), noise=0.0).results()
    assert delta(quiet, "alike", "heap").ci == (0.0, 0.0)
    assert "over waves" in delta(quiet, "alike", "heap").method


def test_of_equals_one_of_the_front_is_picked(builders: ModuleType) -> None:
    """Of equals, a cell of the front is picked, and the axis that decided is named only where one did."""
    cells = {
        "right": builders.Cell(hits=930, delay=1.0),
        "small": builders.Cell(hits=924, weight=200_000, delay=1.0),
        "hair": builders.Cell(hits=926, delay=0.995),
    }
    control = builders.Cell(delay=1.0)
    run = builders.Run(cells=cells, base=builders.Cell(hits=900, delay=1.0), control=control, items=100_000)
    results = run.results()
    assert results.front["toy/hair"].dominated_by == ("toy/small",)
    for pick in results.picks:
        assert results.front[pick.cell].on_front, pick
    (quickest,) = (pick for pick in results.picks if pick.metric == "delay")
    assert "toy/hair" in quickest.tied_with
    # ``hair`` is no better in hits than ``right``, and would stay if hits were compared with all cells.
    assert (quickest.cell, quickest.decided_by) == ("toy/right", "hits")
    page = markdown.render(results)
    assert "pick `right`; tied with `base`, `small` and `hair` within 2 %, decided by `hits`." in page


def test_equals_that_are_dominated_are_told_so(builders: ModuleType) -> None:
    """Where all but one of the equals are dominated, the text does not call them equal on all else."""
    cells = {"little": builders.Cell(weight=500_000, heap=400), "hair": builders.Cell(delay=1.995, heap=400)}
    metrics = (builders.WEIGHT, builders.DELAY, evolve(builders.HEAP, margin=0.5))
    results = builders.Run(cells=cells, metrics=metrics).results()
    (least,) = (pick for pick in results.picks if pick.metric == "heap")
    assert (least.cell, set(least.tied_with)) == ("toy/little", {"toy/base", "toy/hair"})
    assert least.decided_by == "weight"
    alone = evolve(results, picks=(evolve(least, decided_by=None),))
    tied = "tied with `base` and `hair` within 50 %, the only one that no other dominates."
    assert tied in markdown.render(alone)


@pytest.mark.parametrize(
    ("ours", "theirs", "pair"),
    [({"n": 32}, {"n": 32}, True), ({"n": 32}, {"n": 256}, False), ({"n": 32, "bits": 8}, {"n": 32}, True)],
)
def test_pairs_have_the_same_options(
    builders: ModuleType, ours: dict[str, int], theirs: dict[str, int], pair: bool
) -> None:
    """Options that both cells have must be equal; a recipe with other options is another recipe."""
    run = builders.Run(cells={"ours": builders.Cell(counterpart="theirs"), "theirs": builders.Cell()})
    plain = run.results()
    options = {"toy/ours": ours, "toy/theirs": theirs}
    results = analyse(
        run=plain.run,
        environment=plain.environment,
        metrics=plain.metrics,
        configs=plain.configs,
        cells={name: evolve(cell, options=options.get(name, {})) for name, cell in plain.cells.items()},
        recording=run.recording(),
        failures={},
    )
    assert [(entry.cell, entry.counterpart) for entry in results.pairs] == [("toy/ours", "toy/theirs")] * pair


def test_one_column_of_outputs_shows_no_agreement(builders: ModuleType) -> None:
    """Outputs of one column have no agreement, for their only value is always the highest."""
    run = builders.Run(cells={"ours": builders.Cell(counterpart="theirs"), "theirs": builders.Cell()})
    recording = run.recording()
    column = np.random.default_rng(0).normal(size=(1000, 1)).astype(np.float32)
    recording.outputs["toy/ours"], recording.outputs["toy/theirs"] = {OUTPUT: column}, {OUTPUT: -column}
    (pair,) = run.results(recording).pairs
    assert (pair.agreement, pair.n) == (None, 0)


def test_a_slow_cell_changes_no_figure_of_the_others(builders: ModuleType) -> None:
    """Its few calls in a wave are compared with as few of the baseline's, and change no other figure."""
    cells = {"quick": builders.Cell(delay=0.5), "other": builders.Cell(delay=0.7)}
    alone = builders.Run(cells=cells, rounds=5, noise=0.03)
    beside = evolve(alone, cells=cells | {"slow": builders.Cell(delay=60.0, calls=1)})
    recording = beside.recording()
    for cell, series in alone.recording().series.items():
        recording.series[cell] |= series
    before, after = alone.results(), beside.results(recording)
    assert delta(after, "quick", "delay", 1) == delta(before, "quick", "delay", 1)
    kept = measurement(after, "quick", "delay", 1).comparisons
    assert [comparison for comparison in kept if comparison.against == "toy/other"] == [
        comparison
        for comparison in measurement(before, "quick", "delay", 1).comparisons
        if comparison.against == "toy/other"
    ]
    slow = delta(after, "slow", "delay", 1)
    assert slow.ci[0] < 1 / 30 < slow.ci[1]
    quantity = Quantity(builders.DELAY, Point(1), recording, "toy/base")
    names = ["toy/base", "toy/quick", "toy/slow"]
    axis = make_axis(quantity, names)
    for i, j in itertools.permutations(range(3), 2):
        # The axis has the same interval as the comparison of the pair by itself.
        ci = quantity.compare(names[i], names[j]).ci
        assert sorted((axis.low[i, j], axis.high[i, j])) == pytest.approx(sorted(np.log(ci)), rel=1e-3)


def _in_some_rounds(series: Series) -> Series:
    """Return the samples of the first three waves, and of five of the 15 rounds of each of the others."""
    is_kept = (series.wave < 3) | np.isin(series.round, spread_rounds(15, 5))
    fields = {name: getattr(series, name)[is_kept] for name in ("values", "wave", "round", "position")}
    return evolve(series, **fields)


def test_cells_with_fewer_rounds_are_compared_in_those_that_they_share(builders: ModuleType) -> None:
    """A pair has the rounds that both have; the values of others, and pairs without such a cell, stay."""
    cells = {name: builders.Cell(delay=delay) for name, delay in (("quick", 0.5), ("quicker", 0.2))}
    recording = builders.Run(cells=cells, rounds=15, noise=0.03).recording()
    whole = Quantity(builders.DELAY, Point(1), recording, "toy/base")
    thinned = Recording({cell: {**series} for cell, series in recording.series.items()})
    thinned.add("toy/quick", whole.figure, _in_some_rounds(whole.series("toy/quick")))
    quantity = Quantity(builders.DELAY, Point(1), thinned, "toy/base")
    names = ["toy/base", "toy/quick", "toy/quicker"]
    assert quantity.compare("toy/base", "toy/quicker") == whole.compare("toy/base", "toy/quicker")
    assert quantity.estimate("toy/base") == whole.estimate("toy/base")
    only = Recording()
    for cell in names:
        only.add(cell, whole.figure, _in_some_rounds(whole.series(cell)))
    in_shared = Quantity(builders.DELAY, Point(1), only, "toy/base")
    assert quantity.compare("toy/quick", "toy/base") == in_shared.compare("toy/quick", "toy/base")
    assert quantity.compare("toy/quick", "toy/base") != whole.compare("toy/quick", "toy/base")
    axis = make_axis(quantity, names)
    for i, j in itertools.permutations(range(3), 2):
        ci = quantity.compare(names[i], names[j]).ci
        assert sorted((axis.low[i, j], axis.high[i, j])) == pytest.approx(sorted(np.log(ci)), rel=1e-3)


def test_launches_are_compared_in_waves_that_both_had(builders: ModuleType) -> None:
    """One shared wave gives a ratio without an interval, and no shared wave gives none, as on the front."""
    base = builders.Cell(waves=range(4))
    for waves, value in (((3, 4, 5), pytest.approx(0.8, rel=0.02)), ((4, 5, 6), None)):
        cells = {"less": builders.Cell(heap=400, waves=waves)}
        results = builders.Run(cells=cells, base=base, metrics=(builders.HEAP,)).results()
        compared = measurement(results, "less", "heap").vs_baseline
        assert (compared and compared.value) == value
        assert compared is None or (compared.ci, compared.clear) == (None, False)


def test_exact_values_that_are_equal_have_a_ratio(builders: ModuleType) -> None:
    """Equal exact values have the ratio 1, also two zeros and values however small."""
    nothing = builders.Cell(weight=0)
    run = builders.Run(cells={"same": nothing, "more": builders.Cell(weight=5)}, base=nothing)
    results = evolve(run, metrics=(builders.WEIGHT,)).results()
    assert delta(results, "same", "weight").ci == (1.0, 1.0)
    assert measurement(results, "more", "weight").vs_baseline is None
    small = builders.Run(cells={"tiny": builders.Cell(weight=2e-200)}, base=builders.Cell(weight=1e-200))
    assert delta(evolve(small, metrics=(builders.WEIGHT,)).results(), "tiny", "weight").value == 2.0


def test_who_is_not_judged_for_want_of_a_ratio_is_told_so(builders: ModuleType) -> None:
    """A sample that is not positive keeps a cell off the front, and the table says why."""
    run = builders.Run(cells={"nothing": builders.Cell()})
    recording = run.recording()
    series = recording.series["toy/nothing"]
    series[Figure("heap")] = evolve(series[Figure("heap")], values=series[Figure("heap")].values * 0)
    results = run.results(recording)
    assert "toy/nothing" not in results.front
    assert "not judged: samples that are not positive have no ratio" in markdown.render(results)


def test_a_control_is_held_against_what_launches_give_alone(builders: ModuleType) -> None:
    """Derived values of items show no noise of launches, also where the control has them."""
    hits = evolve(builders.HITS, phase="derived")
    run = builders.Run(cells={"less": builders.Cell(hits=430)}, metrics=(hits,))
    recording = run.recording()
    recording.add("toy/control", Figure("hits"), evolve(recording.series["toy/less"][Figure("hits")]))
    assert delta(run.results(recording), "less", "hits").clear is True


# Picks that the noise does not allow, and cells that are another network ---------------------------


def undecided(results: Results, metric: str) -> UndecidedResult:
    """Return the undecided result of a metric by which nothing is picked."""
    (match,) = (entry for entry in results.undecided if entry.metric == metric)
    assert metric not in {pick.metric for pick in results.picks}
    return match


def test_noise_that_hides_the_best_allows_no_pick(builders: ModuleType) -> None:
    """Where any of several cells may be better by more than the margin, none is picked; all are named."""
    cells = {
        "one": builders.Cell(delay=1.0),
        "other": builders.Cell(delay=1.01),
        "slow": builders.Cell(delay=9.0),
    }
    run = builders.Run(cells=cells, noise=0.1)
    result = undecided(run.results(), "delay")
    assert (result.aim, result.point) == ("the quickest", Point(1))
    assert result.contenders == ("toy/one", "toy/other")
    assert result.half_width is not None and 0.02 < result.half_width < 0.5
    assert result.seconds is not None and result.seconds > run.results().run.measuring.seconds
    assert result.items is None
    still = evolve(run, noise=0.001).results()
    assert still.undecided == ()
    assert {pick.metric: pick.cell for pick in still.picks}["delay"] in result.contenders


def test_the_seconds_that_are_told_are_enough(builders: ModuleType) -> None:
    """In most runs with as many waves as the estimated seconds have room for, there is a pick."""
    cells = {"one": builders.Cell(heap=400.0), "other": builders.Cell(heap=404.0)}
    run = builders.Run(cells=cells, metrics=(builders.HEAP,), noise=0.02, seed=3)
    needed = undecided(run.results(), "heap").seconds
    assert needed is not None
    waves = range(round(6 * needed / 41.5))
    longer = {name: evolve(cell, waves=waves) for name, cell in cells.items()}
    base = builders.Cell(waves=waves)
    picked = sum(
        not evolve(run, cells=longer, base=base, control=base, seed=seed).results().undecided
        for seed in range(20)
    )
    assert picked >= 12


def test_too_few_items_allow_no_pick(builders: ModuleType) -> None:
    """A difference of one item among few shows how many items would do, and equal answers are a tie."""
    cells = {"one": builders.Cell(hits=860), "other": builders.Cell(hits=850)}
    few = builders.Run(cells=cells, items=100).results()
    result = undecided(few, "hits")
    assert result.contenders == ("toy/base", "toy/one", "toy/other")
    assert result.seconds is None
    assert result.items is not None and 100 < result.items < 10_000
    equal = builders.Run(cells={"one": builders.Cell()}, items=100).results()
    (pick,) = (pick for pick in equal.picks if pick.metric == "hits")
    assert {pick.cell, *pick.tied_with} == {"toy/base", "toy/one"}


def test_one_wave_allows_no_pick(builders: ModuleType) -> None:
    """A single wave has no interval, so nothing is picked, and no number of seconds is estimated."""
    once = builders.Cell(waves=(0,))
    cells = {"one": builders.Cell(delay=0.5, waves=(0,))}
    result = undecided(builders.Run(cells=cells, base=once, control=once).results(), "delay")
    assert set(result.contenders) == {"toy/base", "toy/one"}
    assert (result.half_width, result.seconds) == (None, None)


def test_a_loud_control_takes_picks_that_it_could_have_made(builders: ModuleType) -> None:
    """Where the control differs from the baseline, cells that differ by as much are not picked; more is."""
    cells = {"slightly": builders.Cell(delay=1.9), "much": builders.Cell(delay=1.0)}
    loud = builders.Cell(delay=2.4)
    results = builders.Run(cells=cells, control=loud).results()
    assert {pick.metric: pick.cell for pick in results.picks}["delay"] == "toy/much"
    result = undecided(builders.Run(cells={"slightly": cells["slightly"]}, control=loud).results(), "delay")
    assert result.contenders == ("toy/base", "toy/slightly")
    assert result.seconds is None


def test_nothing_is_picked_without_a_baseline(builders: ModuleType) -> None:
    """Where the baseline did not end well, it is unknown whether the others do what the model does."""
    failed = builders.Cell(outcome="failed", stage="probe", cause="not equal")
    results = builders.small(base=failed).results()
    assert (results.picks, results.undecided, results.outputs) == ((), (), ())


@pytest.mark.parametrize("metrics", ["all", "without outputs"])
def test_a_cell_below_0_db_is_no_pick(builders: ModuleType, metrics: str) -> None:
    """Outputs with an error larger than themselves are another network's, whatever metrics were chosen."""
    run = builders.small(metrics=builders.METRICS if metrics == "all" else builders.METRICS[1:])
    recording = run.recording()
    # The evaluation keeps outputs, whichever metrics there are.
    recording.outputs.update(builders.small().recording().outputs)
    assert {pick.metric: pick.cell for pick in run.results(recording).picks}["weight"] == "toy/quick"
    recording.outputs["toy/quick"] = {OUTPUT: 1 - recording.outputs["toy/quick"][OUTPUT]}
    recording.outputs[builders.CONTROL] = {OUTPUT: -recording.outputs["toy/base"][OUTPUT]}
    results = run.results(recording)
    outputs = {entry.cell: entry for entry in results.outputs}
    assert set(outputs) == {"toy/quick", "toy/alike"}
    assert outputs["toy/quick"].is_below_0_db and not outputs["toy/alike"].is_below_0_db
    assert outputs["toy/alike"].sqnr_db is None
    assert outputs["toy/quick"].sqnr_db == pytest.approx(10 * np.log10(1000 / (2 * 990)))
    assert "toy/quick" not in results.front
    assert "toy/quick" not in {pick.cell for pick in results.picks}
    # It dominates no cell: the others are judged as if it had not ended well.
    assert all("toy/quick" not in entry.dominated_by for entry in results.front.values())


@pytest.mark.parametrize("rubbish", [np.nan, np.inf])
def test_outputs_that_are_not_finite_are_below_0_db(builders: ModuleType, rubbish: float) -> None:
    """A single value that is not finite is enough, and where no outputs are kept nothing is said."""
    run = builders.small()
    recording = run.recording()
    recording.outputs["toy/alike"][OUTPUT][7, 1] = rubbish
    (copy,) = (entry for entry in run.results(recording).outputs if entry.cell == "toy/alike")
    assert (copy.sqnr_db, copy.is_below_0_db) == (None, True)
    recording.outputs.clear()
    results = run.results(recording)
    assert results.outputs == ()
    assert "toy/alike" in results.front
