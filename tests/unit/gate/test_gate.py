"""Rules held against runs with known truths: what is breached, what is met, and what is undecided."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attrs import evolve

from qx.analysis.measurements import analyse
from qx.comparison import Source, compare
from qx.errors import UsageError
from qx.gate import Ruling, decide, read_rules, report

ONE = {"fingerprint": "one"}


def source(run: Any, label: str = "run") -> Source:
    """Return a run as it would be read from its files."""
    run = evolve(run, environment={**ONE, **run.environment})
    return Source(place=label, results=run.results(), recording=run.recording(), label=label)


def gate(rules: str, run: Source, base: Source | None = None, *, other_weights: bool = False) -> Ruling:
    """Return the decisions of these rules."""
    Path("rules.toml").write_text(rules)
    return decide(read_rules(Path("rules.toml")), run, base, other_weights=other_weights)


def only_verdict(ruling: Ruling) -> str:
    """Return the verdict of the only decision."""
    (decision,) = ruling.decisions
    return decision.verdict


@pytest.fixture
def run(builders: ModuleType) -> Source:
    """Return a run in which ``quick`` has fewer hits, a quarter of the weight and four times the speed."""
    return source(builders.small())


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ('metric = "hits"\nlargest_drop = 0.05', "met"),
        ('metric = "hits"\nlargest_drop = 0.015', "too wide"),
        ('metric = "hits"\nlargest_drop = 0', "breached"),
        ('metric = "hits"\nlargest_increase = 0', "met"),
        ('metric = "hits"\nsmallest = 0.8', "met"),
        ('metric = "hits"\nsmallest = 0.85', "too wide"),
        ('metric = "hits"\nsmallest = 0.95', "breached"),
        ('metric = "weight"\nlargest = 260000', "met"),
        ('metric = "weight"\nlargest = 259999', "breached"),
        ('metric = "weight"\nlargest_increase = 0', "met"),
        ('metric = "weight"\nlargest_drop = 0.5', "breached"),
        ('metric = "delay"\nbatch_size = 1\nsmallest_speedup = 3.9', "met"),
        ('metric = "delay"\nbatch_size = 1\nsmallest_speedup = 4.1', "breached"),
        ('metric = "delay"\nbatch_size = 32\nsmallest_speedup = 4.0', "too wide"),
        ('metric = "delay"\nbatch_size = 1\nlargest_increase = 0', "met"),
        ('metric = "delay"\nbatch_size = 1\nlargest_drop = 0.5', "breached"),
        ('metric = "heap"\nlargest = 300', "breached"),
        ('metric = "heap"\nlargest_drop = 0.25', "met"),
    ],
)
def test_a_limit_is_decided_on_the_interval(run: Source, rule: str, verdict: str) -> None:
    """A limit is met where the whole interval keeps it, breached where all of it breaks it, else too wide."""
    assert only_verdict(gate(f'[[rule]]\nconfig = "quick"\n{rule}', run)) == verdict


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ('metric = "hits"\nlargest_drop = 0.03', "breached"),
        ('metric = "weight"\nlargest_increase = 0.02', "breached"),
        ('metric = "weight"\nlargest_increase = 0.05', "met"),
        ('metric = "delay"\nbatch_size = 1\nlargest_increase = 0.1', "breached"),
        ('metric = "delay"\nbatch_size = 1\nlargest_increase = 0.3', "met"),
        ('metric = "heap"\nlargest_increase = 0.02', "met"),
        ('metric = "heap"\nlargest_increase = 0.02\ndirectly = true', "met"),
    ],
)
def test_rules_against_a_base(run: Source, builders: ModuleType, rule: str, verdict: str) -> None:
    """Against BASE items are paired, sizes are exact, and launches are compared by their own baselines."""
    cells = {**builders.small().cells, "quick": builders.Cell(hits=790, weight=270_000, delay=0.6, heap=400)}
    worse = source(builders.small(cells=cells, seed=5))
    text = f'[[rule]]\nconfig = "quick"\nagainst = "base"\n{rule}'
    assert only_verdict(gate(text, worse, run)) == verdict


def test_an_unchanged_run_keeps_the_strictest_rules(run: Source) -> None:
    """Identical answers are no drop at all, and the same bytes no increase."""
    rules = (
        '[[rule]]\nmetric = "hits"\nagainst = "base"\nlargest_drop = 0\nconfig = ["quick", "alike"]\n'
        '[[rule]]\nmetric = "weight"\nagainst = "base"\nlargest_increase = 0\nconfig = ["quick", "alike"]\n'
    )
    ruling = gate(rules, run, run)
    assert {decision.verdict for decision in ruling.decisions} == {"met"}
    assert ruling.passes(strict=True)


def test_other_weights_can_be_allowed(run: Source, builders: ModuleType) -> None:
    """A retrained model is held against its predecessor on the same items, and every medium says so."""
    cells = {**builders.small().cells, "quick": builders.Cell(hits=790, weight=260_000, delay=0.5, heap=400)}
    worse = source(builders.small(cells=cells, seed=5, workload={"weights_sha256": "ffff0000ff"}))
    rule = '[[rule]]\nconfig = ["quick", "alike"]\nmetric = "hits"\nagainst = "base"\nlargest_drop = 0.03\n'
    with pytest.raises(UsageError, match="give --other-weights to compare them anyway"):
        gate(rule, worse, run)
    ruling = gate(rule, worse, run, other_weights=True)
    assert [decision.cell for decision in ruling.with_verdict("breached")] == ["toy/quick"]
    assert [decision.cell for decision in ruling.with_verdict("met")] == ["toy/alike"]
    words = "other weights than run of toy (SHA-256 ffff0000 against d0a5e0ad)"
    assert report.notes(ruling) == [f"note: {words}; hits on the same items in pairs; all else as usual"]
    lines = report.screen(ruling, 200, strict=False)
    media = (
        "\n".join(text for spans in lines for text, _ in spans),
        report.to_markdown(ruling, "now", "base", strict=False),
        report.to_junit(ruling, worse, run, "rules.toml", strict=False).decode(),
    )
    assert all(words in medium for medium in media)


def test_weights_that_decide_nothing_are_not_mentioned(run: Source) -> None:
    """Where weights are the same, or no rule is against BASE, there is no note on other weights."""
    rule = '[[rule]]\nconfig = "quick"\nmetric = "hits"\nlargest_drop = 0\n'
    assert not gate(f'{rule}against = "base"\n', run, run, other_weights=True).notes
    record = evolve(run.results.run.workloads["toy"], weights_sha256="ffff0000ff")
    results = evolve(run.results, run=evolve(run.results.run, workloads={"toy": record}))
    assert not gate(rule, run, evolve(run, results=results), other_weights=True).notes


def test_noise_is_told_apart_from_a_wide_interval(builders: ModuleType) -> None:
    """An interval that breaks the limit by no more than the control's noise is no breach, and says so."""
    cells = {"slightly": builders.Cell(delay=2.06)}
    rule = '[[rule]]\nmetric = "delay"\nsmallest_speedup = 1\n'
    (decision,) = gate(rule, source(builders.Run(cells=cells, control=builders.Cell(delay=2.2)))).decisions
    assert decision.verdict == "too wide"
    assert decision.line.split(": ")[2].startswith("0.97")
    assert "], no larger than the noise that the control shows (smallest_speedup" in decision.line
    assert only_verdict(gate(rule, source(builders.Run(cells=cells)))) == "breached"


