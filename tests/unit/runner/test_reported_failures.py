"""The lines that a run prints about cells and metrics that have failed."""

from __future__ import annotations

from attrs import Factory, define

from qx.processes.answers import MetricFailure
from qx.processes.workers import Failure
from qx.results.cells import CellId
from qx.runner.workload_run import WorkloadRun

CONFIGS = ("a", "b", "c", "d")


@define
class Notes:
    """A reporter that keeps the lines."""

    lines: list[str] = Factory(list)

    def phase(self, name: str, text: str) -> None:
        """Do nothing."""

    def step(self, done: float, text: str) -> None:
        """Do nothing."""

    def say(self, text: str) -> None:
        """Keep the line."""
        self.lines.append(text)

    def note(self, text: str) -> None:
        """Keep the line."""
        self.lines.append(text)

    def show(self, text: str) -> None:
        """Keep the line."""
        self.lines.append(text)


def workload_run() -> WorkloadRun:
    """Return a workload with four cells."""
    cells = {str(cell): cell for cell in (CellId(workload="toy", config=config) for config in CONFIGS)}
    return WorkloadRun("toy", None, cells)


def test_cells_that_are_unsupported_for_one_cause_are_in_one_line() -> None:
    """Each keeps its failure; what failed by itself has a line of its own, in the order of the cells."""
    run, notes = workload_run(), Notes()
    failures = {
        "toy/a": Failure("unsupported", "check_model", "no layer"),
        "toy/b": Failure("failed", "convert", "no room"),
        "toy/c": Failure("unsupported", "check_model", "no layer"),
        "toy/d": Failure("failed", "convert", "no room"),
    }
    run.mark_all_failed(failures, notes, "build")
    assert notes.lines == [
        "a and c: unsupported in check_model: no layer",
        "b: failed in convert: no room",
        "d: failed in convert: no room",
    ]
    assert run.failures == failures
    assert run.left_out == {}


def test_metrics_are_told_apart() -> None:
    """Two metrics that are unsupported for one cause have a line each."""
    run, notes = workload_run(), Notes()
    cause = MetricFailure("unsupported", "it has no cache")
    failures = {(f"toy/{config}", name): cause for name in ("x", "y") for config in ("a", "b", "d")}
    run.mark_metrics_failed(failures, notes)
    assert notes.lines == [
        "a, b and d: metric x unsupported: it has no cache",
        "a, b and d: metric y unsupported: it has no cache",
    ]
    assert run.metric_failures == failures


def test_a_cell_for_which_the_time_was_too_short_is_noted() -> None:
    """With the phase that was not done."""
    run = workload_run()
    run.mark_failed(
        "toy/b", Failure("timeout", "evaluate", "not begun", out_of_time=True), Notes(), "evaluate"
    )
    assert run.left_out == {"evaluate": ["toy/b"]}
