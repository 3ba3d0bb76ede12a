"""A run while it goes on: what its phases work with, and what is known of its cells so far."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import Factory, define, frozen

from qx.host import Host
from qx.recording import Recording
from qx.runner.builds import Build
from qx.runner.plan import Measured
from qx.runner.preparation import Prepared
from qx.runner.processes import Failure, MetricFailure, Processes
from qx.runner.request import Cell, Chosen, Reporter, Request


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