@pytest.mark.parametrize(
    ("count", "most"),
    # At 1 %, which is promised, more have a probability below 0.004.
    [(100, 4), pytest.param(300, 9, marks=pytest.mark.slow)],
)
def test_rules_are_held_jointly(builders: ModuleType, count: int, most: int) -> None:
    """Of runs whose truth lies on every limit, few show a breach; unadjusted, two in fifteen would."""
    rules = (
        '[[rule]]\nmetric = "delay"\nsmallest_speedup = 1\n'
        '[[rule]]\nmetric = "heap"\nlargest_increase = 0\nlargest_drop = 0\n'
    )
    alarms = sum(
        not gate(rules, source(builders.Run(cells={"alike": builders.Cell()}, seed=seed, noise=0.02))).passes(
            strict=False
        )
        for seed in range(count)
    )
    assert alarms <= most


def test_the_level_goes_by_the_number_of_intervals(run: Source) -> None:
    """Bonferroni's level counts no exact values, and ``false_alarms`` can be set."""
    rules = '[[rule]]\nconfig = "quick"\nmetric = "delay"\nsmallest_speedup = 1\n'
    assert gate(rules, run).level == pytest.approx(1 - 2 * 0.01 / 2)
    exact = rules + '[[rule]]\nconfig = "quick"\nmetric = "weight"\nlargest = 1\n'
    assert gate(f"false_alarms = 0.05\n{exact}", run).level == pytest.approx(1 - 2 * 0.05 / 2)


