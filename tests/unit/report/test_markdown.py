"""``pareto.md``, read as its readers read it: rows, sections, sentences."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import pytest
from attrs import evolve

from qx.contract.figures import Figure, Point
from qx.contract.records import OUTPUT, LayerRow
from qx.report import markdown
from qx.results.run_record import Death, Unsteady


def tables(text: str) -> list[list[dict[str, str]]]:
    """Return the rows of every table, each by the titles of its columns, with plain spaces."""
    all_tables: list[list[dict[str, str]]] = []
    header: list[str] = []
    for line in [*text.replace("\N{NO-BREAK SPACE}", " ").splitlines(), ""]:
        if not line.startswith("|"):
            header = []
        elif not header:
            header = _cells(line)
            all_tables.append([])
        elif not set(line) <= set("|-"):
            all_tables[-1].append(dict(zip(header, _cells(line), strict=True)))
    return all_tables


def _cells(line: str) -> list[str]:
    parts = line.replace("\\|", "\0").strip("|").split("|")
    return [part.replace("\0", "|").replace("`", "").strip() for part in parts]


def section(text: str, title: str) -> str:
    """Return the text under a heading."""
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_every_config_has_its_row(builders: ModuleType) -> None:
    """Each cell but the control has a row with every metric's value and delta, its build and its place."""
    figures, *_ = tables(markdown.render(builders.small().results()))
    assert [row["config"] for row in figures] == ["base<br>baseline", "quick", "alike", "lost"]
    assert list(figures[0]) == [
        "config",
        "hits",
        "weight",
        "delay<br>batch 1",
        "delay<br>batch 32",
        "heap",
        "build",
        "on the front",
    ]
    quick = figures[1]
    assert quick["hits"] == "85 % ±2<br>-1.00 pt [-1.67, -0.32]"
    assert quick["weight"] == "260 kB<br>0.260x"
    value, delta = quick["delay<br>batch 1"].split("<br>")
    assert value.startswith("0.49") and " ms ±" in value
    assert delta.startswith("4.00") and "x ±0." in delta
    assert quick["heap"].startswith("400 MiB ±0.2 %<br>0.799")
    assert (quick["build"], quick["on the front"]) == ("9.1 s", "yes")
    assert figures[0]["weight"] == "1.00 MB"
    assert figures[2]["build"] == "9.1 s<br>cached"


def test_what_is_not_clear_is_shown_so(builders: ModuleType) -> None:
    """A speedup that is not clear has its value, its interval, and a mark that says why."""
    text = markdown.render(builders.small().results())
    figures, *_ = tables(text)
    assert re.fullmatch(r"1\.00\dx\? \[0\.99\d, 1\.00\d\]", figures[2]["delay<br>batch 1"].split("<br>")[1])
    legend = '`?` behind a figure: not clear, the interval includes "no change".'
    assert legend in text and "`~` behind a figure" not in text
    noisy = builders.Run(
        cells={"slightly": builders.Cell(delay=1.96)},
        control=builders.Cell(delay=2.1),
        metrics=(builders.DELAY,),
    )
    text = markdown.render(noisy.results())
    figures, *_ = tables(text)
    assert re.search(r"<br>1\.0\d+x~ \[1\.0\d+, 1\.0\d+\]$", figures[1]["delay<br>batch 1"])
    assert "`~` behind a figure: not clear, no larger than the noise that the control shows." in text


def test_what_did_not_end_well_keeps_its_row(builders: ModuleType) -> None:
    """A row without figures has outcome, stage and cause, in one line, whatever the cause is made of."""
    cause = "ValueError: a|b\n__init__ of a_b took *all*\x1b[31m <b>"
    cells = {"lost": builders.Cell(outcome="out_of_memory", stage="convert", cause=cause)}
    text = markdown.render(builders.Run(cells=cells).results())
    figures, front, _ = tables(text)
    shown = r"**out of memory** in convert: ValueError: a|b \_\_init\_\_ of a_b took \*all\* \<b\>"
    assert figures[1]["hits"] == front[1]["why"] == shown
    assert set(list(figures[1].values())[2:-2]) == {"-"}
    assert (front[1]["on the front"], front[1]["resampled runs"]) == ("no", "-")
    assert "a\\|b" in text


