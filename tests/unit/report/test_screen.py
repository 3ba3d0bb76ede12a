"""The screen that ``qx run`` and ``qx report`` show on a terminal."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attrs import evolve

from qx.contract.figures import Figure
from qx.contract.records import OUTPUT
from qx.report import screen
from qx.report.styled import width_of
from qx.results import results_file
from qx.results.records import Results

COMMITTED = Path(__file__).parents[3] / "artifacts" / "results"
FILES = ("artifacts/results/report.html",)
#: Names of the configs that come with qx, and how many of them a plain install has.
NAMES = (
    *("bf16", "dynamic_int8", "static_int8_per_tensor", "static_int8_per_channel", "static_int8_histogram"),
    *("fx_static_int8", "inductor_fp32", "inductor_bf16", "onnxruntime_fp32", "onnxruntime_dynamic_int8"),
    *("onnxruntime_static_int8_per_tensor", "onnxruntime_static_int8_per_channel", "openvino_fp32"),
    *("openvino_bf16", "openvino_int8", "executorch_fp32", "executorch_int8", "ncnn_fp32", "ncnn_fp16"),
    *("inductor_int8", "torchao_int8_dynamic", "torchao_int8_weight_only", "torchao_int4_weight_only"),
)
PLAIN = 8
WIDTHS = (60, 80, 100, 140)


def many(builders: ModuleType, names: tuple[str, ...], **changes: Any) -> Any:
    """Return a run of configs with different figures, and the metrics of real length."""
    aims = ("the best accuracy", "the smallest artifact", "the lowest latency", "the least memory")
    titles = ("accuracy", "file_size", "latency", "rss")
    metrics = [
        evolve(metric, pick=aim) for metric, aim, _ in zip(builders.METRICS, aims, titles, strict=True)
    ]
    cells = {
        name: builders.Cell(
            hits=860 - 7 * (number % 4),
            weight=1e6 / (1 + number % 5),
            delay=2.0 / (1 + 0.37 * ((number * 7) % 11)),
            heap=400 + 13 * ((number * 5) % 17),
        )
        if number < len(NAMES)
        # A front of hundreds would take the analysis minutes.
        else builders.Cell(hits=700, weight=2e6, delay=3 + number / 100, heap=900)
        for number, name in enumerate(names)
    }
    fields = {"noise": 0.01, "rounds": 2, "batch_sizes": (1, 32), "metrics": tuple(metrics)}
    return builders.Run(cells=cells, **(fields | changes))


def plain_install(builders: ModuleType) -> Results:
    """Return a run after a plain install: most configs lack a package."""
    run = many(builders, NAMES)
    cells = dict(run.cells)
    for name in NAMES[PLAIN:]:
        extra = name.partition("_")[0]
        cause = f"needs {extra}>=1.0: pip install '{extra}>=1.0'"
        cells[name] = builders.Cell(outcome="unavailable", stage="plan", cause=cause)
    cause = "the graph has a loop, which torch.export cannot follow, in layer3.block1.attention of this model"
    for name in ("inductor_fp32", "inductor_bf16"):
        cells[name] = builders.Cell(outcome="unsupported", stage="check_model", cause=cause)
    measuring = {"ended_by": "budget", "precision": 0.0001}
    return evolve(run, cells=cells, measuring=measuring).results()


def shown(results: Results, width: int = 100) -> list[str]:
    """Return the lines of the screen, each of which fits the terminal and ends in no space."""
    lines = screen.render(results, FILES, width).splitlines()
    for line in lines:
        assert width_of(line) <= width, line
        assert line == line.rstrip()
        assert line.isprintable(), repr(line)
    return lines


def row(lines: list[str], name: str) -> str:
    """Return the row of a config."""
    (found,) = (line for line in lines if line[2:].split(" ")[:1] == [name])
    return found


def test_other_metrics_of_quality_have_columns_where_there_is_room(builders: ModuleType) -> None:
    """Beside the axes stands what else judges the answers, but costs neither an interval nor an axis."""
    likeness = evolve(builders.HITS, name="likeness", axis=False, pick=None)
    run = builders.small(metrics=(*builders.METRICS, likeness))
    recording = run.recording()
    for cell in recording.outputs:
        recording.add(cell, Figure("likeness"), recording.series[cell][Figure("hits")])
    results = run.results(recording)
    wide, narrow = shown(results, 200), shown(results, 100)
    assert re.search(r"hits +likeness +weight +delay, batch 1 +heap", wide[2])
    assert "likeness" not in "".join(narrow)
    assert not any("no room" in line for line in (*wide, *narrow))
    few = evolve(results, axes=results.axes[:1])
    assert re.search(r"hits +likeness", shown(few, 80)[2])


@pytest.mark.parametrize("axis", ["weight", "delay"])
def test_what_judges_answers_has_a_column_where_no_axis_does(builders: ModuleType, axis: str) -> None:
    """Where only size or time are axes, as of a network with random weights, quality is shown beside them."""
    results = builders.small().results()
    axes = tuple(entry for entry in results.axes if entry.metric == axis)
    heads = shown(evolve(results, axes=axes), 100)[2].split(", ")[0].split()
    assert heads == ["hits", axis]


def test_how_near_outputs_are_is_not_compared_once_more(builders: ModuleType) -> None:
    """Such a value is a comparison with the baseline, which is near to itself: neither has a difference."""
    derived = {"phase": "derived", "derived_from": ("outputs",)}
    near = evolve(builders.HITS, name="nearness", axis=False, pick=None, **derived)
    run = builders.small(metrics=(*builders.METRICS, near))
    recording = run.recording()
    for cell in recording.outputs:
        recording.add(cell, Figure("nearness"), recording.series[cell][Figure("hits")])
    results = run.results(recording)
    lines = shown(evolve(results, axes=(evolve(results.axes[0], metric="nearness"),)), 60)
    table = "\n".join(lines)
    assert re.search(r"^ +nearness +hits\n  config +% +% +change, pt$", table, re.MULTILINE)
    assert re.search(r"^\* base +- +86 ±2$", table, re.MULTILINE)
    assert re.search(r"^\* quick +85 ±2 +85 ±2 +-1\.00 ±", table, re.MULTILINE)
    assert "compared with base" in table


# How long it is -----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_the_committed_results_fit(width: int) -> None:
    """The committed CIFAR-10 results take at most 20 lines, with every config in one table."""
    lines = shown(results_file.read(COMMITTED), width)
    assert len(lines) <= 20
    assert sum(line.startswith("  config") for line in lines) == 1
    assert sum(line[2:].startswith(("static_", "fp32_", "dynamic_")) for line in lines) == 4
    assert lines[0].startswith("cifar10_cnn on CIFAR-10")
    assert lines[-1].startswith("report: artifacts/results/report.html")


def test_the_committed_results_show_all_axes_at_100_columns() -> None:
    """At 100 columns every axis has its column and no name is cut short."""
    lines = shown(results_file.read(COMMITTED))
    for heading in ("accuracy", "file_size", "latency, batch 1", "rss"):
        assert heading in lines[2]
    assert "static_int8_per_channel" in lines[5]
    assert "no room" not in "".join(lines)
    assert row(lines, "static_int8_per_tensor").startswith("* ")


@pytest.mark.parametrize("width", [100, 140])
def test_24_cells_take_40_lines(builders: ModuleType, width: int) -> None:
    """A run of 24 cells fits on 40 lines, with a row for each."""
    lines = shown(many(builders, NAMES).results(), width)
    assert len(lines) <= 40
    rows = lines[4 : 4 + len(NAMES) + 1]
    assert len({line[2:].split(" ")[0] for line in rows}) == len(NAMES) + 1


def test_24_cells_take_40_lines_where_much_is_to_be_said(builders: ModuleType) -> None:
    """So it does with an alarm, a quick look, and configs that failed."""
    run = many(builders, NAMES, control=builders.Cell(delay=2.3), measuring={"quick": True})
    lost = builders.Cell(outcome="failed", stage="convert", cause="because " * 40)
    cells = {**run.cells, "bf16": lost, "ncnn_fp32": evolve(lost, outcome="crashed")}
    lines = shown(evolve(run, cells=cells).results())
    assert len(lines) <= 40
    assert "WARNING: delay (batch 1) and delay (batch 32) cannot be trusted" in lines[1]


def test_a_plain_install_takes_30_lines(builders: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a plain install it fits on 30 lines, and one of them says how to install what is missing.

    The command is the one for this machine: the folder that qx came from with its extras, if that is known.
    """
    place = "/src/qx"
    monkeypatch.setattr("qx.contract.installation.origin_of", lambda distribution: place)
    names = ("executorch", "inductor", "ncnn", "onnxruntime", "openvino", "torchao")
    extras = {name: {f"{name}>=1.0": f"{name}>=1.0"} for name in names}
    monkeypatch.setattr("qx.contract.installation._extras", lambda distribution: extras)
    lines = shown(plain_install(builders))
    assert len(lines) <= 30
    (line,) = (line for line in lines if line.startswith("not installed"))
    assert line == f"not installed (15): pip install '{place}[{','.join(names)}]'"
    (line,) = (line for line in lines if line.startswith("cannot treat this model"))
    assert line.startswith(
        "cannot treat this model (2): inductor_fp32 and inductor_bf16: the graph has a loop"
    )


