"""What reports, comparisons and the gate say of a run that was interrupted, or made in several sittings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from qx.contract.figures import Figure, Point
from qx.report import markdown, screen, terminal
from qx.report.html import page
from qx.results import results_file
from qx.results.recording import Recording
from qx.results.records import Results
from qx.results.run_record import InterruptionRecord, LeftOut, SittingRecord

SITTINGS = tuple(
    SittingRecord(started=f"2026-01-0{day}T03:04:05+00:00", seconds=40.0, load_before=0.1) for day in (2, 3)
)


def shifted(recording: Recording, cell: str, figure: Figure, factor: float) -> None:
    """Multiply the values of a cell in the last three of six waves."""
    series = recording.series[cell][figure]
    recording.add(cell, figure, evolve(series, values=series.values * np.where(series.wave > 2, factor, 1)))


@pytest.fixture
def make(builders: ModuleType) -> Callable[..., tuple[Results, Recording]]:
    """Return results of a run in two sittings of three waves, and its samples."""

    def make(factors: dict[str, float], **changes: Any) -> tuple[Results, Recording]:
        run = builders.Run(
            cells={"quick": builders.Cell(delay=1.0)},
            run={"sittings": SITTINGS, **changes},
            measuring={"sittings": (0, 0, 0, 1, 1, 1)},
        )
        recording = run.recording()
        for cell, factor in factors.items():
            shifted(recording, cell, Figure("delay", Point(1)), factor)
        return run.results(recording), recording

    return make


def delay(results: Results, cell: str) -> Any:
    """Return the measurement of the delay of a cell."""
    return next(part for part in results.measurements if (part.cell, part.metric) == (cell, "delay"))


def texts(results: Results) -> list[str]:
    """Return what each medium says, in one line."""
    written = (
        terminal.render(results, "simple", 120),
        markdown.render(results),
        screen.render(results),
        page.render(results, None),
    )
    return [" ".join(text.replace("\N{NO-BREAK SPACE}", " ").split()) for text in written]


def test_what_a_sitting_does_to_all_cells_is_no_error_of_a_speedup(make: Callable[..., Any]) -> None:
    """All cells a third slower in one sitting: speedups are pooled, delays are shown by sitting."""
    results, _ = make({"toy/base": 1.3, "toy/quick": 1.3, "toy/control": 1.3})
    quick = delay(results, "toy/quick")
    assert "sittings" not in quick.vs_baseline.method
    assert quick.vs_baseline.ci[1] / quick.vs_baseline.ci[0] < 1.05
    first, second = (part["value"] for part in quick.details["by_sitting"])
    assert second / first == pytest.approx(1.3, rel=0.15)
    assert quick.ci[0] <= first < second <= quick.ci[1]
    for text in texts(results)[:2]:
        assert "in 2 sittings" in text
        assert "differs between the sittings of this run" in text


def test_a_speedup_that_differs_by_sitting_has_an_interval_over_sittings(make: Callable[..., Any]) -> None:
    """One cell slower in one sitting, beside the baseline: each sitting counts once, and that is said."""
    results, _ = make({"toy/quick": 1.3})
    compared = delay(results, "toy/quick").vs_baseline
    assert compared.method == "log ratio, t over sittings, which differ by more than their waves do"
    # With two sittings that is the t interval of two values.
    assert compared.ci[0] < 2.0 / 1.3 < 2.0 < compared.ci[1]
    steady, _ = make({})
    assert "sittings" not in delay(steady, "toy/quick").vs_baseline.method


def test_results_of_a_part_say_so_everywhere(
    make: Callable[..., Any], qx: Callable[..., Any], tmp_path: Path
) -> None:
    """All media name the signal and what was left out; compare and gate say it of the run."""
    left_out = (LeftOut(workload="toy", phase="measure", cells=("toy/quick",)),)
    interruption = InterruptionRecord(signal="SIGINT", left_out=left_out)
    results, recording = make({}, interruption=interruption)
    for text in texts(results):
        assert "since the run was interrupted (Ctrl-C): not timed: " in text
    for name in ("part", "other"):
        results_file.write(tmp_path / name, results, markdown.render(results), recording)
    done = qx("compare", "part", "other")
    printed = " ".join(done.out.split())
    assert "it was interrupted, so these are results of a part" in printed
    assert "it was made in 2 sittings" in printed
    (tmp_path / "rules.toml").write_text('[[rule]]\nmetric = "weight"\nlargest = 2_000_000\n')
    done = qx("gate", "part", "--rules", "rules.toml")
    assert done.code == 0
    assert "qx: note: part: it was interrupted, so these are results of a part" in done.err
    assert "Results of a part" in qx("report", "part").out


@pytest.mark.parametrize("position", [2, -1, True, "0"])
def test_waves_of_a_sitting_that_there_is_not_are_refused(
    make: Callable[..., Any], qx: Callable[..., Any], tmp_path: Path, position: object
) -> None:
    """The sitting of a wave is a position among those of the run."""
    results, recording = make({})
    results_file.write(tmp_path / "run", results, markdown.render(results), recording)
    place = tmp_path / "run" / results_file.RESULTS
    fields = json.loads(place.read_text())
    fields["run"]["measuring"]["sittings"][0] = position
    place.write_text(json.dumps(fields))
    done = qx("report", "run")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "measuring" in done.err