def test_a_metric_that_failed_is_told(builders: ModuleType) -> None:
    """A missing figure in a good row is named with its cause, and one that does not apply is n/a."""
    cells = {"quick": builders.Cell(), "plain": builders.Cell(without=("heap",))}
    failures = {("toy/quick", "delay"): ("timeout", "no answer | in 600 s")}
    text = markdown.render(builders.Run(cells=cells, failures=failures).results())
    figures, front, _ = tables(text)
    assert figures[1]["delay<br>batch 1"] == "timeout"
    assert figures[2]["heap"] == "n/a"
    assert "- `quick`: `delay` **timeout**: no answer \\| in 600 s\n" in text
    assert text.count("**timeout**") == 1
    assert front[1]["why"] == "no figures of delay (batch 1)"


def test_the_front_is_said_in_words(builders: ModuleType) -> None:
    """The text says who is on the front by which axes, who is tied, who dominates whom, and how surely."""
    cells = {
        "one": builders.Cell(delay=0.5),
        "other": builders.Cell(delay=0.5),
        "worse": builders.Cell(delay=1.0),
    }
    run = builders.Run(cells=cells, metrics=(builders.WEIGHT, builders.DELAY))
    text = section(markdown.render(run.results()), "Front")
    assert "On the front, by weight and delay (batch 1): `one` and `other`." in text
    assert "`one` and `other` are tied: no axis tells them apart" in text
    (rows,) = tables(text)
    assert [row["on the front"] for row in rows] == ["no", "yes", "yes", "no"]
    assert rows[3]["why"] == "dominated by one and other"
    assert rows[1]["why"] == "tied with other"
    assert [row["resampled runs"] for row in rows][::3] == ["0 of 100", "0 of 100"]
    assert "12 of 100: it is on the front in 12 of 100 resampled runs" in text


def test_many_names_are_cut_short(builders: ModuleType) -> None:
    """A cell that many others dominate does not fill the page."""
    cells = {f"quick_{index}": builders.Cell(delay=0.5) for index in range(9)}
    _, front, _ = tables(markdown.render(builders.Run(cells=cells).results()))
    assert front[0]["why"] == "dominated by quick_0, quick_1, quick_2 and 6 more"


def test_no_front_is_said(builders: ModuleType) -> None:
    """Where nothing ended well, the page says so and still has its rows."""
    lost = builders.Cell(outcome="crashed", stage="build", cause="SIGSEGV", waves=())
    run = builders.Run(cells={}, base=lost, control=None, measuring={"ended_by": "the baseline failed"})
    text = markdown.render(run.results())
    assert "There is no front: no config has figures on all axes." in text
    assert "Measuring ended: the baseline failed" in text
    assert "The run has no control" in section(text, "Noise floor")


def test_a_failed_baseline_is_said_first(builders: ModuleType) -> None:
    """The first line says that there is nothing to compare with, and why, and nothing is picked."""
    failed = builders.Cell(outcome="failed", stage="probe", cause="7e-9 apart")
    text = markdown.render(builders.small(base=failed).results())
    warning = (
        "**The baseline failed, so nothing is compared with it and nothing is picked.** "
        "`base`: **failed** in probe: 7e-9 apart"
    )
    assert text.split("\n\n")[2] == warning
    assert "## Picks" not in text and "how it compares with" not in text


def test_another_network_is_marked_and_told(builders: ModuleType) -> None:
    """A row whose outputs are below 0 dB has a mark under its name, and a line above the table says why."""
    run = builders.small()
    recording = run.recording()
    recording.outputs["toy/quick"] = {OUTPUT: -recording.outputs["toy/quick"][OUTPUT]}
    recording.outputs["toy/alike"][OUTPUT][0, 0] = float("nan")
    text = markdown.render(run.results(recording))
    line = (
        "**Not the same network any more:** `quick` (SQNR -6.0 dB) and `alike` (no SQNR). Against `base` the "
        "error of the outputs is larger than the outputs themselves (below 0 dB), or they are not finite, or "
        "have another shape. Such a row is marked with !, and is neither on the front nor picked."
    )
    assert -1 < text.index(line) < text.index("| config")
    figures, front, _ = tables(text)
    marked = [row["config"] for row in figures]
    assert marked == ["base<br>baseline", "quick<br>! another network", "alike<br>! another network", "lost"]
    assert (figures[1]["on the front"], front[1]["why"]) == (
        "no",
        "not judged: not the same network any more",
    )
    assert "another network" not in markdown.render(run.results())


