"""The text that ``qx run`` and ``qx report`` print."""

from __future__ import annotations

import re
from types import ModuleType

import pytest
from attrs import evolve
from tabulate import tabulate_formats

from qx.contract.figures import Figure
from qx.contract.records import OUTPUT, LayerRow
from qx.errors import UsageError
from qx.report import terminal
from qx.results.records import Results
from qx.results.run_record import Death


def wide(builders: ModuleType) -> Results:
    """Return a run of more metrics than a terminal has room for, with names as long as real ones."""
    extra_metrics = [
        evolve(builders.WEIGHT, name=f"one_more_metric_{index}", axis=False, pick=None) for index in range(6)
    ]
    cells = {
        "static_int8_per_channel": builders.Cell(delay=0.5),
        "static_int8_per_tensor": builders.Cell(delay=0.45, cached=True),
        "a_config_that_was_lost": builders.Cell(
            outcome="failed", stage="prepare_model", cause="because " * 30
        ),
    }
    run = builders.Run(cells=cells, metrics=(*builders.METRICS, *extra_metrics), batch_sizes=(1, 32))
    recording = run.recording()
    for series in recording.series.values():
        if Figure("weight") in series:
            series |= {Figure(metric.name): series[Figure("weight")] for metric in extra_metrics}
    return run.results(recording)


@pytest.mark.parametrize("format", ["simple", "rounded_grid", "plain", "psql"])
@pytest.mark.parametrize("width", [80, 100, 120, 300])
def test_it_fits_the_terminal(builders: ModuleType, format: str, width: int) -> None:
    """No line is longer than the terminal is wide, nor than 120 columns: wide tables are cut in several."""
    shown = terminal.render(wide(builders), format, width)
    assert max(map(len, shown.splitlines())) <= min(width, 120)
    for index in range(6):
        assert f"one_more_metric_{index}" in shown
    assert len(re.findall(r"static_int8_per_channel +[│|]? +86 %", shown)) == 1


def test_the_width_is_that_of_the_terminal(builders: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a width, the terminal's is used."""
    results = wide(builders)
    for columns in (80, 118):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert terminal.render(results, "simple") == terminal.render(results, "simple", columns)


def test_value_and_delta_stand_in_one_cell(builders: ModuleType) -> None:
    """Under each value is its delta, and under that the interval where it stands alone."""
    lines = terminal.render(builders.small().results(), "simple", 100).splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("quick"))
    value, delta, interval = (re.split(r" {2,}", line.strip()) for line in lines[first : first + 3])
    assert value[:3] == ["quick", "85 % ±2", "260 kB"]
    assert delta[:2] == ["-1.00 pt", "0.260x"]
    assert interval == ["[-1.67, -0.32]"]
    assert lines[first - 1] == "baseline"


@pytest.mark.parametrize("format", tabulate_formats)
def test_all_of_tabulates_formats_are_there(builders: ModuleType, format: str) -> None:
    """Every format gives every figure, row, pick and outcome."""
    shown = terminal.render(builders.small().results(), format, 120)
    terminal.check_format(format)
    for words in (
        "260 kB",
        "0.260x",
        "alike",
        "9.1 s",
        "cached",
        "For the lightest, pick quick.",
    ):
        assert words in shown
    assert "failed" in shown and "convert" in shown


@pytest.mark.parametrize("format", ["github", "pipe"])
def test_rows_of_markdown_stay_rows(builders: ModuleType, format: str) -> None:
    """In Markdown a row is one line, with as many cells as the header has, whatever a cause is made of."""
    shown = terminal.render(builders.small().results(), format, 100)
    table = [line for line in shown.splitlines() if line.startswith("|")]
    assert [line.replace("\\|", "").count("|") - 1 for line in table] == [6] * 6 + [4] * 6
    assert "no \\| pipe" in shown and "\\\\|" not in shown


def test_an_unknown_format_is_told_with_the_choices() -> None:
    """A format that tabulate does not have is a mistake, and the formats are named."""
    with pytest.raises(UsageError, match=r"unknown format 'nice' \(choose from .*github.*simple"):
        terminal.check_format("nice")


def test_what_did_not_end_well_is_told_with_its_cause(builders: ModuleType) -> None:
    """The row of a cell without figures names its outcome, and the whole cause stands with the front."""
    shown = terminal.render(wide(builders), "simple", 100)
    assert re.search(r"a_config_that_was_lost +failed +- +-", shown)
    assert shown.count("because") == 30


def test_a_cause_does_not_steer_the_terminal(builders: ModuleType) -> None:
    """Escape sequences and line breaks of a plugin's message are not printed."""
    lost = builders.Cell(outcome="crashed", stage="convert", cause="\x1b[31mred\x1b[0m\nand\r\x07 more")
    shown = terminal.render(builders.Run(cells={"lost": lost}).results(), "simple", 100)
    assert "crashed in convert: red and \\x07 more" in shown
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", shown)