def test_strict_fails_where_it_cannot_be_told(run: Source) -> None:
    """A verdict of too wide passes, but not with ``--strict``."""
    ruling = gate('[[rule]]\nconfig = "quick"\nmetric = "hits"\nlargest_drop = 0.015\n', run)
    assert ruling.passes(strict=False) and not ruling.passes(strict=True)


def test_a_cell_that_failed_breaches(run: Source, builders: ModuleType) -> None:
    """A missing figure is a breach, and an unsupported cell is excused unless a rule names it."""
    rule = '[[rule]]\nmetric = "weight"\nlargest = 9000000\n'
    (breach,) = gate(rule, run).with_verdict("breached")
    assert "lost: weight: no figure: failed in convert: ValueError: no | pipe" in breach.line
    cells = {"lost": builders.Cell(outcome="unsupported", stage="convert", cause="no such layer")}
    excused = source(builders.Run(cells=cells))
    assert only_verdict(gate(rule, excused)) == "not applicable"
    assert only_verdict(gate(f'{rule}config = "lost"\n', excused)) == "breached"


def test_cells_that_only_one_run_has(run: Source, builders: ModuleType) -> None:
    """A cell that is gone is undecided, and a new one has nothing to be held against."""
    few = source(builders.Run(cells={"quick": builders.small().cells["quick"]}))
    rule = '[[rule]]\nmetric = "weight"\nagainst = "base"\nlargest_increase = 0.1\n'
    verdicts = {decision.config: decision.verdict for decision in gate(rule, few, run).decisions}
    assert verdicts == {"quick": "met", "alike": "too wide", "lost": "too wide"}
    verdicts = {decision.config: decision.verdict for decision in gate(rule, run, few).decisions}
    assert verdicts == {"quick": "met", "alike": "not applicable", "lost": "breached"}
    assert only_verdict(gate(f'{rule}config = "alike"\n', run, few)) == "too wide"


def test_a_rule_against_the_runtime_baseline(builders: ModuleType) -> None:
    """The rule applies to configs that have a runtime baseline, and refuses another with the choices."""
    small_cells = builders.small().cells
    cells = {**small_cells, "quick": evolve(small_cells["quick"], runtime_baseline="alike")}
    run = source(builders.small(cells=cells))
    rule = '[[rule]]\nmetric = "weight"\nagainst = "runtime_baseline"\nlargest_increase = 0\n'
    ruling = gate(rule, run)
    verdicts = {decision.config: decision.verdict for decision in ruling.decisions}
    assert verdicts == {"quick": "met", "alike": "not applicable", "lost": "not applicable"}
    assert ruling.passes(strict=True)
    assert only_verdict(gate(f'{rule}config = "quick"\n', run)) == "met"
    words = r"the runtime baseline, which is not defined for config 'alike' \(choose from quick\)"
    with pytest.raises(UsageError, match=words):
        gate(f'{rule}config = ["quick", "alike"]\n', run)


