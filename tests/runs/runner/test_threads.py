"""A run at several numbers of threads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qx.cli import main
from qx.results import results_file
from qx.results.records import Results

WORDS = ["-m", "latency", "-m", "accuracy", "--batch-size", "1", "--quick", "--budget", "0.01", "--rebuild"]

#: A config whose module torch serves; the baseline of the toy is served without torch.
OTHER = """
    from qx import Config, hookimpl

    @hookimpl
    def describe():
        return Config(name="other", summary="The model as it is.")

    @hookimpl
    def convert(model):
        return model
"""


@pytest.fixture(scope="module")
def out(toy: Any, write_plugin: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of the toy at one and at two threads."""
    folder = tmp_path_factory.mktemp("threads") / "out"
    words = ["run", *toy.arguments(write_plugin("other", OTHER)), *WORDS, "--threads", "1", "--threads", "2"]
    assert main([*words, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def results(out: Path) -> Results:
    """Return its results."""
    return results_file.read(out)


def test_each_number_of_threads_has_cells_a_baseline_and_waves_of_its_own(results: Results) -> None:
    """Cells of two numbers share no wave, and each is compared with the baseline at its number."""
    assert (results.run.threads, results.run.further_threads) == (1, (2,))
    assert list(results.run.workloads) == ["toy@1thread", "toy@2threads"]
    for part, threads in (("toy@1thread", 1), ("toy@2threads", 2)):
        cells = {cell.config for cell in results.cells.values() if cell.workload == part}
        assert cells == {"toy_fp32", "other"}
        assert all(cell.threads == threads for cell in results.cells.values() if cell.workload == part)
        record = results.run.workloads[part]
        assert record.baseline == f"{part}/toy_fp32"
        assert record.measuring is not None and record.measuring.waves == 3
    assert {floor.workload for floor in results.noise_floor} == set(results.run.workloads)


def test_both_numbers_serve_one_build(results: Results) -> None:
    """A build does not depend on the threads that serve it, so it is made once, with --rebuild too."""
    builds = {cell.workload: cell for cell in results.cells.values() if cell.config == "other"}
    first, second = builds["toy@1thread"], builds["toy@2threads"]
    assert first.build == second.build
    assert (first.build_cached, second.build_cached) == (False, True)


def test_the_speedup_from_threads_is_in_the_results(results: Results, out: Path) -> None:
    """Each config has one, with its interval, and the reports show it."""
    found = {speedup.cell: speedup for speedup in results.thread_speedups}
    assert set(found) == {"toy@2threads/toy_fp32", "toy@2threads/other"}
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
