"""A run while it goes on: what its phases work with, and what is known of its cells so far."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import Factory, define, frozen

from qx.host.host import Entry, Host
from qx.processes.workers import Failure, MetricFailure, Processes
from qx.results.recording import Recording
from qx.runner.builds import Build
from qx.runner.measure.plan import Measured
from qx.runner.preparation import Prepared
from qx.runner.request import Cell, Chosen, Reporter, Request, metric


@frozen
class Run:
    """What every phase works with."""

    host: Host
    request: Request
    chosen: Chosen
    processes: Processes
    reporter: Reporter
    #: Of all workloads.
    recording: Recording


@define
class State:
    """What is known of the cells of a workload so far."""

    cells: dict[str, Cell]
    builds: dict[str, Build]
    failures: dict[str, Failure]
    metric_failures: dict[tuple[str, str], MetricFailure]

    def going(self) -> dict[str, Build]:
        """Cells that have ended well so far."""
        return {cell: build for cell, build in self.builds.items() if cell not in self.failures}


@define
class Part:
    """One workload of a run, and what is known of it so far."""

    name: str
    #: None where it could not be prepared.
    prepared: Prepared | None
    state: State
    measured: Measured = Factory(Measured)
    #: Bytes that a launch is reckoned with.
    launch_bytes: float = 2.0**29
    #: It is not the only one of the run.
    several: bool = False

    @property
    def ready(self) -> Prepared:
        """The workload, prepared."""
        assert self.prepared is not None
        return self.prepared

    def metrics_of(self, chosen: Chosen, phase: str) -> tuple[Entry, ...]:
        """The metrics of a phase that are for the workload's task, in their order."""
        return tuple(entry for entry in chosen.metrics_of(phase) if self._applies(entry))

    def leave_out_metrics(self, chosen: Chosen, reporter: Reporter) -> None:
        """Say once of each metric that is for another task that it does not apply, and why."""
        for entry in chosen.metrics:
            if self._applies(entry):
                continue
            cause = self.ready.task.reason
            reporter.say(f"{self.name}: metric {entry.name} does not apply: {cause}")
            for cell in self.state.cells:
                self.state.metric_failures[cell, entry.name] = MetricFailure("unsupported", cause)

    def _applies(self, entry: Entry) -> bool:
        tasks = metric(entry).tasks
        return not tasks or self.ready.task.name in tasks

    def named(self, cell: str) -> str:
        """What a reader of this run knows a cell by."""
        return cell if self.several else self.state.cells[cell].row

    def give_up(self, cell: str, failure: Failure, reporter: Reporter) -> None:
        """The cell has ended, not well: it is told, and takes no further part."""
        self.state.failures[cell] = failure
        reporter.say(f"{self.named(cell)}: {failure}")

    def give_up_metrics(self, failures: Mapping[tuple[str, str], MetricFailure], reporter: Reporter) -> None:
        """These metrics ``(cell, metric)`` could not be measured: each is told, and costs no cell."""
        self.state.metric_failures.update(failures)
        for (cell, name), failure in failures.items():
            reporter.say(f"{self.named(cell)}: metric {name} {failure.outcome}: {failure.cause}")


def cell_id(workload: str, row: str) -> str:
    """The id of a cell of a workload."""
    return f"{workload}/{row}"
