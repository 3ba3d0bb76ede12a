"""The state of a run in progress: what its phases work with, and the results of its cells so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from attrs import Factory, define, evolve, frozen

from qx.contract.figures import Point
from qx.contract.records import Metric
from qx.contract.tasks import CLASSIFICATION
from qx.host.host import Entry, Host
from qx.processes.answers import MetricFailure
from qx.processes.interruption import Interruption
from qx.processes.logs import Logs, Subject, log_hint
from qx.processes.workers import Failure, Processes
from qx.results.cells import CellId
from qx.results.recording import Recording
from qx.results.run_record import ItemLooks
from qx.runner.builds import Build
from qx.runner.devices import RunDevice
from qx.runner.executor import Executor, LocalExecutor
from qx.runner.journal import Journal
from qx.runner.measure.plan import Measured
from qx.runner.measure.shares import BudgetShares
from qx.runner.preparation import Prepared
from qx.runner.request import Chosen, Reporter, Request, metric


@frozen
class Run:
    """The objects that every phase of a run works with."""

    host: Host
    request: Request
    chosen: Chosen
    processes: Processes
    reporter: Reporter
    #: Samples of all workloads.
    recording: Recording
    #: The seconds of ``--budget``; None if the user set no budget.
    budget_shares: BudgetShares | None
    #: Folder of the outputs of all cells, which is removed at the end.
    outputs: Path
    #: What the run has finished, in this sitting and in earlier ones.
    journal: Journal = Factory(Journal)
    interruption: Interruption = Factory(Interruption)
    #: Device that the cells are served on; None for the CPU.
    device: RunDevice | None = None
    #: Decides where builds, evaluations and waves are carried out.
    executor: Executor = Factory(LocalExecutor)

    @property
    def compiled(self) -> str | None:
        """Folder for what is compiled when an artifact is loaded, on a device; None on the CPU.

        It goes with the run, so that nothing is run that another run has left.
        """
        if self.device is None:
            return None
        folder = self.processes.folder / "compiled"
        folder.mkdir(mode=0o700, exist_ok=True)
        return str(folder)

    def most_side_by_side(self, processes: int, parameters: int) -> int:
        """Return how many of so many processes may build or evaluate a model at once.

        On a device that is as many as its memory probably holds of a model with so many parameters.
        """
        return processes if self.device is None else min(processes, self.device.room_for(parameters))


@define
class WorkloadRun:
    """One workload of a run, and the results of its cells so far, by the id of the cell.

    In a run at several numbers of threads there is one for each of them.
    """

    name: str
    #: None if the workload could not be prepared.
    prepared: Prepared | None
    cells: dict[str, CellId]
    #: Seed of the run.
    seed: int = 0
    builds: dict[str, Build] = Factory(dict)
    #: Builds with further seeds, by cell and seed, in the order of the seeds.
    further: dict[tuple[str, int], Build | Failure] = Factory(dict)
    #: Metrics of further builds that could not be measured, by cell and seed.
    further_metric_failures: dict[tuple[str, int], dict[str, MetricFailure]] = Factory(dict)
    #: Cells that failed, each with its failure.
    failures: dict[str, Failure] = Factory(dict)
    #: Metrics that could not be measured: ``(cell, metric)`` -> failure.
    metric_failures: dict[tuple[str, str], MetricFailure] = Factory(dict)
    measured: Measured = Factory(Measured)
    #: Memory that a launch of each evaluated cell is expected to take, in bytes.
    launch_bytes: dict[str, float] = Factory(dict)
    #: Memory of the device that a launch is expected to take, in bytes; 0 on the CPU.
    device_bytes: float = 0.0
    #: Folders of the outputs of the cells that were evaluated.
    outputs: dict[str, Path] = Factory(dict)
    #: Numbers of items at which is looked whether intervals are narrow enough; empty: all are evaluated.
    planned_items: tuple[int, ...] = ()
    #: What was seen at the last of these looks; None before.
    looks: ItemLooks | None = None
    #: Kinds of call of the loaded artifact beside the one that all have, by cell.
    kinds: dict[str, tuple[str, ...]] = Factory(dict)
    #: Reasons why cells are not served at lengths that the user named, by cell and length.
    refused_lengths: dict[str, Mapping[int, str]] = Factory(dict)
    #: Cells for which the run's time was too short, by the phase that was not done.
    left_out: dict[str, list[str]] = Factory(dict)
    #: Whether the run has other workloads too.
    is_one_of_several: bool = False
    logs: Logs = Factory(Logs)

    @property
    def threads(self) -> int:
        """Number of threads that serve."""
        return next(iter(self.cells.values())).threads

    @property
    def workload(self) -> str:
        """Name of the workload, whatever numbers of threads the run has."""
        return next(iter(self.cells.values())).workload_name

    @property
    def ready(self) -> Prepared:
        """The prepared workload."""
        assert self.prepared is not None
        return self.prepared

    def is_looked_at(self, record: Metric) -> bool:
        """Return whether the widths of intervals decide how many items a metric has values of."""
        return len(self.planned_items) > 1 and record.samples in ("per_item", "per_set")

    def points(self, points: tuple[Point, ...]) -> tuple[Point, ...]:
        """Return these points, and after them the same ones for each further kind of call that a cell has."""
        kinds = dict.fromkeys(kind for kinds in self.kinds.values() for kind in kinds)
        return (*points, *(evolve(point, call=kind) for kind in kinds for point in points))

    def refuse_lengths(self, cell: str, reasons: Mapping[int, str], reporter: Reporter) -> None:
        """Note and report the lengths at which a cell is not measured, with the reasons."""
        self.refused_lengths[cell] = reasons
        for note in self.notes(cell):
            reporter.note(f"{self.label(cell)}: {note}")

    def notes(self, cell: str) -> tuple[str, ...]:
        """Return the sentences about lengths at which a cell is not measured."""
        reasons = self.refused_lengths.get(cell, {})
        return tuple(f"not measured at length {length}: {reason}" for length, reason in reasons.items())

    def successful_builds(self) -> dict[str, Build]:
        """Return the builds of the cells that have not failed so far."""
        return {cell: build for cell, build in self.builds.items() if cell not in self.failures}

    def same_as(self, cell: str, seed: int) -> int | None:
        """Return the seed of the first earlier build of a cell whose artifact is equal to this one's.

        None where there is none. The build of the run's own seed is the first.
        """
        build = self.further[cell, seed]
        if isinstance(build, Failure):
            return None
        earlier = {self.seed: self.builds[cell]} | {
            other_seed: other
            for (name, other_seed), other in self.further.items()
            if name == cell and other_seed < seed and not isinstance(other, Failure)
        }
        contents = build.manifest.content
        return next((other for other, entry in earlier.items() if entry.manifest.content == contents), None)

    def metrics_of(self, chosen: Chosen, phase: str) -> tuple[Entry, ...]:
        """Return the metrics of a phase that apply to the workload's task, in their order."""
        return tuple(entry for entry in chosen.metrics_of(phase) if self.applies(entry))

    def leave_out_metrics(self, chosen: Chosen, reporter: Reporter) -> None:
        """Say once of metrics that are for other tasks that they do not apply, and why.

        Nothing is said of metrics that nobody has named: unless no task is known, of those by which a
        classifier would be judged.
        """
        task = self.ready.task
        others = [
            entry
            for entry in chosen.metrics
            if not self.applies(entry)
            and (entry.name in chosen.named_metrics or (task.name is None and _is_for_classes(entry)))
        ]
        causes: dict[str, list[str]] = {}
        for entry in others:
            own = "" if task.name is None else f", and it is for {' and '.join(metric(entry).tasks)}"
            causes.setdefault(f"{task.reason}{own}", []).append(entry.name)
        for cause, names in causes.items():
            words = "metrics {} do" if len(names) > 1 else "metric {} does"
            reporter.note(f"{self.name}: {words.format(', '.join(names))} not apply: {cause}")
            for cell, name in product(self.cells, names):
                self.metric_failures[cell, name] = MetricFailure("unsupported", cause)

    def applies(self, entry: Entry) -> bool:
        """Return whether a metric is for the workload's task, or for any."""
        tasks = metric(entry).tasks
        return not tasks or self.ready.task.name in tasks

    def label(self, cell: str) -> str:
        """Return the name of a cell in messages: with the workload only if the run has several."""
        return cell if self.is_one_of_several else self.cells[cell].row

    def subject(self, cell: str) -> Subject:
        """Return what processes work for that work for a cell."""
        return Subject(cell, self.label(cell))

    def mark_failed(self, cell: str, failure: Failure, reporter: Reporter, phase: str = "") -> None:
        """Note and report that a cell has failed, so that it takes no further part."""
        self.mark_all_failed({cell: failure}, reporter, phase)

    def mark_all_failed(self, failures: Mapping[str, Failure], reporter: Reporter, phase: str = "") -> None:
        """Note and report that cells have failed."""
        self.failures.update(failures)
        for cell, failure in failures.items():
            if failure.out_of_time:
                self.leave_out(phase, cell)
        self._report([(cell, str(failure), failure) for cell, failure in failures.items()], reporter)

    def _report(
        self, failures: Sequence[tuple[str, str, Failure | MetricFailure]], reporter: Reporter
    ) -> None:
        """Report failures of cells, each with its text, and the file of its log where there is more to read.

        Cells that are unsupported for one cause are in one line, without their logs.
        """
        files = [
            self.logs.failed(self.subject(cell), text, failure.traceback) for cell, text, failure in failures
        ]
        lines: dict[object, list[int]] = {}
        for number, (_, text, failure) in enumerate(failures):
            lines.setdefault(text if failure.outcome == "unsupported" else number, []).append(number)
        for numbers in lines.values():
            *others, last = (self.label(failures[number][0]) for number in numbers)
            labels = f"{', '.join(others)} and {last}" if others else last
            hint = "" if others else log_hint(files[numbers[0]])
            reporter.note(f"{labels}: {failures[numbers[0]][1]}{hint}")

    def leave_out(self, phase: str, cell: str) -> None:
        """Note that the run's time was too short for a phase of a cell."""
        cells = self.left_out.setdefault(phase, [])
        if cell not in cells:
            cells.append(cell)

    def mark_metrics_failed(
        self, failures: Mapping[tuple[str, str], MetricFailure], reporter: Reporter
    ) -> None:
        """Note and report metrics that failed, as ``(cell, metric)`` -> failure; their cells go on."""
        self.metric_failures.update(failures)
        self._report(
            [
                (cell, f"metric {name} {failure.outcome}: {failure.cause}", failure)
                for (cell, name), failure in failures.items()
            ],
            reporter,
        )


def _is_for_classes(entry: Entry) -> bool:
    return CLASSIFICATION in metric(entry).tasks
