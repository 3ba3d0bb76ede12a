"""Several numbers of threads in one run: its parts, and the speedups from threads."""

from __future__ import annotations

import re
from types import ModuleType

import numpy as np
import pytest
from attrs import evolve

from qx.analysis.measurements import analyse
from qx.contract.figures import Figure, Point
from qx.errors import UsageError
from qx.report import markdown, screen, terminal
from qx.report.html import page
from qx.results.cells import CellId, part_name
from qx.results.recording import Recording
from qx.results.records import Results
from qx.runner import Request

#: How much faster configs are with two threads, by their names.
TRUTH = {"base": 1.6, "quick": 1.25, "alike": 1.6}


def two_numbers_of_threads(builders: ModuleType, noise: float = 0.003) -> Results:
    """Return a run at one and at two threads, in which ``lost`` failed at both."""
    runs = {
        threads: builders.small(
            cells={
                name: evolve(cell, delay=cell.delay / (TRUTH.get(name, 1.0) if threads == 2 else 1.0))
                for name, cell in builders.small().cells.items()
            },
            seed=threads,
            noise=noise,
        )
        for threads in (1, 2)
    }
    recording, cells, workloads = Recording(), {}, {}
    for threads, run in runs.items():
        part = part_name("toy", threads)
        own, simulated = run.recording(), run.results()
        for name, result in simulated.cells.items():
            moved = f"{part}/{name.partition('/')[2]}"
            cells[moved] = evolve(result, workload=part, threads=threads)
            for figure, series in own.series.get(name, {}).items():
                if name == builders.BASELINE and figure.metric == "delay" and threads == 2:
                    series = evolve(series, values=series.values / TRUTH["base"])
                recording.add(moved, figure, series)
        record = simulated.run.workloads["toy"]
        workloads[part] = evolve(record, baseline=f"{part}/base", measuring=simulated.run.measuring)
    return analyse(
        run=evolve(
            simulated.run, workloads=workloads, threads=1, further_threads=(2,), baseline="toy@1thread/base"
        ),
        environment=simulated.environment,
        metrics=simulated.metrics,
        configs=simulated.configs,
        cells=cells,
        recording=recording,
        failures={},
    )


def test_the_speedup_from_threads_is_that_of_each_config(builders: ModuleType) -> None:
    """Each config is held against itself with the fewest threads, with an interval that is not paired."""
    results = two_numbers_of_threads(builders)
    found = {
        (speedup.cell, speedup.point): speedup.comparison
        for speedup in results.thread_speedups
        if speedup.metric == "delay"
    }
    assert {cell for cell, _ in found} == {f"toy@2threads/{name}" for name in TRUTH}
    for (cell, point), comparison in found.items():
        name = cell.partition("/")[2]
        assert point in (Point(1), Point(32))
        assert comparison.against == f"toy@1thread/{name}"
        assert comparison.value == pytest.approx(TRUTH[name], rel=0.1)
        assert comparison.ci is not None and comparison.clear
        assert comparison.ci[0] < TRUTH[name] * 1.05 and comparison.ci[1] > TRUTH[name] / 1.05
        assert "not paired" in comparison.method


def test_differences_to_the_baseline_stay_within_one_number_of_threads(builders: ModuleType) -> None:
    """With two threads a config is compared with the baseline with two threads."""
    results = two_numbers_of_threads(builders)
    values = {
        entry.cell: entry.vs_baseline.value
        for entry in results.measurements
        if entry.figure == Figure("delay", Point(1)) and entry.vs_baseline is not None
    }
    assert values["toy@1thread/quick"] == pytest.approx(4.0, rel=0.05)
    assert values["toy@2threads/quick"] == pytest.approx(4.0 * 1.25 / 1.6, rel=0.05)
    assert values["toy@2threads/base"] == 1.0
    assert not results.summary


def test_every_report_shows_the_speedups(builders: ModuleType) -> None:
    """The screen, the whole table, Markdown and the page have them, and say that they are not paired."""
    results = two_numbers_of_threads(builders)
    text = screen.render(results, width=100, colour=False, encoding="utf-8", logs=None, files=[])
    reports = (
        text,
        terminal.render(results, "simple", 100),
        markdown.render(results),
        page.render(results, None),
    )
    for report in reports:
        assert "Speedup from threads" in report and "not paired" in report
        assert "1 and 2 threads" in report
        assert re.search(r"1\.(5[5-9]|6[0-4])x", report)


def test_parts_have_the_places_of_runs_at_one_number() -> None:
    """A cell of a run at several numbers of threads is the same cell as that of a run at its number alone."""
    alone = CellId(workload="toy", config="quick", threads=2)
    part = CellId(workload="toy@2threads", config="quick", threads=2)
    assert alone.identity == part.identity
    assert str(part) == "toy@2threads/quick"
    assert part.workload_name == alone.workload_name == "toy"
    assert CellId(workload="toy", config="quick").place != alone.place


def test_a_request_divides_a_workload_by_threads() -> None:
    """One number leaves the workload's name as it is; of several each has a part, whose number it knows."""
    assert Request(threads=2).parts("toy") == ("toy",)
    assert Request(threads=2).threads_of("toy") == 2
    several = Request(threads=(1, 2, 12))
    assert several.parts("toy") == ("toy@1thread", "toy@2threads", "toy@12threads")
    assert [several.threads_of(part) for part in several.parts("toy")] == [1, 2, 12]


@pytest.mark.parametrize(
    ("threads", "message"),
    [
        ((0,), "--threads must be at least 1, not 0"),
        ((2, -1), "--threads must be at least 1, not -1"),
        ((2, 1, 2), "--threads 2 is there twice: give each number of threads once"),
    ],
)
def test_wrong_numbers_of_threads_are_refused(threads: tuple[int, ...], message: str) -> None:
    """A number below 1, and one that is there twice, are refused in one line."""
    with pytest.raises(UsageError) as error:
        Request(threads=threads).check()
    assert str(error.value) == message


def test_noise_that_threads_do_not_explain_is_no_speedup(builders: ModuleType) -> None:
    """Where both numbers of threads are equally fast, the interval holds 1 as a rule."""
    results = two_numbers_of_threads(builders, noise=0.05)
    widths = [
        np.log(speedup.comparison.ci[1] / speedup.comparison.ci[0])
        for speedup in results.thread_speedups
        if speedup.comparison.ci is not None
    ]
    assert len(widths) == len(results.thread_speedups) and min(widths) > 0.01
