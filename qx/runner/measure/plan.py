"""The plan of the waves of a workload, and the state of their measurement."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping

import numpy as np
from attrs import Factory, define, frozen

from qx.analysis.settled import Decisions
from qx.contract.devices import CPU
from qx.contract.figures import CALL, Figure, Point
from qx.contract.records import Metric
from qx.environment import usable_cpus
from qx.host.host import Entry, Reference
from qx.processes.answers import MetricFailure, PlainSamples
from qx.processes.jobs import LaunchJob, StoredArtifact
from qx.processes.workers import Failure
from qx.results.cells import CellId
from qx.results.recording import Series
from qx.results.run_record import TIME_LIMIT, Death, WaveReading
from qx.runner.blame import Hangs, fatal_metric
from qx.runner.measure.rounds import Task
from qx.runner.request import metric, references
from qx.values import OptionValues

#: The least number of waves: intervals over fewer would cover the true value less often than they claim, see
#: ``qx.statistics.over_waves.enough``.
LEAST_WAVES = 6
#: Number of times that a launch of a cell may die before the cell fails.
RETRIES = 2
#: Reason for which waves end: the user has interrupted the run.
INTERRUPTED = "interrupted"
#: Reason for which waves end: too many machines of a cluster were lost.
MACHINES_LOST = "the machines were lost"
#: The reasons for which waves end, the worst first.
ENDED_BY = (
    "the baseline failed",
    MACHINES_LOST,
    INTERRUPTED,
    TIME_LIMIT,
    "too short a budget",
    "budget",
    "precision",
    "waves",
    "nothing to repeat",
)


@frozen(kw_only=True)
class LaunchJobs:
    """Makes the jobs of the launches of a workload.

    The fields are those of ``LaunchJob`` that do not depend on the launch, or depend on its cell alone.
    """

    seed: int
    engine: str | None
    wrappers: tuple[Reference, ...]
    compiled: str | None
    inputs: str
    lengths: Mapping[int, str]
    #: Points that a cell is called at, by cell.
    points: Mapping[str, tuple[Point, ...]]
    metrics: tuple[Reference, ...]
    metric_options: Mapping[str, OptionValues]
    cpus: tuple[int, ...] | None

    def __call__(self, cell: CellId, artifact: StoredArtifact, spawned_ns: int) -> LaunchJob:
        """Return the job of a launch of a cell; ``spawned_ns`` is the time of its spawn in nanoseconds."""
        return LaunchJob(
            seed=self.seed,
            threads=cell.threads,
            engine=self.engine,
            wrappers=self.wrappers,
            device=cell.device,
            compiled=self.compiled,
            artifact=artifact,
            inputs=self.inputs,
            lengths=self.lengths,
            points=self.points[str(cell)],
            metrics=self.metrics,
            metric_options=self.metric_options,
            spawned_ns=spawned_ns,
            cpus=self.cpus,
        )


@frozen(kw_only=True)
class Plan:
    """The plan of the waves of a workload."""

    #: Cells that share waves; each group holds the baseline and the control.
    groups: tuple[tuple[str, ...], ...]
    cells: Mapping[str, CellId]
    artifacts: Mapping[str, StoredArtifact]
    baseline: str
    #: Metrics of the two phases that are measured in launches.
    fresh: tuple[Entry, ...]
    block: tuple[Entry, ...]
    #: Points of the run, those of further kinds of call last; a metric may ask for further ones.
    points: tuple[Point, ...]
    #: Kinds of call of a cell's subject beside the one that all have, by cell.
    kinds: Mapping[str, tuple[str, ...]] = Factory(dict)
    #: Lengths at which a cell is not served, by cell.
    refused_lengths: Mapping[str, Collection[int]] = Factory(dict)
    precision: float
    #: CPUs that launches may run on; empty: all that this process may use.
    cpus: tuple[int, ...] = ()
    #: Budget of all groups together, in seconds.
    budget: float
    #: The longest budget in seconds that may be taken if the least number of waves needs it; None: any.
    max_budget: float | None = None
    least_waves: int = LEAST_WAVES
    #: When all launches must have ended, by the monotonic clock in seconds.
    end: float = math.inf
    seed: int
    timeout: float
    #: Device that launches are served on.
    device: str = CPU
    #: What will be decided about the cells, so that those that need no more rounds have fewer; None: all have
    #: the same rounds.
    decisions: Decisions | None = None
    #: Makes the job of a launch from a cell, its artifact and the time of the spawn in nanoseconds.
    job: Callable[[CellId, StoredArtifact, int], LaunchJob]

    @property
    def threads(self) -> int:
        """The largest number of threads of a launch."""
        return max(cell.threads for cell in self.cells.values())

    @property
    def metrics(self) -> tuple[Reference, ...]:
        """The metrics of both phases."""
        return references((*self.fresh, *self.block))

    @property
    def parallel_launches(self) -> int:
        """The number of launches that can work in parallel without sharing a CPU."""
        return (len(self.cpus) or usable_cpus()) // self.threads

    @property
    def parallel_warm_ups(self) -> int:
        """The number of launches that can warm up in parallel: one on a device, which it has alone."""
        return self.parallel_launches if self.device == CPU else 1

    def record(self, name: str) -> Metric:
        """Return the record of a metric of phase ``block``."""
        return next(metric(entry) for entry in self.block if entry.name == name)

    @property
    def tasks(self) -> list[Task]:
        """The metrics that rounds measure: each at all of its points, or at the first of the run only."""
        return [
            Task(
                metric=entry.name,
                point=point,
                figure=Figure(entry.name, point if metric(entry).per_point else None),
            )
            for entry in self.block
            for point in self._points(metric(entry))
        ]

    def _points(self, record: Metric) -> tuple[Point, ...]:
        return record.points(self.points) if record.per_point else self.points[:1]

    def has(self, cell: str, point: Point) -> bool:
        """Return whether the subject of a cell has calls of a point's kind, and serves its length."""
        has_kind = point.call == CALL or point.call in self.kinds.get(cell, ())
        return has_kind and point.length not in self.refused_lengths.get(cell, ())

    @property
    def all_points(self) -> list[Point]:
        """The points of the run and those that only a metric asks for, at which launches are warmed up."""
        return list(dict.fromkeys([*self.points, *(task.point for task in self.tasks)]))