@pytest.mark.parametrize("count", [1, 5, 24, pytest.param(500, marks=pytest.mark.slow)])
def test_any_number_of_cells_fits(builders: ModuleType, count: int) -> None:
    """Whatever the number of cells, one table is shown that fits, with the baseline in it."""
    names = tuple(f"config_of_number_{number}" for number in range(count - 1))
    results = many(builders, names, items=200, batch_sizes=(1,)).results()
    for width in WIDTHS:
        lines = shown(results, width)
        assert len(lines) <= 42
        assert sum(line.startswith("  config ") for line in lines) == 1
        assert any(line[2:].startswith("base ") for line in lines)
        if count == 500:
            assert "472 more configs, none on the front (-v)" in " ".join(lines)


def test_no_empty_line_is_doubled(builders: ModuleType) -> None:
    """No two empty lines follow each other, and there is none at either end."""
    for results in (plain_install(builders), builders.everything()[0], results_file.read(COMMITTED)):
        text = screen.render(results, FILES, 100)
        assert "\n\n\n" not in text and text == text.strip("\n")


# What it says -------------------------------------------------------------------------------------


def test_the_front_comes_first_then_the_fastest(builders: ModuleType) -> None:
    """Configs on the front come first, then those that perhaps are, each by their speed."""
    lines = shown(many(builders, NAMES).results(), 140)
    rows = lines[4 : 4 + len(NAMES) + 1]
    marks = [line[0] for line in rows]
    assert marks == sorted(marks, key=["*", "+", " "].index)
    assert {"*", " "} <= {*marks}
    speedup = re.compile(r"(\d\.\d+)x +±\S+ +\d+ ±")
    for mark in "*+ ":
        matches = [speedup.search(line) for line in rows if line[0] == mark]
        speedups = [float(match.group(1)) for match in matches if match is not None]
        assert speedups == sorted(speedups, reverse=True)