def test_a_run_without_a_label_is_called_by_its_place(run: Source) -> None:
    """Where nobody named the runs, a reason says which file it is about."""
    rule = '[[rule]]\nconfig = "quick"\nmetric = "hits"\nagainst = "base"\nlargest_drop = 0.1'
    nameless = evolve(run, label="", place="now/full_results.json", recording=None)
    (decision,) = gate(rule, nameless, evolve(run, label="")).decisions
    assert "cannot be decided: now/full_results.json: its raw samples are not beside" in decision.line


def test_a_metric_with_other_options_cannot_be_told(builders: ModuleType) -> None:
    """What BASE measured with other options decides nothing."""
    before, now = (
        source(builders.small(run={"metric_options": {"hits": {"k": k}}}), f"k{k}") for k in (1, 5)
    )
    rule = '[[rule]]\nconfig = "quick"\nmetric = "hits"\nagainst = "base"\nlargest_drop = 0.1'
    (decision,) = gate(rule, now, before).decisions
    assert decision.verdict == "too wide"
    assert "measured with other options: k is 5 in k5 and 1 in k1" in decision.line


def test_without_samples_stored_intervals_are_widened(run: Source) -> None:
    """The verdicts of clear cases stay, and the method names the stored interval."""
    bare = evolve(run, recording=None)
    rule = '[[rule]]\nconfig = "quick"\nmetric = "delay"\nbatch_size = 1\nsmallest_speedup = '
    for amount, verdict in (("3.9", "met"), ("4.1", "breached")):
        ruling = gate(rule + amount, bare)
        assert only_verdict(ruling) == verdict
        assert "stored" in ruling.decisions[0].method
        assert "stored" not in gate(rule + amount, run).decisions[0].method
    against = '[[rule]]\nconfig = "quick"\nmetric = "hits"\nagainst = "base"\nlargest_drop = 0.1'
    assert only_verdict(gate(against, bare, run)) == "too wide"


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (
            '[[rule]]\nmetric = "speed"\nlargest = 1',
            "rule 1: unknown metric 'speed' (choose from hits, weight",
        ),
        (
            '[[rule]]\nmetric = "hits"\nlargest = 1\nconfig = "x"',
            "unknown config 'x' (choose from base, quick",
        ),
        ('[[rule]]\nmetric = "hits"\nlargest = 1\nworkload = "x"', "unknown workload 'x' (choose from toy)"),
        ('[[rule]]\nmetric = "delay"\nlargest = 1\nbatch_size = 2', "no batch size 2 (choose from 1, 32)"),
        ('[[rule]]\nmetric = "hits"\nmost = 1', "unknown key 'most' (choose from metric, config"),
        ('[[rule]]\nmetric = "hits"', "rule 1 sets no limit; choose from largest, smallest"),
        ("[[rule]]\nlargest = 1", "rule 1 must name its metric"),
        ('[[rule]]\nmetric = "hits"\nlargest = "1"', "largest must be a number, not '1'"),
        ('[[rule]]\nmetric = "hits"\nlargest_drop = -1', "largest_drop must be a number from 0, not -1"),
        ('[[rule]]\nmetric = "hits"\nlargest = true', "largest must be a number, not True"),
        ('[[rule]]\nmetric = "hits"\nlargest = nan', "largest must be a number, not nan"),
        ('[[rule]]\nmetric = "hits"\nsmallest_speedup = 1', "hits is not compared by speedup"),
        (
            '[[rule]]\nmetric = "heap"\nlargest_drop = 5',
            "largest_drop of heap must be a share below 1, not 5",
        ),
        (
            '[[rule]]\nmetric = "hits"\nlargest = 1\nagainst = "me"',
            "unknown against 'me' (choose from baseline",
        ),
        (
            '[[rule]]\nmetric = "hits"\nlargest_drop = 1\nagainst = "base"',
            "is against base: name the results",
        ),
        (
            '[[rule]]\nmetric = "hits"\nlargest = 1\nconfig = 3',
            "config must be a name or a list of them, not 3",
        ),
        ("[rule]\nlargest = 1", "has no rules"),
        ("", "has no rules"),
        ("rule = 1", "has no rules"),
        ("rules = []", "unknown key 'rules' (choose from rule, false_alarms)"),
        ("false_alarms = 2\n[[rule]]\nmetric = 'hits'\nlargest = 1", "false_alarms must be a number from"),
        ("[[rule", "is not TOML"),
    ],
)
def test_mistakes_in_rules_are_told(run: Source, rules: str, words: str) -> None:
    """A rules file with a mistake is refused in a line that names the rule and the choices."""
    with pytest.raises(UsageError) as caught:
        gate(rules, run)
    assert words in str(caught.value)
    assert str(caught.value).startswith("rules.toml") and "\n" not in str(caught.value)


