"""The launches of one wave: fresh processes for memory and start-up, forked ones whose calls are timed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeAlias

from attrs import Factory, define

from qx.contract.devices import CPU
from qx.contract.figures import Figure, Point
from qx.processes.answers import LaunchAnswer, Measurement, PlainSamples, WarmAnswer
from qx.processes.fork_servers import ForkServers
from qx.processes.jobs import LaunchJob
from qx.processes.logs import Subject
from qx.processes.workers import Failure, Processes, Worker
from qx.runner.devices import wave_reading
from qx.runner.evaluation import sample_failure
from qx.runner.measure.plan import Measured, Plan
from qx.runner.measure.servers import WaveServers
from qx.runner.request import metric
from qx.worker.samples import metric_in, stage_of

#: The longest warm-up in seconds, whether the times have become steady or not.
WARM_SECONDS = 1.0

#: The launches of a wave by cell, and the seconds that a call takes by cell and point.
Ready: TypeAlias = tuple[dict[str, Worker], dict[str, dict[Point, float]]]


@define
class Launches:
    """Starts the launches of one wave, and has them measure.

    Calls are timed in processes that are forked from servers of this wave alone, which have imported the
    runtime: that takes a tenth of the seconds of an import for each. Memory and start-up are those of a
    process that users start, so they are measured in fresh ones, in the waves that need them. What cannot be
    forked is started fresh in every wave, and both measured and timed in the same process.
    """

    plan: Plan
    processes: Processes
    measured: Measured
    #: The shortest time of a call in the warm-ups of all waves so far in seconds, by cell and point.
    fastest: dict[str, dict[Point, float]]
    #: Whether this wave measures the metrics of phase ``fresh``.
    measures_fresh: bool
    #: Servers that this wave forks from, and no other; None: those of the run.
    _servers: ForkServers | None = None
    #: Cells whose metrics of phase ``fresh`` this wave has measured.
    _measured_fresh: set[str] = Factory(set)

    def measure_apart(self, cells: Sequence[str]) -> None:
        """Measure the metrics of phase ``fresh`` of cells that are timed forked, in launches of their own."""
        with self.processes.side_by_side(1 if self._starts_alone else self.plan.parallel_launches) as pool:
            done = [pool.submit(self._measure_apart, cell) for cell in cells if self._forks(cell)]
            wait(done)
        for measured in done:
            measured.result()

    @contextmanager
    def forking(self, cells: Sequence[str], servers: WaveServers, waves_to_come: int) -> Iterator[None]:
        """Have processes forked from servers of this wave alone while the context lasts.

        ``waves_to_come`` is the number of waves that will surely be made, with this one.
        """
        jobs = [self._job(cell) for cell in cells if self._forks(cell)]
        if not jobs:
            yield
            return
        self._servers, stack = servers.take(jobs, waves_to_come)
        with stack:
            yield

    def ready(self, cells: Sequence[str]) -> Ready:
        """Launch every cell and warm it up; return the launches, and seconds per call by cell and point.

        As many start in parallel as there are processors, and the first warm up while the last start. Only if
        a metric times the start of one of them, one starts after another, and all warm up afterwards.
        """
        alone = self._starts_alone and not all(map(self._forks, cells))
        with self.processes.side_by_side(1 if alone else self.plan.parallel_launches) as pool:
            starts = {cell: pool.submit(self._start, cell) for cell in cells}
            # On a device no other launch may work while one warms up.
            warms_up_later = alone or self.plan.device != CPU
            warm = {} if warms_up_later else self._submit_warm_ups(pool, starts)
            # Wait inside the block: there Ctrl-C ends the workers.
            wait(starts.values())
            wait(warm.values())
        if warms_up_later:
            with self.processes.side_by_side(self.plan.parallel_warm_ups) as pool:
                warm = self._submit_warm_ups(pool, starts)
                wait(warm.values())
        launches = {cell: worker for cell, start in starts.items() if (worker := start.result()) is not None}
        times: dict[str, dict[Point, float]] = {}
        for cell, future in warm.items():
            result = future.result()
            if isinstance(result, Failure):
                self.lose(launches, cell, result)
            elif result is not None:
                times[cell] = result
        return launches, times

    def ask(self, worker: Worker, cell: str, do: str, name: str, **arguments: object) -> PlainSamples | None:
        """Return a metric's samples; None if it failed or does not apply, which drops it for this cell.

        Raises ``Failure`` if the launch has died, or if the error was not the metric's.
        """
        if not self.measured.should_measure(cell, name):
            return None
        try:
            answer = worker.ask(
                do, Measurement, timeout=self.plan.timeout, metric=name, stage=stage_of(name), **arguments
            )
        except Failure as failure:
            if failure.gone or metric_in(failure.stage) != name:
                raise
            self.measured.drop_metric(cell, name, failure.of_metric())
            self.measured.disturbed.add(cell)
            return None
        if answer.samples is None:
            self.measured.drop_metric(cell, name)
            return None
        self.measured.answered.add((cell, name))
        return answer.samples

    def lose(self, launches: dict[str, Worker], cell: str, failure: Failure) -> None:
        """Close a launch that failed in the middle of its wave, and record that."""
        launches.pop(cell).close()
        self.measured.record_death(self.plan.cells[cell], failure, self.plan.metrics)

    @property
    def _starts_alone(self) -> bool:
        """Whether a metric times the start of a launch with nothing else at work."""
        return any(metric(entry).alone for entry in self.plan.fresh)

    # One launch -----------------------------------------------------------------------------------

    def _forks(self, cell: str) -> bool:
        """Return whether the launch whose calls are timed is forked, and so is not one that users start."""
        is_possible = self.plan.device == CPU and self.plan.cells[cell].threads == 1
        loader = self.plan.artifacts[cell].loader.name
        return bool(self.plan.block) and is_possible and loader not in self.measured.unforkable

    def _measure_apart(self, cell: str) -> None:
        """Measure the metrics of phase ``fresh`` in a fresh launch that is closed afterwards."""
        while self._wants_fresh(cell):
            if (worker := self._launch(cell, fresh=True)) is not None:
                worker.close()

    def _start(self, cell: str) -> Worker | None:
        """Start the launch of a cell whose calls are timed; None if the cell fails."""
        while cell not in self.measured.failures and not self.measured.is_cut_off:
            if (worker := self._launch(cell, fresh=not self._forks(cell))) is not None:
                return worker
        return None

    def _wants_fresh(self, cell: str) -> bool:
        """Return whether metrics of phase ``fresh`` are still to be measured of a cell in this wave."""
        if not self.measures_fresh or cell in self._measured_fresh or self.measured.is_cut_off:
            return False
        is_any = any(self.measured.should_measure(cell, entry.name) for entry in self.plan.fresh)
        return is_any and cell not in self.measured.failures

    def _launch(self, cell: str, fresh: bool) -> Worker | None:
        """Start a launch, and measure what this wave still wants of a fresh one; None if the launch fails."""
        try:
            worker = self._answering(cell, fresh)
        except Failure as failure:
            self._discard(cell, failure)
            return None
        try:
            if not worker.is_forked and self._wants_fresh(cell):
                self._measure_fresh(worker, cell)
                self._measured_fresh.add(cell)
        except Failure as failure:
            worker.close()
            self._discard(cell, failure)
            return None
        return worker

    def _discard(self, cell: str, failure: Failure) -> None:
        """Record the death of a launch: what it and others have measured of the cell in this wave is void."""
        self._measured_fresh.discard(cell)
        self.measured.record_death(self.plan.cells[cell], failure, self.plan.metrics)

    def _answering(self, cell: str, fresh: bool) -> Worker:
        """Start a launch, and return it once it has answered for the first time. Raises ``Failure``.

        Where the first launch of a loader that is forked fails, a fresh one is tried: if it answers, launches
        of this loader cannot be forked.
        """
        loader = self.plan.artifacts[cell].loader.name
        try:
            worker = self._answer(cell, fresh)
        except Failure as failure:
            if fresh or failure.out_of_time or loader in self.measured.forkable:
                raise
            worker = self._answer(cell, fresh=True)
            self.measured.unforkable.setdefault(loader, str(failure))
            return worker
        if worker.is_forked:
            self.measured.forkable.add(loader)
        elif not fresh:
            self.measured.unforkable.setdefault(loader, "its modules start threads when they are imported")
        return worker

    def _answer(self, cell: str, fresh: bool) -> Worker:
        job = self._job(cell)
        for reference in job.metrics:
            if not self.measured.should_measure(cell, reference.name):
                job = job.without(reference.name)
        row = self.plan.cells[cell].row
        worker = self.processes.start(
            job, f"launch-{row}", Subject(cell, row), fresh=fresh, servers=self._servers
        )
        self.measured.launches[cell] += 1
        self.measured.disturbed.discard(cell)
        try:
            worker.answer(LaunchAnswer, timeout=self.plan.timeout)
        except Failure:
            worker.close()
            raise
        return worker

    def _job(self, cell: str) -> LaunchJob:
        return self.plan.job(self.plan.cells[cell], self.plan.artifacts[cell], time.monotonic_ns())

    def _measure_fresh(self, worker: Worker, cell: str) -> None:
        """Have a launch measure every metric of phase ``fresh``."""
        for entry in self.plan.fresh:
            samples = self.ask(worker, cell, "fresh", entry.name)
            if samples is None:
                continue
            if failure := sample_failure(metric(entry), samples, items=1):
                self.measured.drop_metric(cell, entry.name, failure)
            else:
                self.measured.record(cell, Figure(entry.name), samples)

    # Warm-ups -------------------------------------------------------------------------------------

    def _submit_warm_ups(
        self, pool: ThreadPoolExecutor, starts: Mapping[str, Future[Worker | None]]
    ) -> dict[str, Future[dict[Point, float] | Failure | None]]:
        """Have every launch warm up once it has started, in the order in which they start."""
        return {cell: pool.submit(self._warm_up, start, cell) for cell, start in starts.items()}

    def _warm_up(self, start: Future[Worker | None], cell: str) -> dict[Point, float] | Failure | None:
        """Warm up a launch and return the seconds per call by point; None without a warm-up."""
        worker = start.result()
        if worker is None or not self.plan.block:
            return None
        try:
            return {
                point: self._warm_up_at(worker, cell, point)
                for point in self.plan.all_points
                if self.plan.has(cell, point)
            }
        except Failure as failure:
            return failure

    def _warm_up_at(self, worker: Worker, cell: str, point: Point) -> float:
        """Warm up a launch at a point, and return the seconds that a call takes, with its reset."""
        answer = worker.ask(
            "warm", WarmAnswer, timeout=self.plan.timeout, point=str(point), seconds=WARM_SECONDS
        )
        if not answer.steady:
            self.measured.unsteady.add((cell, point))
        self._note_device(cell, point, answer)
        fastest = self.fastest.setdefault(cell, {})
        fastest[point] = min(fastest.get(point, math.inf), answer.fastest + answer.reset)
        return answer.seconds_per_call + answer.reset

    def _note_device(self, cell: str, point: Point, answer: WarmAnswer) -> None:
        """Note the state of the device and the first call, which only warm-ups on a device have."""
        if answer.reading is not None:
            wave = self.measured.waves - 1
            self.measured.readings.append(wave_reading(wave, cell, answer.reading))
        if answer.first is not None:
            first = self.measured.first_calls.setdefault(cell, {})
            first[point] = max(answer.first, first.get(point, 0.0))