def test_the_title_says_model_data_items_threads_and_time(builders: ModuleType) -> None:
    """The first line has it all."""
    assert shown(builders.small().results())[0] == "toy on toy points: 1,000 items, 1 thread, in 75 s"
    slow = builders.small(run={"seconds": {"total": 862.0}, "threads": 2}).results()
    assert shown(slow)[0].endswith(", 2 threads, in 14 min 22 s")


def test_a_long_name_of_the_data_leaves_the_number_of_items(builders: ModuleType) -> None:
    """It is shortened itself, also above the table of one of several workloads."""
    for results in (builders.small().results(), builders.everything()[0]):
        workloads = {
            name: evolve(workload, source="word " * 40) for name, workload in results.run.workloads.items()
        }
        lines = shown(evolve(results, run=evolve(results.run, workloads=workloads)))
        titles = [line for line in lines if " on word word" in line]
        assert len(titles) == len(workloads)
        assert all(re.search(r": (1,000|200) items", title) for title in titles)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_what_makes_a_model_count_as_trained_is_not_cut_off(builders: ModuleType, width: int) -> None:
    """Where nothing is said of right and wrong answers, three lines have room for what to do about it."""
    results = builders.small().results()
    workloads = {name: evolve(record, trained=False) for name, record in results.run.workloads.items()}
    text = " ".join(shown(evolve(results, run=evolve(results.run, workloads=workloads)), width)[1:4])
    words = " ".join(text.split())
    assert "Not known to be trained: no trained weights were given" in words
    assert "Give --weights FILE, or --trained where the model is made with trained weights." in words


def test_a_value_has_its_comparison_beside_it(builders: ModuleType) -> None:
    """A row has value and difference, size and ratio, time and speedup, memory and ratio, with intervals."""
    lines = shown(builders.small().results(), 140)
    assert lines[2].split() == ["hits", "weight", "delay,", "batch", "1", "heap"]
    assert lines[3].split() == [
        "config",
        "%",
        "change,",
        "pt",
        "MB",
        "ratio",
        "ms",
        "speedup",
        "MiB",
        "ratio",
    ]
    figures = row(lines, "quick").split()
    assert figures[:6] == ["*", "quick", "85", "±2", "-1.00", "±0.68"]
    assert figures[6:8] == ["0.260", "0.260x"]
    assert re.fullmatch(r"0\.49\d ±\d+% 4\.\d+x ±0\.\d% 400 ±0\.\d% 0\.\d+x ±0\.\d%", " ".join(figures[8:]))