def test_a_cell_of_a_grid_is_held_to_its_own_workload(builders: ModuleType) -> None:
    """Waves of another workload, with more rounds in each, take nothing from its figures."""
    few = builders.Run(cells={"quick": builders.Cell(delay=0.5)}, rounds=4)
    alone, many = few.results(), evolve(few, rounds=8, seed=1).recording()
    recording = few.recording()
    cells = dict(alone.cells)
    for name, series in many.series.items():
        other = name.replace("toy/", "other/")
        cells[other] = evolve(alone.cells[name], workload="other")
        for key, samples in series.items():
            recording.add(other, key, samples)
        if name in many.outputs:
            recording.outputs[other] = many.outputs[name]
    record = evolve(alone.run.workloads["toy"], measuring=alone.run.measuring)
    workloads = {name: evolve(record, baseline=f"{name}/base") for name in ("toy", "other")}
    results = analyse(
        run=evolve(alone.run, workloads=workloads),
        environment=evolve(alone.environment, **ONE),
        metrics=alone.metrics,
        configs=alone.configs,
        cells=cells,
        recording=recording,
        failures={},
    )
    grid = Source(place="grid", results=results, recording=recording, label="grid")
    ruling = gate('[[rule]]\nmetric = "delay"\nsmallest_speedup = 3.9', grid)
    assert {decision.cell: decision.verdict for decision in ruling.decisions} == {
        "toy/quick": "met",
        "other/quick": "met",
    }
    changes = compare([evolve(grid, label="before"), evolve(grid, label="after")]).changes
    assert {change.verdict for change in changes if change.metric == "delay"} == {"same"}


def test_an_absolute_limit_must_be_missed_by_more_than_the_noise(builders: ModuleType) -> None:
    """Where the control is off by a fifth, a memory of 1 % above an absolute limit is no breach."""
    rule = '[[rule]]\nconfig = "quick"\nmetric = "heap"\nlargest = 495'
    cells = {"quick": builders.Cell(heap=500)}
    assert only_verdict(gate(rule, source(builders.Run(cells=cells)))) == "breached"
    assert (
        only_verdict(gate(rule, source(builders.Run(cells=cells, control=builders.Cell(heap=600)))))
        == "too wide"
    )


def test_a_stored_interval_has_the_waves_of_both(builders: ModuleType) -> None:
    """Without samples, an interval of the baseline's two waves is not widened as if there were six."""
    two = builders.Cell(waves=(0, 1))
    whole = source(builders.Run(cells={"quick": builders.Cell(delay=1.9)}, base=two, noise=0.01))
    rule = '[[rule]]\nconfig = "quick"\nmetric = "delay"\nlargest_drop = 0.0'
    for run in (whole, evolve(whole, recording=None)):
        assert only_verdict(gate(rule, run)) == "too wide"