def test_picks_respect_ties(builders: ModuleType) -> None:
    """A pick names its aim, its batch size, its cell, the cells tied with it, and what decided."""
    cells = {"large": builders.Cell(delay=0.5), "little": builders.Cell(delay=0.5, weight=500_000)}
    picks = section(markdown.render(builders.Run(cells=cells).results()), "Picks")
    assert "- For **the lightest**, pick `little`.\n" in picks
    tied = "pick `little`; tied with `large` within 2 %, decided by `weight`.\n"
    assert f"- For **the quickest** (batch 1), {tied}" in picks


def test_the_noise_floor_is_under_the_table(builders: ModuleType) -> None:
    """The control's difference is shown with its interval, for each metric of launches and batch size."""
    text = markdown.render(builders.small().results())
    (rows,) = tables(section(text, "Noise floor"))
    assert [row["metric"] for row in rows] == ["delay (batch 1)", "delay (batch 32)", "heap"]
    assert rows[0]["control against baseline"].startswith("1.00")
    assert rows[0]["95 % interval"].startswith("[")
    assert "not to be trusted" not in text


def test_what_derives_from_another_metric_shows_no_noise_of_its_own(builders: ModuleType) -> None:
    """A metric and what derives from it have one line in the noise floor; alone, the derived has its own."""
    run = builders.Run(cells={})
    recording = run.recording()
    for series in recording.series.values():
        calls = series[Figure("delay", Point(1))]
        series[Figure("rate", Point(1))] = evolve(calls, values=1 / calls.values)
    derived = {
        "name": "rate",
        "phase": "derived",
        "better": "higher",
        "compare": "ratio",
        "derived_from": ["delay"],
    }
    rate = evolve(builders.DELAY, **derived)
    for metrics, shown in (((builders.DELAY, rate), ["delay (batch 1)"]), ((rate,), ["rate (batch 1)"])):
        text = markdown.render(evolve(run, metrics=metrics).results(recording))
        (rows,) = tables(section(text, "Noise floor"))
        assert [row["metric"] for row in rows] == shown


def test_an_alarm_is_seen_before_the_table(builders: ModuleType) -> None:
    """Where the control is not the baseline's equal, bold words above the table warn of the timings."""
    text = markdown.render(builders.small(control=builders.Cell(delay=2.1)).results())
    alarm = "**The timings of this run are not to be trusted.** In delay (batch 1) and delay (batch 32) the"
    assert -1 < text.index(alarm) < text.index("| config")
    (rows,) = tables(section(text, "Noise floor"))
    assert [row["control against baseline"].startswith("**") for row in rows] == [True, True, False]


@pytest.mark.parametrize(
    ("measuring", "words"),
    [
        (
            {"ended_by": "precision"},
            "Measuring ended with the precision asked for, ±1 %: 6 waves, 30 launches",
        ),
        (
            {"ended_by": "budget"},
            "Measuring ended with its budget of 60 s, before the precision of ±1 % was reached: 6 waves",
        ),
        (
            {"ended_by": "budget", "seconds": 211.6},
            "Measuring ended with its budget of 60 s (the least number of waves took 212 s), before the",
        ),
        (
            {"ended_by": "budget", "precision": 0.001, "seconds": 2e5},
            "more than a day of measuring would be needed to reach it: use a quieter machine (see",
        ),
        (
            {"ended_by": "waves"},
            "Measuring ended after the least number of waves, since no speedup was measured in them: 6 waves",
        ),
        (
            {"quick": True},
            "**This was a quick look**: with so few waves the intervals are too narrow.",
        ),
        (
            {"unsteady": (Unsteady(cell="toy/quick", point=Point(32)),)},
            "Calls were not steady yet when warming ended: `quick` (batch 32).",
        ),
        (
            {"fewer_rounds": {"toy/quick": 3, "toy/alike": 1}, "waves": 7},
            "Fewer rounds were enough for `quick` in 3 of 7 waves and for `alike` in 1 of 7 waves, since "
            "nothing that is decided here needs more.",
        ),
        (
            {"deaths": (Death(cell="toy/quick", wave=2, outcome="crashed", stage="block", cause="SIGSEGV"),)},
            "- A launch of `quick` died in wave 3 (crashed in block): SIGSEGV",
        ),
    ],
)
def test_it_is_told_how_the_measuring_went(
    builders: ModuleType, measuring: dict[str, Any], words: str
) -> None:
    """The page says what ended measuring, how much was measured, what was unsteady, and what died."""
    assert words in markdown.render(builders.small(measuring=measuring).results())