def test_half_widths_of_values_are_summed_up_where_they_have_no_room() -> None:
    """At 100 columns the interval of a value is that of its comparison, and a line has the widest."""
    lines = shown(results_file.read(COMMITTED))
    assert any("(values at most: accuracy ±0.7, latency ±4%, rss ±1.2%)" in line for line in lines)
    assert "0.439  3.361x ±0.4%" in row(lines, "static_int8_per_tensor")
    assert not any("values at most" in line for line in shown(results_file.read(COMMITTED), 140))


def test_what_is_not_clear_keeps_its_estimate_and_has_a_mark() -> None:
    """A difference whose interval includes no change is shown with a mark that the legend explains."""
    lines = shown(results_file.read(COMMITTED))
    assert "-0.01 ±0.19?" in row(lines, "static_int8_per_channel")
    assert any("? not clear: its interval includes no change" in line for line in lines)
    lines = shown(evolve_run_without_marks())
    assert not any("? not clear" in line for line in lines)


def evolve_run_without_marks() -> Results:
    """Return the committed results with every difference clear."""
    results = results_file.read(COMMITTED)
    return evolve(
        results,
        measurements=tuple(
            evolve(measured, vs_baseline=evolve(measured.vs_baseline, clear=True))
            if measured.vs_baseline is not None
            else measured
            for measured in results.measurements
        ),
    )


@pytest.mark.parametrize("sizes", [(32, 1), (1, 32)])
def test_the_smallest_batch_is_shown(builders: ModuleType, sizes: tuple[int, ...]) -> None:
    """The column is of the smallest batch, and named; a front that goes by another batch is said."""
    text = "\n".join(shown(builders.small(batch_sizes=sizes).results(), 140))
    assert "delay, batch 1 " in text and "delay, batch 32" not in text
    assert ("the front goes by delay (batch 32)" in text) == (sizes[0] == 32)


@pytest.mark.parametrize(("width", "room"), [(60, "no room for weight and heap"), (200, "")])
def test_axes_without_room_are_named(builders: ModuleType, width: int, room: str) -> None:
    """Axes that the terminal has no room for are named, quality and speed last."""
    lines = shown(many(builders, NAMES[:4]).results(), width)
    text = " ".join(lines)
    assert room in text
    assert ("no room" in text) == bool(room)
    assert "hits" in lines[2] and "delay" in lines[2]


def test_a_further_axis_has_a_column_where_there_is_room(builders: ModuleType) -> None:
    """The columns follow the axes of the run, whatever their names."""
    extra = evolve(builders.WEIGHT, name="sparks", unit="sparks")
    run = builders.small(metrics=(*builders.METRICS, extra))
    recording = run.recording()
    for series in recording.series.values():
        if Figure("weight") in series:
            series[Figure("sparks")] = series[Figure("weight")]
    results = run.results(recording)
    assert "sparks" in shown(results, 140)[2]
    assert "no room for sparks (-v)" in " ".join(shown(results, 100)) or "sparks" in shown(results, 100)[2]
    assert "no room for" in " ".join(shown(results, 80))


def test_configs_that_failed_are_folded_by_reason(builders: ModuleType) -> None:
    """Configs that failed for one reason share a line, which says outcome, stage and cause."""
    lost = builders.Cell(outcome="failed", stage="convert", cause="ValueError: no | pipe")
    slow = builders.Cell(outcome="timeout", stage="load", cause="no end after 600 s")
    cells = {"good": builders.Cell(delay=1.0), "one": lost, "two": lost, "three": slow}
    lines = shown(builders.Run(cells=cells).results())
    assert "FAILED in convert (2): one and two: ValueError: no | pipe" in lines
    assert "TIMEOUT in load: three: no end after 600 s" in lines


def test_reasons_are_counted_where_they_are_many(builders: ModuleType) -> None:
    """Of many reasons some are shown, and the others counted."""
    cells = {
        f"lost{number}": builders.Cell(outcome="failed", stage="convert", cause=f"cause {number}")
        for number in range(30)
    }
    lines = shown(builders.Run(cells=cells).results())
    assert sum(line.startswith("FAILED") for line in lines) == 7
    assert "and 23 further reasons" in lines