@define
class Measured:
    """The state of the measurement in waves, besides the recorded samples."""

    #: Number of waves so far.
    waves: int = 0
    #: One of ``ENDED_BY``; ``waves`` means that the least number of them was enough, since nothing is timed.
    ended_by: str = "nothing to repeat"
    #: Time that all waves took, in seconds.
    seconds: float = 0.0
    #: Budget of all groups in seconds: as planned, or as long as the least number of waves takes.
    budget: float = 0.0
    #: Seconds that the least number of waves takes, as estimated in the first wave; 0: not estimated.
    needed: float = 0.0
    #: Number of launches, by cell.
    launches: Counter[str] = Factory(Counter)
    #: Launches that died.
    deaths: list[Death] = Factory(list)
    #: Number of launches that died outside of all metrics, by cell.
    own_deaths: Counter[str] = Factory(Counter)
    hangs: Hangs = Factory(Hangs)
    #: Number of waves that measured the metrics of phase ``fresh``.
    fresh_waves: int = 0
    #: Loaders of which a forked launch has answered.
    forkable: set[str] = Factory(set)
    #: Loaders whose launches are all fresh, since they cannot be forked, with the reason.
    unforkable: dict[str, str] = Factory(dict)
    #: Cells that failed, and take no part in further waves.
    failures: dict[str, Failure] = Factory(dict)
    metric_failures: dict[tuple[str, str], MetricFailure] = Factory(dict)
    #: The largest number of rounds of a wave, by metric and point.
    rounds: dict[str, dict[Point, int]] = Factory(dict)
    #: Settled cells that have fewer rounds than others in the current wave, and the number of waves that each
    #: cell has completed with fewer.
    thinned: set[str] = Factory(set)
    fewer_rounds: Counter[str] = Factory(Counter)
    #: Number of CPUs that launches were pinned to during rounds, with the host on the others; 0: not pinned.
    pinned_to: int = 0
    #: The CPUs that launches were pinned to, by wave; empty if they were not pinned.
    pinned_cpus: list[tuple[int, ...]] = Factory(list)
    #: Number of calls in a block of a cell, by cell and point: of the last wave, since the estimates of
    #: the first waves are worse.
    calls_per_block: dict[str, dict[Point, int]] = Factory(dict)
    #: Number of calls before those of a block, which are not recorded, by cell and point.
    warm_calls: dict[str, dict[Point, int]] = Factory(dict)
    #: Cells and points whose times had not become steady when the warm-up ended.
    unsteady: set[tuple[str, Point]] = Factory(set)
    #: Samples of waves that a launch completed, by cell and figure. The baseline and the control have samples
    #: of all groups.
    parts: dict[tuple[str, Figure], list[Series]] = Factory(dict)
    #: Samples of the current wave, by cell, which count once their launch has completed it.
    pending: dict[str, list[tuple[Figure, Series]]] = Factory(dict)
    #: Metrics that failed in a cell or do not apply to it: ``(cell, metric)``.
    dropped: set[tuple[str, str]] = Factory(set)
    #: Cells in whose current launch a metric failed, which may have damaged the process.
    disturbed: set[str] = Factory(set)
    #: Metrics that have values of a cell: ``(cell, metric)``.
    answered: set[tuple[str, str]] = Factory(set)
    #: States of the device at the end of warm-ups.
    readings: list[WaveReading] = Factory(list)
    #: Seconds of the slowest first call, by cell and point; only on a device.
    first_calls: dict[str, dict[Point, float]] = Factory(dict)
    #: Whether the run's time was over during the current wave, which does not count then.
    is_cut_off: bool = False
    #: Whether a group has fewer than the least number of waves, since the run's time was over or the user has
    #: interrupted it.
    has_too_few_waves: bool = False
    #: Number of the sitting that each wave was made in, from 0.
    sittings: list[int] = Factory(list)

    def drop_metric(self, cell: str, name: str, failure: MetricFailure | None = None) -> None:
        """Stop measuring a metric of a cell, since it has failed or does not apply."""
        if (cell, name) in self.dropped:
            return
        self.dropped.add((cell, name))
        if failure is not None:
            self.metric_failures[cell, name] = failure

    def should_measure(self, cell: str, name: str) -> bool:
        """Return whether to measure a metric of a cell, and drop a metric that hung in other cells."""
        if (cell, name) not in self.answered and (reason := self.hangs.skip_reason(name)) is not None:
            self.drop_metric(cell, name, reason)
        return (cell, name) not in self.dropped

    def record_death(self, cell_id: CellId, failure: Failure, metrics: Collection[Reference]) -> None:
        """Count a launch that failed while these metrics were measured in it, and discard its samples.

        If the launch died in one of the metrics, that metric is dropped for the cell. Otherwise it is the
        cell's own fault, unless a metric had failed in that launch before. A cell fails if its launches hang,
        or die too often. Where the run's time was over, nobody is to blame.
        """
        cell = str(cell_id)
        self.pending.pop(cell, None)
        if failure.out_of_time:
            self.is_cut_off = True
            return
        self.deaths.append(
            Death(
                cell=cell,
                wave=self.waves - 1,
                outcome=failure.outcome,
                stage=failure.stage,
                cause=failure.cause,
            )
        )
        remaining = [metric for metric in metrics if (cell, metric.name) not in self.dropped]
        if (fatal := fatal_metric(failure, remaining)) is not None:
            self.drop_metric(cell, fatal, failure.of_metric())
            # The control is the baseline, so its hangs are not counted a second time.
            if not cell_id.control:
                self.hangs.note(fatal, cell_id.row, failure)
            return
        if cell in self.disturbed:
            return
        self.own_deaths[cell] += 1
        # An error in loading would be raised again, and a hang would cost the whole timeout again.
        if self.own_deaths[cell] > RETRIES or not failure.gone or failure.outcome == "timeout":
            self.failures[cell] = failure

    def record(
        self, cell: str, figure: Figure, samples: PlainSamples, number: int = -1, position: int = -1
    ) -> None:
        """Keep samples of the current wave until the launch has completed it.

        ``number`` is that of their round, and ``position`` the cell's in it; -1 for those of no round.
        """
        count = len(samples.values)
        series = Series(
            values=np.asarray(samples.values, dtype=np.float64),
            wave=np.full(count, self.waves - 1),
            round=np.full(count, number),
            position=np.full(count, position),
            details=(samples.details,),
        )
        self.pending.setdefault(cell, []).append((figure, series))

    def keep_pending(self, cell: str) -> None:
        """Keep the samples of the current wave, which the launch of this cell has completed."""
        for figure, series in self.pending.pop(cell, ()):
            self.parts.setdefault((cell, figure), []).append(series)
        self.fewer_rounds.update({cell} & self.thinned)