def test_the_title_says_what_was_measured(builders: ModuleType) -> None:
    """Workload, data and count of items make the title; command, seed and run stand under it."""
    text = markdown.render(builders.small(run={"command": ["qx", "run", "a|b"]}).results())
    first, _, second, *_ = text.splitlines()
    assert first == "# `toy` on toy points (1,000 items)"
    assert second.startswith(
        "Command `qx run a|b`, seed 0, run 20260102T030405-abcdef, started 2026-01-02 03:04 UTC"
    )


def test_the_environment_is_five_lines(builders: ModuleType) -> None:
    """CPU, instruction sets, engine, software and how quiet the machine was have a line each."""
    lines = section(markdown.render(builders.small().results()), "Environment").strip().splitlines()
    assert lines == [
        "- CPU: A CPU, x86_64, 2 CPUs to run on, 1 thread serving, 8 GiB of memory",
        "- Instruction sets: avx2, avx512_vnni",
        "- Engine: x86, of x86 and qnnpack",
        "- Software: Python 3.11.7, torch 2.14.1, Linux 6.1",
        "- Quiet: load 0.2, under a hypervisor, frequency governor unknown",
    ]


def test_an_environment_that_tells_little_is_no_error(builders: ModuleType) -> None:
    """A system that does not report its load, its flags or its engines still has a page."""
    unknown = {"cpu_flags": [], "load_before": None, "runtime": {}, "cpus": None, "governor": "performance"}
    text = markdown.render(builders.small(environment=unknown, run={"engine": None}).results())
    assert "- Quiet: under a hypervisor, frequency governor performance" in text
    assert "- Engine: none\n" in text


def test_a_runtime_baseline_has_its_own_table(builders: ModuleType) -> None:
    """A config with a runtime baseline shows its gain over that, and only such configs do."""
    cells = {
        "other_fp32": builders.Cell(delay=1.0, runtime_baseline="other_fp32"),
        "other_int8": builders.Cell(delay=0.25, runtime_baseline="other_fp32"),
        "own_int8": builders.Cell(delay=0.25, runtime_baseline="base"),
    }
    text = markdown.render(builders.Run(cells=cells).results())
    (rows,) = tables(section(text, "Against the runtime's own baseline"))
    assert [(row["config"], row["against"]) for row in rows] == [("other_int8", "other_fp32")]
    assert rows[0]["delay<br>batch 1"].startswith(("4.00", "3.99"))
    figures, *_ = tables(text)
    by_config = {row["config"].partition("<br>")[0]: row["delay<br>batch 1"] for row in figures}
    assert re.search(r"<br>runtime: (4\.00|3\.99)\d*x", by_config["other_int8"])
    assert "runtime:" not in by_config["other_fp32"] + by_config["own_int8"] + by_config["base"]
    assert "own baseline" not in markdown.render(builders.small().results())


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        ({"outcome": "unavailable", "stage": "plan", "cause": "needs it"}, "unavailable"),
        ({"outcome": "out_of_memory", "stage": "load", "cause": "no memory"}, "out of memory"),
        (None, "not in this run"),
    ],
)
def test_a_runtime_baseline_without_figures_is_told(
    builders: ModuleType, runtime: dict[str, str] | None, message: str
) -> None:
    """Where the runtime baseline has no figures, the cell says why, and no speedup is made up."""
    cells = {"other_int8": builders.Cell(delay=0.25, runtime_baseline="other_fp32")}
    if runtime is not None:
        cells["other_fp32"] = builders.Cell(**runtime)
    text = markdown.render(builders.Run(cells=cells).results())
    (rows,) = tables(section(text, "Against the runtime's own baseline"))
    assert rows[0]["against"] == "other_fp32"
    assert {figure for name, figure in rows[0].items() if name not in ("config", "against")} == {message}
    figures, *_ = tables(text)
    (row,) = (row for row in figures if row["config"] == "other_int8")
    assert row["delay<br>batch 1"].endswith(f"runtime: {message}")