def test_a_command_that_does_not_fit_is_not_cut(builders: ModuleType) -> None:
    """Nobody copies half a command: where it does not fit, the line says who knows it."""
    lines = shown(plain_install(builders), 60)
    assert "not installed (15): qx list says how to install them" in lines


def test_every_aim_has_a_line(builders: ModuleType) -> None:
    """The picks are a line each, with what is tied and what decided that; an aim without a pick says why."""
    lines = shown(results_file.read(COMMITTED))
    start = next(number for number, line in enumerate(lines) if line.startswith("best accuracy "))
    assert lines[start].split("  ")[-1] == (
        "static_int8_per_tensor, tied with fp32_baseline and 2 more (file_size decides)"
    )
    assert [line.split("  ")[0] for line in lines[start : start + 4]] == [
        *("best accuracy", "smallest artifact", "lowest latency", "least memory")
    ]
    results, _ = builders.everything()
    text = "\n".join(shown(results, 140))
    assert re.search(r"most hits +no pick, ±1\.9 pt does not tell .* apart; needs about \d+ items", text)
    assert re.search(r"most points +no pick: points are not additive", text)


def test_trust_is_one_line() -> None:
    """Noise floor, what ended the run, and the seconds that reach the precision stand in one line."""
    lines = shown(results_file.read(COMMITTED))
    assert lines[-2] == (
        "noise floor 0.57 %: trust differences above that; 60 s reached ±1.6 %, for ±1 %: --budget 120"
    )


def test_more_seconds_are_not_offered_where_they_do_not_help(builders: ModuleType) -> None:
    """A run says that it reached its precision, or that too many waves would be needed for that."""
    reached = shown(builders.small().results(), 140)
    assert any("ended with every speedup within ±1 %" in line for line in reached)
    measuring = {"ended_by": "budget", "precision": 1e-6}
    hopeless = shown(builders.small(measuring=measuring).results(), 140)
    assert any("±0.0001 % is out of reach" in line for line in hopeless)
    assert not any("--budget" in line for line in hopeless)


def test_the_documents_show_what_a_terminal_shows() -> None:
    """The page on the terminal has the screen of the committed results, in its text and in its picture."""
    docs = COMMITTED.parents[1] / "docs"
    text = screen.render(results_file.read(COMMITTED), FILES, 100)
    indented = "\n".join(f"    {line}".rstrip() for line in text.splitlines())
    assert indented in (docs / "terminal.md").read_text(encoding="utf-8")
    picture = (docs / "images" / "terminal.svg").read_text(encoding="utf-8")
    drawn = "".join(html.unescape(re.sub("<[^>]*>", "", picture)).split())
    for line in text.splitlines():
        assert "".join(line.split()) in drawn, line
    assert "@font-face" not in picture and "url(http" not in picture


# When something is wrong --------------------------------------------------------------------------


def test_nothing_measured_is_said(builders: ModuleType) -> None:
    """Where no config ended well there is no table, and the reasons are there."""
    lost = builders.Cell(outcome="failed", stage="prepare", cause="no data here")
    lines = shown(builders.Run(cells={"other": lost}, base=lost, control=None).results())
    assert not any(line.startswith("  config") for line in lines)
    assert "FAILED in prepare (2): base and other: no data here" in lines
    assert any(line.startswith("Nothing was measured of toy") for line in lines)


def test_a_failed_baseline_is_said_first(builders: ModuleType) -> None:
    """It stands above the table, whose configs keep their values."""
    failed = builders.Cell(outcome="failed", stage="probe", cause="7e-9 apart")
    lines = shown(builders.small(base=failed).results(), 140)
    assert lines[1].startswith("WARNING: The baseline failed, so nothing is compared")
    assert re.search(r"85 ±2 +0\.260 +0\.4", row(lines, "quick"))


def test_an_alarm_and_another_network_are_said_first(builders: ModuleType) -> None:
    """Both are warnings above the table, and the row of another network has a mark."""
    run = builders.small(control=builders.Cell(delay=2.3))
    recording = run.recording()
    recording.outputs["toy/quick"] = {OUTPUT: -recording.outputs["toy/quick"][OUTPUT]}
    lines = shown(run.results(recording))
    head = " ".join(lines[: lines.index("")])
    assert "WARNING: delay (batch 1) and delay (batch 32) cannot be trusted" in head
    assert "WARNING: not the same network any more (!): quick" in head
    assert row(lines, "quick").startswith("! ")