def test_an_interval_that_says_nothing_is_told_as_none(builders: ModuleType) -> None:
    """An interval of two noisy waves is shown as none, with or without samples."""
    two = builders.Cell(waves=(0, 1))
    cells = {f"quick{number}": builders.Cell(delay=1.9, waves=(0, 1)) for number in range(40)}
    whole = source(builders.Run(cells=cells, base=two, control=two, noise=0.3))
    for run in (whole, evolve(whole, recording=None)):
        ruling = gate('[[rule]]\nmetric = "delay"\nlargest_drop = 0.0', run)
        assert {decision.verdict for decision in ruling.decisions} == {"too wide"}
        assert all("without an interval" in decision.seen for decision in ruling.decisions)


def test_a_sweep_of_a_runtime_baseline_is_held_to_the_same_options(builders: ModuleType) -> None:
    """The gate compares with the same cell as the table, with samples and without."""
    simulated = {
        "rt": builders.Cell(delay=2.0),
        "rt256": builders.Cell(delay=1.0),
        "q": builders.Cell(delay=0.9, runtime_baseline="rt"),
    }
    run = builders.Run(cells=simulated)
    plain, recording = run.results(), run.recording()
    options = {"toy/rt": {"n": 32}, "toy/rt256": {"n": 256}, "toy/q": {"n": 256}}
    cells = {name: evolve(cell, options=options.get(name, {})) for name, cell in plain.cells.items()}
    cells["toy/rt256"] = evolve(cells["toy/rt256"], config="rt")
    results = analyse(
        run=plain.run,
        environment=evolve(plain.environment, **ONE),
        metrics=plain.metrics,
        configs={name: config for name, config in plain.configs.items() if name != "rt256"},
        cells=cells,
        recording=recording,
        failures={},
    )
    rule = '[[rule]]\nconfig = "q"\nmetric = "delay"\nsmallest_speedup = 1.5\nagainst = "runtime_baseline"'
    for kept in (recording, None):
        swept = Source(place="sweep", results=results, recording=kept, label="sweep")
        assert only_verdict(gate(rule, swept)) == "breached"


def test_the_noise_counts_without_samples_too(builders: ModuleType) -> None:
    """The control's noise is known from the results alone."""
    run = source(builders.Run(cells={"quick": builders.Cell(heap=500)}, control=builders.Cell(heap=600)))
    rule = '[[rule]]\nconfig = "quick"\nmetric = "heap"\nlargest = 495'
    assert (
        only_verdict(gate(rule, run)) == only_verdict(gate(rule, evolve(run, recording=None))) == "too wide"
    )


def test_a_value_below_nothing_is_held_against_a_limit(builders: ModuleType) -> None:
    """A value without a logarithm is held against a limit, though not against the noise."""
    heap = evolve(builders.HEAP, compare="difference", margin=1.0)
    below = builders.Cell(heap=-5.0)
    run = source(builders.Run(cells={"quick": below}, metrics=(heap,)))
    rule = '[[rule]]\nconfig = "quick"\nmetric = "heap"\nsmallest = 0.1'
    assert only_verdict(gate(rule, run)) == "breached"


def test_a_metric_that_failed_is_compared_with_nothing(builders: ModuleType) -> None:
    """Samples of a metric that failed are no figure, whether of the cell or of its runtime baseline."""
    cells = {"quick": builders.Cell(delay=0.5, runtime_baseline="rt"), "rt": builders.Cell()}
    failed = {("toy/rt", "delay"): ("timeout", "no end")}
    run = source(builders.Run(cells=cells, failures=failed))
    rule = (
        '[[rule]]\nconfig = "quick"\nmetric = "delay"\nsmallest_speedup = 1.5\nagainst = "runtime_baseline"'
    )
    (decision,) = gate(rule, run).decisions
    assert decision.verdict == "too wide"
    assert decision.reason == "cannot be decided: the results do not compare it with that"