def test_a_recipe_in_two_runtimes_has_a_row(builders: ModuleType) -> None:
    """Pairs are shown with the share of equal predictions and their comparison on each axis."""
    cells = {"there": builders.Cell(), "here": builders.Cell(hits=850, delay=1.0, counterpart="there")}
    text = markdown.render(builders.Run(cells=cells, noise=0.0).results())
    (rows,) = tables(section(text, "One recipe in two runtimes"))
    assert [(row["config"], row["counterpart"]) for row in rows] == [("here", "there")]
    assert rows[0]["same prediction"].startswith("99.0")
    assert rows[0]["hits"].startswith("-1.00")
    assert rows[0]["delay<br>batch 1"].startswith("2.00x")
    assert "two runtimes" not in markdown.render(builders.small().results())


def test_pairs_are_compared_by_their_predictions_whatever_the_front(builders: ModuleType) -> None:
    """The paired difference in right answers is shown after the axes where it is none itself."""
    metrics = (evolve(builders.HITS, axis=False), builders.WEIGHT, builders.DELAY)
    cells = {"there": builders.Cell(), "here": builders.Cell(hits=850, counterpart="there")}
    text = markdown.render(builders.Run(cells=cells, metrics=metrics, noise=0.0).results())
    (rows,) = tables(section(text, "One recipe in two runtimes"))
    names = ["config", "counterpart", "same prediction", "weight", "delay<br>batch 1", "hits"]
    assert list(rows[0]) == names
    assert rows[0]["hits"].startswith("-1.00")


def test_notes_of_an_artifact_are_told(builders: ModuleType) -> None:
    """The notes of an artifact stand under the table, with the config's name."""
    cells = {"narrow": builders.Cell(notes=("weights in 7 bits: no VNNI",))}
    text = markdown.render(builders.Run(cells=cells).results())
    assert "Notes:\n\n- `narrow`: weights in 7 bits: no VNNI\n" in text
    assert "Notes:" not in markdown.render(builders.small().results())


def test_a_table_by_layer_is_told_in_short(builders: ModuleType) -> None:
    """Of a table by layer the report says how many layers have how many bits, and the largest errors."""
    rows = [LayerRow(name=f"conv{index}", bits=4 if index < 3 else 8, error=index / 10) for index in range(9)]
    rows += [LayerRow(name="head|", bits=32), LayerRow(name="norm")]
    text = markdown.render(builders.Run(cells={"mixed": builders.Cell(layers=rows)}).results())
    (line,) = [line for line in text.splitlines() if line.startswith("- `mixed`: 11 layers")]
    assert "11 layers, 3 in 4 bits, 6 in 8 bits and 1 in 32 bits." in line
    assert "Largest relative errors: `conv8` 80.0 % (8 bits), `conv7` 70.0 % (8 bits), `conv6`" in line
    assert "conv3" not in line
    bare = builders.Cell(layers=(LayerRow(name="norm"),))
    assert "- `mixed`: 1 layer.\n" in markdown.render(builders.Run(cells={"mixed": bare}).results())
    many = [LayerRow(name=f"l{bits}", bits=bits / 10) for bits in range(10)]
    text = markdown.render(builders.Run(cells={"mixed": builders.Cell(layers=many)}).results())
    assert "1 in 0.5 bits and 4 in more." in text
    assert "By layer:" not in markdown.render(builders.small().results())


def test_metrics_are_told_by_their_records_alone(builders: ModuleType) -> None:
    """An unknown metric is a column, in its own unit, and the unit cannot break the table."""
    odd = evolve(builders.WEIGHT, name="odd", unit="a|b", compare="difference")
    run = builders.Run(cells={"quick": builders.Cell(weight=3)}, metrics=(*builders.METRICS, odd))
    recording = run.recording()
    for series in recording.series.values():
        if Figure("weight") in series:
            series[Figure("odd")] = series[Figure("weight")]
    figures, *_ = tables(markdown.render(run.results(recording)))
    assert figures[1]["odd"] == "3.00 a|b<br>-999,997.00 a|b"