def test_a_failed_baseline_and_another_network_are_warned_of(builders: ModuleType) -> None:
    """Both are warnings above the table, as in ``pareto.md``."""
    failed = builders.Cell(outcome="failed", stage="probe", cause="7e-9 apart")
    shown = terminal.render(builders.small(base=failed).results(), "simple", 100)
    assert shown.split("\n\n")[1].startswith("WARNING: The baseline failed, so nothing is compared with it")
    run = builders.small()
    recording = run.recording()
    recording.outputs["toy/quick"] = {OUTPUT: -recording.outputs["toy/quick"][OUTPUT]}
    shown = terminal.render(run.results(recording), "simple", 100)
    assert (
        -1
        < shown.index("WARNING: Not the same network any more: quick (SQNR -6.0 dB).")
        < shown.index("config ")
    )
    assert re.search(r"^quick .*\n! another network ", shown, re.MULTILINE)


def test_an_alarm_is_seen_before_the_table(builders: ModuleType) -> None:
    """Where the control differs from itself, a warning stands above the table."""
    shown = terminal.render(builders.small(control=builders.Cell(delay=2.1)).results(), "simple", 100)
    assert (
        -1 < shown.index("WARNING: The timings of this run are not to be trusted.") < shown.index("config  ")
    )
    assert shown.count("  alarm\n") == 2
    assert "WARNING" not in terminal.render(builders.small().results(), "simple", 100)


def test_it_says_what_the_page_says(builders: ModuleType) -> None:
    """Title, command, front, picks, noise floor, deaths and environment are all printed."""
    death = Death(cell="toy/quick", wave=2, outcome="crashed", stage="block", cause="SIGSEGV")
    failures = {("toy/alike", "heap"): ("failed", "no memory")}
    run = builders.small(measuring={"deaths": (death,)}, failures=failures)
    shown = " ".join(terminal.render(run.results(), "simple", 100).split())
    for words in (
        "toy on toy points (1,000 items) Command qx run --data here, seed 0, run 20260102T030405-abcdef",
        "On the front, by hits, weight, delay (batch 1) and heap: base and quick.",
        "Picks: - For the most hits, pick base; quick may be as good within 0.5 pt. - For the lightest, pick",
        "For the quickest (batch 1), pick quick.",
        "Noise floor. The control is the baseline, measured a second time",
        "Measuring ended with the precision asked for, ±1 %: 6 waves, 30 launches",
        "- A launch of quick died in wave 3 (crashed in block): SIGSEGV",
        "- alike: heap failed: no memory",
        "CPU: A CPU, x86_64, 2 CPUs to run on, 1 thread serving, 8 GiB of memory",
        "Quiet: load 0.2, under a hypervisor, frequency governor unknown",
    ):
        assert words in shown


def test_a_runtime_baseline_has_its_own_table(builders: ModuleType) -> None:
    """The second speedup of a config is shown in a table of its own."""
    cells = {
        "other_fp32": builders.Cell(delay=1.0),
        "other_int8": builders.Cell(delay=0.25, runtime_baseline="other_fp32"),
    }
    shown = terminal.render(builders.Run(cells=cells, noise=0.0).results(), "simple", 100)
    table = shown.split("Against the runtime's own baseline:")[1].splitlines()
    row = next(line for line in table if line.startswith("other_int8"))
    assert re.split(r" {2,}", row)[:5] == [
        "other_int8",
        "other_fp32",
        "+0.00 pt? [-0.28, +0.28]",
        "1.00x",
        "4.00x",
    ]
    assert "runtime: 4.00x" in shown.split("Against the runtime")[0]


def test_pairs_and_notes_are_shown(builders: ModuleType) -> None:
    """The terminal shows pairs of one recipe in two runtimes, and notes of artifacts, as the page does."""
    rows = (LayerRow(name="fc\x1b", bits=4, error=0.5),)
    cells = {"here": builders.Cell(hits=850, counterpart="base", notes=("a note",), layers=rows)}
    shown = terminal.render(builders.Run(cells=cells, noise=0.0).results(), "simple", 100)
    row = next(line for line in shown.split("two runtimes.")[1].splitlines() if line.startswith("here"))
    assert re.split(r" {2,}", row)[:2] == ["here", "base"]
    assert "99.0 %" in row
    assert "- here: a note" in shown
    assert "- here: 1 layer, 1 in 4 bits. Largest relative errors: fc" in shown
    assert "\x1b" not in shown


def test_digits_are_printed_as_they_are_meant(builders: ModuleType) -> None:
    """A figure without a unit keeps its digits, for a zero at the end shows the precision."""
    bare = evolve(builders.WEIGHT, unit="")
    run = builders.Run(cells={}, base=builders.Cell(weight=2.5), metrics=(bare,))
    assert "  2.50\n" in terminal.render(run.results(), "simple", 100)
