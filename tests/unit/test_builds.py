"""Further builds: the spread between them, the interval over builds and items, and where both are shown."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from qx.analysis import builds, whole_set
from qx.analysis.recompute import check_whole, read_samples, recompute
from qx.api.result import Result
from qx.comparison import Source, compare
from qx.comparison.changes import to_markdown
from qx.contract.figures import Figure
from qx.contract.records import Metric
from qx.errors import UsageError
from qx.gate import decide, read_rules
from qx.processes.answers import PlainSamples
from qx.report import markdown, screen, terminal
from qx.report.html.data import run_content
from qx.results import results_file
from qx.results.recording import Resampled, Series
from qx.results.records import BuildSpread, Results
from qx.runner.request import Request
from qx.statistics import over_builds
from qx.statistics.intervals import Difference
from qx.statistics.over_builds import Deviation

ITEMS = 400


def series(values: Any) -> Series:
    """Return a series of these values."""
    return Series.plain(PlainSamples(values=np.atleast_1d(np.asarray(values, dtype=float))))


def spread_of(results: Results, cell: str, metric: str = "hits") -> BuildSpread:
    """Return the spread between builds of a cell."""
    (spread,) = (
        measured.builds
        for measured in results.measurements
        if (measured.cell, measured.metric) == (cell, metric)
    )
    assert spread is not None
    return spread


# Statistics ---------------------------------------------------------------------------------------


def changed_answers(
    generator: np.random.Generator, count: int, effect: float, shared: float
) -> np.ndarray[Any, Any]:
    """Draw differences from the baseline of ``count`` builds on the same items, ``[builds, items]``.

    Each build loses 4 % of the items on average. ``effect`` is the standard deviation of that share between
    builds, and ``shared`` the share of items on which all builds have the same luck.
    """
    luck = np.where(
        generator.random(ITEMS) < shared, generator.random(ITEMS), generator.random((count, ITEMS))
    )
    rates = np.clip(0.04 + effect * generator.standard_normal(count), 0, 1)
    return -(luck < rates[:, None]).astype(float)


@pytest.mark.parametrize("shared", [0.0, 0.9])
@pytest.mark.parametrize("effect", [0.0, 0.012])
def test_the_interval_over_builds_holds_the_truth(effect: float, shared: float) -> None:
    """It holds the mean over all builds and items in 93 of 100 sets or more, whatever makes builds differ."""
    generator, held = np.random.default_rng(7), 0
    zeros = series(np.zeros(ITEMS))
    for _ in range(400):
        drawn = [series(1 + row) for row in changed_answers(generator, 5, effect, shared)]
        mean = builds._mean(METRIC, drawn, zeros)
        held += mean.ci[0] <= 0.96 <= mean.ci[1]
    assert held >= 0.93 * 400


def test_the_interval_within_does_not_hold_it() -> None:
    """The interval of a single build misses the mean over builds far more often."""
    generator, missed = np.random.default_rng(7), 0
    for _ in range(400):
        (row,) = changed_answers(generator, 1, 0.012, 0.9)
        estimate = builds.on_items.compare(METRIC, series(1 + row), series(np.ones(ITEMS)))
        assert estimate is not None and estimate.ci is not None
        missed += not estimate.ci[0] <= -0.04 <= estimate.ci[1]
    assert missed > 0.1 * 400


def test_two_builds_are_no_farther_apart_than_the_reach() -> None:
    """In 95 of 100 cases two new builds differ by no more than the spreads of two runs say."""
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(2000):
        spreads = [over_builds.deviation_of(generator.standard_normal(5)) for _ in range(2)]
        first, second = generator.standard_normal(2)
        held += abs(first - second) <= over_builds.reach_of(spreads)
    assert 0.935 <= held / 2000 <= 0.98


@pytest.mark.parametrize(("kind", "value"), [("difference", -0.01), ("ratio", 0.9), ("speedup", 1.2)])
def test_a_widened_interval_holds_the_old_one(kind: Any, value: float) -> None:
    """It is wider on both sides, about the same value; without a spread it is the same."""
    ends = (value - 0.02, value + 0.03)
    difference = Difference(kind, value, ends, 0.5, "m")
    wider = over_builds.widened(difference, [Deviation(0.01, 5), Deviation(0.02, 4)])
    assert wider.ci is not None and wider.ci[0] < ends[0] < ends[1] < wider.ci[1]
    assert (
        wider.value == value and wider.p == 0.5 and wider.method == "m, widened by the spread between builds"
    )
    assert over_builds.widened(difference, [Deviation(0.0, 5)] * 2) is difference
    assert over_builds.widened(evolve(difference, ci=None), [Deviation(0.1, 5)]).ci is None


# The record ---------------------------------------------------------------------------------------

METRIC = Metric(
    name="hits",
    summary="Right answers.",
    unit="fraction",
    better="higher",
    samples="per_item",
    compare="difference",
    phase="predictions",
)


def test_a_spread_has_the_values_of_all_builds() -> None:
    """Values by seed, their standard deviation, ends and mean, and that against the baseline."""
    by_seed = {3: series(np.arange(100) < 80), 4: series(np.arange(100) < 86), 5: series(np.arange(100) < 83)}
    spread = builds.spread(METRIC, by_seed, series(np.arange(100) < 90))
    assert spread is not None and spread.vs_baseline is not None
    assert spread.values == {"3": 0.8, "4": 0.86, "5": 0.83}
    assert spread.deviation == pytest.approx(0.03)
    assert (spread.smallest, spread.largest, spread.mean) == (0.8, 0.86, pytest.approx(0.83))
    assert spread.vs_baseline.value == pytest.approx(-0.07)
    assert spread.ci is not None and spread.ci[0] < 0.8 and 0.86 < spread.ci[1] <= 1


def test_builds_that_are_equal_have_the_interval_of_one() -> None:
    """Where every build gives the same, there is no spread, and no interval but that of the items."""
    row, base = series(np.arange(100) < 80), series(np.arange(100) < 90)
    spread = builds.spread(METRIC, {0: row, 1: row}, base)
    assert spread is not None and spread.vs_baseline is not None
    assert (spread.deviation, spread.mean, spread.method) == (0.0, 0.8, builds.EQUAL)
    assert spread.ci == builds.on_items.estimate(METRIC, row).ci
    single = builds.on_items.compare(METRIC, row, base)
    assert single is not None and spread.vs_baseline.ci == single.ci
    assert builds.spread(METRIC, {0: row}, base) is None


@pytest.mark.parametrize("compared", ["ratio", "speedup"])
def test_ratios_are_averaged_as_logs(compared: Any) -> None:
    """Sizes are exact, so their interval knows of builds alone; a mean of ratios is geometric."""
    size = evolve(METRIC, unit="bytes", samples="exact", compare=compared, phase="artifact")
    spread = builds.spread(size, {0: series(320.0), 1: series(500.0)}, series(400.0))
    assert spread is not None and spread.vs_baseline is not None and spread.vs_baseline.ci is not None
    assert spread.vs_baseline.value == pytest.approx(1.0)
    assert spread.vs_baseline.ci[0] < 0.5 and spread.vs_baseline.ci[1] > 2
    deviation = builds.deviation(size, spread)
    assert deviation is not None and deviation.value == pytest.approx(np.log(500 / 320) / np.sqrt(2))
    losses = evolve(METRIC, unit="nats", better="lower", compare=compared)
    rows = {0: series(np.linspace(1, 3, 50)), 1: series(np.linspace(2, 4, 50))}
    of_items = builds.spread(losses, rows, series(np.linspace(1, 3, 50)))
    assert of_items is not None and of_items.vs_baseline is not None
    expected = np.sqrt(3 / 2) if compared == "ratio" else np.sqrt(2 / 3)
    assert of_items.vs_baseline.value == pytest.approx(expected)
    negative = builds.spread(losses, {**rows, 2: series(-np.ones(50))}, series(np.ones(50)))
    assert negative is not None and negative.vs_baseline is None


def test_what_has_no_interval_has_none() -> None:
    """A single item says nothing of others, and builds that are far apart say nothing in between."""
    one = builds.spread(METRIC, {0: series(1.0), 1: series(0.0)}, series(1.0))
    assert one is not None and one.vs_baseline is not None
    assert one.ci is None and one.vs_baseline.ci is None and one.deviation > 0
    size = evolve(METRIC, unit="bytes", samples="exact", compare="ratio", phase="artifact")
    far = builds.spread(size, {0: series(1e-60), 1: series(1e60)}, series(1.0))
    assert far is not None and far.vs_baseline is not None and far.vs_baseline.ci is None
    near = over_builds.mean_over_builds([1e-100, 2e-100])
    assert near.ci is not None and near.ci[0] < near.value < near.ci[1]


def test_a_statistic_of_the_whole_set_has_a_spread_too() -> None:
    """Its interval rests on what each item moves the value by, averaged over the builds."""
    score = evolve(METRIC, name="score", unit="points", samples="per_set")

    def sample(value: float, shift: float) -> Series:
        influence = np.sin(np.arange(60) + shift)
        resampled = Resampled(value=value, items=60, influence=influence, draws=[], step=None)
        return evolve(series(value), resampled=(resampled,))

    spread = builds.spread(score, {0: sample(3.0, 0), 1: sample(3.4, 1)}, sample(3.1, 0))
    assert spread is not None and spread.ci is not None and spread.vs_baseline is not None
    assert spread.vs_baseline.value == pytest.approx(0.1)
    within = whole_set.estimate(sample(3.0, 0).resampled[0]).ci
    assert within is not None and np.ptp(spread.ci) > np.ptp(within)


def test_a_value_of_unknown_error_has_a_spread_and_no_interval() -> None:
    """One value for all items does not say how sure it is; that builds differ is known all the same."""
    single = evolve(METRIC, samples="exact")
    spread = builds.spread(single, {0: series(0.5), 1: series(0.75)}, series(0.6))
    assert spread is not None and spread.ci is None and spread.deviation > 0
    assert spread.vs_baseline is not None and spread.vs_baseline.ci is None


# Results ------------------------------------------------------------------------------------------


def test_results_with_builds_are_written_and_read(tmp_path: Path, builders: ModuleType) -> None:
    """They come back equal, samples of further builds as well, and give the same figures again."""
    results, recording = builders.with_builds(failed=1)
    results_file.write(tmp_path, results, "", recording)
    loaded, samples = results_file.read(tmp_path), read_samples(tmp_path / results.run.samples)
    assert loaded == results
    assert samples.further.keys() == recording.further.keys() == {("toy/quick", seed) for seed in range(1, 5)}
    assert samples.series.keys() == recording.series.keys()
    assert recompute(loaded, samples) == loaded
    assert len(spread_of(loaded, "toy/quick").values) == 5
    assert loaded.cells["toy/alike"].depends_on_seed is False
    assert loaded.cells["toy/quick"].depends_on_seed is True


def test_samples_of_a_build_that_are_missing_are_an_error(builders: ModuleType) -> None:
    """The build is named by its seed, whether its samples are missing or of other items."""
    results, recording = builders.with_builds()
    recording.further["toy/quick", 2][Figure("hits")] = series([1.0, 0.0])
    with pytest.raises(UsageError, match="hits of toy/quick, build with seed 2 is of other items"):
        check_whole(results, recording, Path("here.npz"))
    del recording.further["toy/quick", 2][Figure("hits")]
    with pytest.raises(UsageError, match="lack hits of toy/quick, build with seed 2"):
        check_whole(results, recording, Path("here.npz"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": {"0": 0.8, "77": 0.9}}, "values has the seed 77, and the seeds are 0, 1, 2, 3, 4"),
        ({"values": {"1": 0.8, "2": 0.9}}, "values lacks the seed of the run, 0"),
        ({"values": {"0": 0.8}}, "values must have at least 2 fields, not 1"),
        ({"smallest": 0.1}, "smallest and largest must be those of its values"),
        ({"deviation": -1}, "deviation must be at least 0, not -1"),
        ({"ci": [0.9, 0.8]}, "builds.ci must have its lower end first"),
    ],
)
def test_a_spread_that_contradicts_itself_is_refused(
    tmp_path: Path, builders: ModuleType, change: Any, message: str
) -> None:
    """One line names the measurement, the field and what was expected."""
    results, recording = builders.with_builds()
    results_file.write(tmp_path, results, "", recording)
    place = tmp_path / results_file.RESULTS
    fields = json.loads(place.read_text())
    spread = next(entry for entry in fields["measurements"] if entry["cell"] == "toy/quick")["builds"]
    spread.update(change)
    place.write_text(json.dumps(fields))
    with pytest.raises(UsageError, match=message):
        results_file.read(place)


def test_results_without_builds_are_read(tmp_path: Path, builders: ModuleType) -> None:
    """Results of before there were further builds lack the fields, and say of each config that it has one."""
    run = builders.small()
    results_file.write(tmp_path, run.results(), "", run.recording())
    place = tmp_path / results_file.RESULTS
    fields = json.loads(place.read_text())
    del fields["run"]["build_seeds"]
    for cell in fields["cells"].values():
        del cell["further_builds"]
    for measured in fields["measurements"]:
        del measured["builds"]
    for config in fields["configs"].values():
        del config["draws_data"]
    place.write_text(json.dumps(fields))
    assert results_file.read(place) == run.results()


# What is shown ------------------------------------------------------------------------------------


def calibrating(results: Results) -> Results:
    """Return results whose configs all calibrate."""
    configs = {name: evolve(config, draws_data=True) for name, config in results.configs.items()}
    return evolve(results, configs=configs)


def test_it_is_said_where_there_is_one_build(builders: ModuleType) -> None:
    """The whole report and the screen say that each config has one build, if that matters."""
    plain = builders.small().results()
    results = calibrating(plain)
    assert "Each config has one build" in " ".join(markdown.render(results).split())
    assert "Each config has one build" in " ".join(terminal.render(results, "simple", 100).split())
    assert "half of a 95 % interval of one build" in screen.render(results, width=100)
    assert "--build-seeds" not in markdown.render(plain)
    assert "of one build" not in screen.render(plain, width=100)


def test_the_spread_is_shown_beside_the_interval(builders: ModuleType) -> None:
    """Each report has the standard deviation between builds, and what has one build without randomness."""
    results, recording = builders.with_builds(failed=1)
    results = calibrating(results)
    page = markdown.render(results).replace(markdown.NO_BREAK, " ")
    assert "## Builds" in page and "with the seeds 0 to 5" in page
    (row,) = (line for line in page.splitlines() if line.startswith("| `quick`") and "sd " in line)
    assert "| 5<br>1 failed |" in row and "sd 0.87 pt<br>83.8 to 86.1 %<br>mean -1.00 pt" in row
    assert "`quick`, build with seed 5: **crashed** in convert: SIGSEGV" in page
    (row,) = (line for line in page.splitlines() if line.startswith("| `alike`") and "no randomness" in line)
    assert "sd" not in row
    text = terminal.render(results, "simple", 100)
    assert "sd 0.87 pt" in text and "no randomness" in text
    lines = screen.render(results, width=100).splitlines()
    assert any("6 builds" in line for line in lines) and any("sd, pt" in line for line in lines)
    assert next(line for line in lines if "quick" in line).split().count("0.87") == 1
    data = run_content(results, recording)["workloads"][0]
    (column,) = (column for column in data["columns"] if column["metric"] == "hits")
    names = [cell["name"] for cell in data["cells"]]
    assert column["buildsText"][names.index("quick")] == "5 builds: sd 0.87 pt"
    assert column["buildsText"][names.index("alike")] == ""


def test_a_change_that_other_builds_do_not_show_is_named(builders: ModuleType) -> None:
    """A difference that is clear for the build that was measured may not be one of its recipe."""
    results, _ = builders.with_builds(hits=(900, 840, 905, 890))
    own = next(entry for entry in results.measurements if (entry.cell, entry.metric) == ("toy/quick", "hits"))
    assert own.vs_baseline is not None and own.vs_baseline.clear
    assert spread_of(results, "toy/quick").vs_baseline is not None
    assert "is clear for the build that was measured" in markdown.render(results)


def test_records_have_the_spread(builders: ModuleType) -> None:
    """A figure of several builds has their number and spread in its record; another has None."""
    result = Result(*builders.with_builds())
    by_place = {(record["cell"], record["metric"]): record for record in result.to_records()}
    assert by_place["toy/quick", "hits"]["builds"] == 5
    assert by_place["toy/quick", "hits"]["builds_smallest"] == pytest.approx(0.838)
    assert by_place["toy/quick", "heap"]["builds"] is None
    frame = result.to_pandas()
    assert str(frame.dtypes["builds"]) == "Int64" and frame["builds_deviation"].max() == pytest.approx(
        0.00875, rel=0.01
    )


# Between runs -------------------------------------------------------------------------------------


def source(results: Results, recording: Any, label: str) -> Source:
    """Return a run as it would be read from its files."""
    return Source(place=label, results=results, recording=recording, label=label)


def test_a_difference_within_the_spread_is_no_change(builders: ModuleType) -> None:
    """Two runs whose builds differ by more than the runs do are the same, which is said with its mark."""
    worse = {**builders.small().cells, "quick": builders.Cell(hits=838, weight=260_000, delay=0.5, heap=400)}
    base = source(*builders.with_builds(), "base")
    ours = source(*builders.with_builds(hits=(846, 852, 835, 860), cells=worse), "ours")
    compared = compare([base, ours])
    (change,) = (change for change in compared.changes if (change.config, change.metric) == ("quick", "hits"))
    assert (change.verdict, change.why_same) == ("same", "builds")
    assert change.ci is not None and change.ci[1] < 0
    assert change.ci_over_builds is not None and change.ci_over_builds[1] > 0
    assert "`#` behind a figure: no larger than what another draw" in to_markdown(compared)
    # With one build of each there is nothing that excuses the difference.
    single = [source(run.results(), run.recording(), label) for run, label in (
        (builders.small(), "base"), (builders.small(cells=worse), "ours"),
    )]  # fmt: skip
    (change,) = (
        change for change in compare(single).changes if (change.config, change.metric) == ("quick", "hits")
    )
    assert (change.verdict, change.ci_over_builds) == ("worse", None)
    # The spread that one of two runs has stands for both.
    (change,) = (
        change
        for change in compare([single[0], ours]).changes
        if (change.config, change.metric) == ("quick", "hits")
    )
    assert change.why_same == "builds"


def test_a_gate_against_a_base_goes_by_the_wider_interval(tmp_path: Path, builders: ModuleType) -> None:
    """A rule against an earlier run is not breached by another draw; one on the artifact itself is."""
    worse = {**builders.small().cells, "quick": builders.Cell(hits=830, weight=260_000, delay=0.5, heap=400)}
    rules = tmp_path / "rules.toml"

    def verdict(rule: str, *, has_builds: bool) -> str:
        rules.write_text(f'[[rule]]\nconfig = "quick"\nmetric = "hits"\n{rule}\n')
        runs = [builders.small(), builders.small(cells=worse)]
        made = [builders.with_builds(), builders.with_builds(hits=(846, 852, 835, 860), cells=worse)]
        pairs = made if has_builds else [(run.results(), run.recording()) for run in runs]
        (base, ours) = (source(*pair, label) for pair, label in zip(pairs, ("base", "ours"), strict=True))
        (decision,) = decide(read_rules(rules), ours, base).decisions
        assert (", sd between 5 builds" in decision.seen) == has_builds
        assert ("widened by the spread between builds" in decision.method) == (has_builds and "base" in rule)
        return decision.verdict

    against = 'against = "base"\nlargest_drop = 0.001'
    assert verdict(against, has_builds=False) == "breached"
    assert verdict(against, has_builds=True) == "too wide"
    assert verdict("largest_drop = 0.001", has_builds=True) == "breached"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"build_seeds": 0}, "--build-seeds must be from 1 to 50, not 0"),
        ({"build_seeds": 51}, "--build-seeds must be from 1 to 50, not 51"),
        ({"build_seeds": 5, "seed": 2**63 - 3}, "--build-seeds 5: the last seed must be at most"),
    ],
)
def test_a_number_of_builds_that_cannot_be_is_refused(fields: Any, message: str) -> None:
    """One line says what was expected."""
    with pytest.raises(UsageError, match=message):
        Request(**fields).check()
    Request(build_seeds=50).check()
