"""What waves are made of, and what has come of them so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping

from attrs import Factory, define, frozen

from qx.contract.records import CONTROL
from qx.environment import usable_cpus
from qx.host.host import Entry, Reference
from qx.processes.jobs import LaunchJob, StoredArtifact
from qx.processes.workers import Failure, MetricFailure
from qx.results.recording import Key, Series
from qx.runner.blame import Hangs, fatal_metric
from qx.runner.measure.rounds import Task
from qx.runner.request import Cell, metric, references
from qx.values import JsonObject

#: Intervals over fewer waves would cover the true value less often than they claim: see
#: ``qx.statistics.intervals.enough``.
LEAST_WAVES = 6
#: A launch that dies is tried again so often before its cell is given up.
RETRIES = 2
#: What can end the waves, the worst first.
ENDED_BY = ("the baseline failed", "too short a budget", "budget", "precision", "waves", "nothing to repeat")


@frozen(kw_only=True)
class Plan:
    """What the waves of a workload are made of."""

    #: Cells that share waves; each group holds the baseline and the control.
    groups: tuple[tuple[str, ...], ...]
    cells: Mapping[str, Cell]
    artifacts: Mapping[str, StoredArtifact]
    baseline: str
    #: Metrics of the two phases that are measured in launches.
    fresh: tuple[Entry, ...]
    block: tuple[Entry, ...]
    batch_sizes: tuple[int, ...]
    precision: float
    #: CPUs that launches may run on; none for all that this process may use.
    cpus: tuple[int, ...] = ()
    #: Seconds for all groups together.
    budget: float
    #: Refuse to take longer than this, as where the least number of waves does not fit; None to take it.
    most: float | None = None
    least_waves: int = LEAST_WAVES
    seed: int
    timeout: float
    #: The job of a launch, but for the artifact and the moment it is spawned.
    job: Callable[[Cell, StoredArtifact, int], LaunchJob]

    @property
    def threads(self) -> int:
        """The most threads that a launch has."""
        return max(cell.threads for cell in self.cells.values())

    @property
    def metrics(self) -> tuple[Reference, ...]:
        """The metrics of both phases."""
        return references((*self.fresh, *self.block))

    @property
    def at_once(self) -> int:
        """Launches that do not get in each other's way."""
        return (len(self.cpus) or usable_cpus()) // self.threads

    @property
    def tasks(self) -> list[Task]:
        """What each round measures: every metric of blocks, at each batch size or at the first alone."""
        return [
            Task(
                metric=entry.name,
                batch_size=size,
                key=(entry.name, size if metric(entry).per_batch_size else None),
            )
            for entry in self.block
            for size in (self.batch_sizes if metric(entry).per_batch_size else self.batch_sizes[:1])
        ]


@define
class Measured:
    """What came of the waves, besides the recording."""

    waves: int = 0
    #: One of ``ENDED_BY``; ``waves``, the least number of them, is where nothing is timed.
    ended_by: str = "nothing to repeat"
    seconds: float = 0.0
    #: Seconds for all groups: what was planned, or what the least number of waves takes where that is more.
    budget: float = 0.0
    #: Seconds that the least number of waves was expected to take, in the first of them; 0: not estimated.
    needed: float = 0.0
    launches: Counter[str] = Factory(Counter)
    #: Launches that died, each with what it died of.
    deaths: list[JsonObject] = Factory(list)
    #: How many launches of a cell died outside of all metrics.
    own_deaths: Counter[str] = Factory(Counter)
    hangs: Hangs = Factory(Hangs)
    #: Cells that were given up.
    failures: dict[str, Failure] = Factory(dict)
    metric_failures: dict[tuple[str, str], MetricFailure] = Factory(dict)
    #: The most rounds that a wave had, by metric and batch size.
    rounds: dict[str, dict[int, int]] = Factory(dict)
    #: While rounds went on, the launches were held to so many CPUs, and this process to the others; 0: not.
    held_to: int = 0
    #: Which CPUs these were, by wave; none where launches were not held.
    held: list[tuple[int, ...]] = Factory(list)
    #: Calls in a block of a cell at a batch size, and calls before those, which are not recorded: of the last
    #: wave, since the first know less well what a call takes.
    calls: dict[str, dict[int, int]] = Factory(dict)
    warm_calls: dict[str, dict[int, int]] = Factory(dict)
    #: Cells whose times had not become steady when the warming ended, and at which batch size.
    unsteady: set[tuple[str, int]] = Factory(set)
    #: Samples of waves that a launch saw to their end, by cell and key; those of the baseline and the control
    #: come from all groups.
    parts: dict[tuple[str, Key], list[Series]] = Factory(dict)
    #: Samples of the wave that goes on, by cell: they count once it has come to its end.
    pending: dict[str, list[tuple[Key, Series]]] = Factory(dict)
    #: Metrics that a cell has failed, or has nothing to give for: ``(cell, metric)``.
    dropped: set[tuple[str, str]] = Factory(set)
    #: Cells whose launch, the one that goes on, was left by a metric that failed: it may have been damaged.
    disturbed: set[str] = Factory(set)
    #: Metrics that have given values of a cell: ``(cell, metric)``.
    answered: set[tuple[str, str]] = Factory(set)

    def drop(self, cell: str, name: str, failure: MetricFailure | None = None) -> None:
        """Measure this metric of this cell no more: it has failed, or is not applicable."""
        if (cell, name) in self.dropped:
            return
        self.dropped.add((cell, name))
        if failure is not None:
            self.metric_failures[cell, name] = failure

    def wanted(self, cell: str, name: str) -> bool:
        """Whether a metric is to be measured of a cell; one that hung in others is dropped here."""
        if (cell, name) not in self.answered and (skipped := self.hangs.skipped(name)) is not None:
            self.drop(cell, name, skipped)
        return (cell, name) not in self.dropped

    def died(self, cell: str, failure: Failure, metrics: Collection[Reference]) -> None:
        """Count a launch that ended badly while these metrics were measured in it, and forget its samples.

        Where it was in one of them, that metric is dropped for the cell. Else it was the cell's own fault,
        unless a metric had failed in that launch before: a cell that dies too often, or hangs, is given up.
        """
        self.pending.pop(cell, None)
        self.deaths.append(
            {
                "cell": cell,
                "wave": self.waves - 1,
                "outcome": failure.outcome,
                "stage": failure.stage,
                "cause": failure.cause,
            }
        )
        remaining = [metric for metric in metrics if (cell, metric.name) not in self.dropped]
        if (fatal := fatal_metric(failure, remaining)) is not None:
            self.drop(cell, fatal, MetricFailure(failure.outcome, failure.cause))
            row = cell.partition("/")[2]
            # The control is the baseline: it says nothing of other cells that the baseline has not said.
            if row != CONTROL:
                self.hangs.note(fatal, row, failure)
            return
        if cell in self.disturbed:
            return
        self.own_deaths[cell] += 1
        # Whatever raised an error in loading will raise it again, and what hung would cost its time again.
        if self.own_deaths[cell] > RETRIES or not failure.gone or failure.outcome == "timeout":
            self.failures[cell] = failure

    def complete(self, cell: str) -> None:
        """Have the samples of the wave count of a cell whose launch saw it to its end."""
        for key, series in self.pending.pop(cell, ()):
            self.parts.setdefault((cell, key), []).append(series)
