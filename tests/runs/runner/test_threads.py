"""A run at several numbers of threads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qx.cli import main
from qx.results import results_file
from qx.results.records import Results

WORDS = ["run", "digits_cnn", "-c", "dynamic_int8", "-m", "latency", "-m", "accuracy", "--batch-size", "1"]
WORDS += ["--quick", "--budget", "0.01"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run at one and at two threads."""
    folder = tmp_path_factory.mktemp("threads") / "out"
    assert main([*WORDS, "--threads", "1", "--threads", "2", "--rebuild", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def results(out: Path) -> Results:
    """Return its results."""
    return results_file.read(out)


def test_each_number_of_threads_has_cells_a_baseline_and_waves_of_its_own(results: Results) -> None:
    """Cells of two numbers share no wave, and each is compared with the baseline at its number."""
    assert (results.run.threads, results.run.further_threads) == (1, (2,))
    assert list(results.run.workloads) == ["digits_cnn@1thread", "digits_cnn@2threads"]
    for part, threads in (("digits_cnn@1thread", 1), ("digits_cnn@2threads", 2)):
        cells = {cell.config for cell in results.cells.values() if cell.workload == part}
        assert cells == {"fp32_baseline", "dynamic_int8"}
        assert all(cell.threads == threads for cell in results.cells.values() if cell.workload == part)
        record = results.run.workloads[part]
        assert record.baseline == f"{part}/fp32_baseline"
        assert record.measuring is not None and record.measuring.waves == 3
    assert {floor.workload for floor in results.noise_floor} == set(results.run.workloads)


def test_both_numbers_serve_one_build(results: Results) -> None:
    """A build does not depend on the threads that serve it, so it is made once, with --rebuild too."""
    builds = {cell.workload: cell for cell in results.cells.values() if cell.config == "dynamic_int8"}
    first, second = builds["digits_cnn@1thread"], builds["digits_cnn@2threads"]
    assert first.build == second.build
    assert (first.build_cached, second.build_cached) == (False, True)


def test_the_speedup_from_threads_is_in_the_results(results: Results, out: Path) -> None:
    """Each config has one, with its interval, and the reports show it."""
    found = {speedup.cell: speedup for speedup in results.thread_speedups}
    assert set(found) == {"digits_cnn@2threads/fp32_baseline", "digits_cnn@2threads/dynamic_int8"}
    for speedup in found.values():
        assert (speedup.metric, speedup.threads) == ("latency", 2)
        assert speedup.comparison.ci is not None and "not paired" in speedup.comparison.method
    for name in ("pareto.md", "report.html"):
        assert "Speedup from threads" in (out / name).read_text(encoding="utf-8")


def test_figures_are_computed_again_from_the_samples(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``qx report`` reads the results, computes all figures again, and finds what was written."""
    before = json.loads((out / "full_results.json").read_text())
    assert main(["report", str(out)]) == 0
    captured = capsys.readouterr()
    assert "Speedup from threads" in captured.out and "differ" not in captured.err
    assert json.loads((out / "full_results.json").read_text()) == before


@pytest.mark.parametrize(
    "words", [["--threads", "0"], ["--threads", "two"], ["--threads", "1", "--threads", "1"]]
)
def test_wrong_numbers_end_with_one_line(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A number that is wrong, no number, and one that is there twice are refused before anything is done."""
    try:
        code = main(["run", "digits_cnn", *words, "--out", str(tmp_path / "out")])
    except SystemExit as ending:
        code = ending.code
    assert code == 2
    error = capsys.readouterr().err
    assert "--threads" in error and len(error.strip().splitlines()) == 1