def test_a_metric_that_failed_is_said(builders: ModuleType) -> None:
    """The cell of a failed metric names the outcome, and a line the reason."""
    results, _ = builders.everything()
    lines = shown(results)
    assert re.match(r"  few +crashed", row(lines[: len(lines) // 2], "few"))
    assert "hits crashed (1): few: the process was killed" in lines


def test_several_workloads_have_a_table_each(builders: ModuleType) -> None:
    """Each workload has its heading, its table and its picks."""
    results, _ = builders.everything()
    lines = shown(results)
    assert lines[0] == "2 workloads, 1 thread, in 75 s"
    assert [line for line in lines if line.endswith("on toy points: 200 items")] == [
        "toy on toy points: 200 items",
        "other on toy points: 200 items",
    ]
    assert sum(line.startswith("  config") for line in lines) == 2
    assert sum(line.startswith("note: 1 launch died") for line in lines) == 1


@pytest.mark.parametrize(
    ("held_up", "words"), [(1, "1 config compares differently"), (2, "2 configs compare differently")]
)
def test_configs_that_are_held_up_at_times_are_counted(
    builders: ModuleType, held_up: int, words: str
) -> None:
    """Each counts once, at however many batch sizes it is timed, and the words agree with the number."""
    cells = {f"at_times{number}": builders.Cell(delay=1.0, held_up=1.5) for number in range(held_up)}
    results = builders.Run(cells=cells, rounds=20, batch_sizes=(1, 32)).results()
    assert f"note: {words} when no call is left out (-v)" in shown(results)


# Names and characters -----------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_names_of_100_letters_stay_apart(builders: ModuleType, width: int) -> None:
    """Long names of configs, metrics and aims are cut so that each differs from all others."""
    middle = "_".join(["quantized"] * 8)
    names = [f"{begin}_{middle}_{end}"[:100] for begin in ("first", "other") for end in ("low", "high")]
    names += [f"same_{'a' * 40}{letter}{'b' * 54}" for letter in "xyz"]
    metrics = tuple(
        evolve(metric, name=f"{metric.name}_{'long_' * 19}"[:100], pick=f"{metric.pick} {'of all ' * 20}")
        for metric in builders.METRICS
    )
    run = many(builders, tuple(names))
    plain = run.results()
    renamed = dict(zip((metric.name for metric in builders.METRICS), metrics, strict=True))
    document = renamed_metrics(plain, renamed)
    lines = shown(document, width)
    rows = [line[2:].split("  ")[0] for line in lines if re.match(r"[*+ ] (first|other|same)", line)]
    assert len(rows) == len(names)
    assert len({*rows}) == len(names)


def renamed_metrics(results: Results, metrics: Mapping[str, Any]) -> Results:
    """Return results with other records of their metrics."""

    def renamed(record: Any) -> Any:
        return evolve(record, metric=metrics[record.metric].name)

    return evolve(
        results,
        metrics={metric.name: metric for metric in metrics.values()},
        measurements=tuple(map(renamed, results.measurements)),
        axes=tuple(map(renamed, results.axes)),
        picks=tuple(evolve(renamed(pick), aim=metrics[pick.metric].pick) for pick in results.picks),
        undecided=tuple(map(renamed, results.undecided)),
        noise_floor=tuple(map(renamed, results.noise_floor)),
    )


def test_wide_characters_are_counted_as_the_terminal_does(builders: ModuleType) -> None:
    """Names and causes in wide characters do not shift the table, nor make a line too long."""
    lost = builders.Cell(outcome="failed", stage="convert", cause="量子化できません" * 20)
    cells = {"good": builders.Cell(delay=1.0), "lost": lost}
    shown(builders.Run(cells=cells, workload={"source": "データ" * 30}).results())


def test_a_terminal_without_the_sign_gets_ascii(builders: ModuleType) -> None:
    """Where the encoding has no plus-minus sign, the screen is ASCII."""
    text = screen.render(builders.small().results(), FILES, 100, encoding="ascii")
    assert text.isascii() and "+-" in text
    assert "±" in screen.render(builders.small().results(), FILES, 100, encoding="utf-8")


def test_colours_carry_no_meaning_alone(builders: ModuleType) -> None:
    """Without its colours the screen is the same text."""
    for results in (plain_install(builders), builders.everything()[0]):
        coloured = screen.render(results, FILES, 100, colour=True)
        assert "\x1b[32m" in coloured
        assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).split() == screen.render(results, FILES, 100).split()
        assert not re.search(r"\x1b(?!\[[0-9;]*m)", coloured)
