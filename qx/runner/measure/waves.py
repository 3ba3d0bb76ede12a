"""Waves: fresh launches of every cell of a group, alive together, timed in rounds of a random order."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np
from attrs import Factory, define, field

from qx.analysis.quantity import Quantity
from qx.contract.records import MOST_WAVES
from qx.processes.workers import Failure, MetricFailure, Processes, Worker
from qx.results.recording import Floats, Key, Recording, Series, joined
from qx.runner.evaluation import unpromised
from qx.runner.measure.holding import cpus_for, off
from qx.runner.measure.plan import ENDED_BY, Measured, Plan
from qx.runner.measure.rounds import (
    LEAST_ROUNDS,
    Task,
    Times,
    alike,
    block_calls,
    counted_out,
    in_order,
    round_seconds,
    warm_calls,
)
from qx.runner.request import metric
from qx.statistics import intervals
from qx.values import JsonMapping, JsonObject
from qx.worker.samples import metric_in, stage_of

#: Of the time that a wave leaves, so much is planned for rounds: how long they take is known but roughly.
HEADROOM = 0.95
#: Warming ends after this long, steady or not.
WARM_SECONDS = 1.0


class BudgetTooShort(Exception):
    """The least number of waves does not fit the budget: they take about ``due`` seconds."""

    def __init__(self, due: float) -> None:
        super().__init__(f"{due:.0f} s are due")
        self.needed = due


#: Told how far the waves are, 0 to 1, and a line of text.
Step = Callable[[float, str], None]


def measure_in_waves(plan: Plan, processes: Processes, recording: Recording, step: Step) -> Measured:
    """Run waves of each group until the ratios are precise enough or the budget is spent.

    Raises ``BudgetTooShort`` in the first wave, where even ``plan.most`` is too short.
    """
    measured = Measured(budget=plan.budget)
    if not plan.fresh and not plan.block:
        return measured
    began = time.monotonic()
    reasons = []
    for index, group in enumerate(plan.groups):
        share = (index + 1) / len(plan.groups)
        runner = _Group(plan, group, processes, recording, measured, step, began=began, share=share)
        reasons.append(runner.run())
    measured.ended_by = min(reasons, key=ENDED_BY.index)
    measured.seconds = time.monotonic() - began
    return measured


@define
class _Group:
    """The waves of one group."""

    plan: Plan
    group: tuple[str, ...]
    processes: Processes
    recording: Recording
    measured: Measured
    step: Step
    #: When the first wave of the run began.
    began: float
    #: Of the budget, so much is for this group and those before it.
    share: float
    order: random.Random = field(init=False)
    #: Rounds in the wave that goes on.
    counts: dict[Task, int] = Factory(dict)
    #: The fewest seconds that a call took while it warmed up in any wave so far, by cell and batch size.
    fastest: dict[str, dict[int, float]] = Factory(dict)
    #: Waves of this group that are done, and how many of them the baseline's launch saw to their end: in the
    #: others there is nothing to compare with.
    waves: int = 0
    whole_waves: int = 0
    #: What the last whole wave brought, in words.
    reached: str = ""

    def __attrs_post_init__(self) -> None:
        self.order = random.Random(f"{self.plan.seed} {' '.join(self.group)}")

    @property
    def alive(self) -> list[str]:
        """The cells that have not been given up."""
        return [cell for cell in self.group if cell not in self.measured.failures]

    @property
    def deadline(self) -> float:
        """When the waves of this group are to end."""
        return self.began + self.measured.budget * self.share

    def run(self) -> str:
        """Waves until enough; gives what ended them."""
        start = time.monotonic()
        while True:
            self._wave()
            self.waves += 1
            self._keep()
            self.reached = self._reached()
            now = time.monotonic()
            mean = (now - start) / self.waves
            self._show(f"wave {self.measured.waves} done")
            if self.plan.baseline in self.measured.failures:
                return "the baseline failed"
            if self.waves == 1 and not self.plan.block:
                self._grant(self.plan.least_waves * len(self.plan.groups) * mean)
            if self.whole_waves < self.plan.least_waves:
                continue
            ratios = self._ratios()
            if not ratios:
                return "waves"
            if self._precise(ratios):
                return "precision"
            if now + mean > self.deadline or self.measured.waves >= MOST_WAVES * self.share:
                return "budget"

    # One wave -------------------------------------------------------------------------------------

    def _wave(self) -> None:
        self.measured.waves += 1
        self.measured.pending.clear()
        cells = self.alive
        self.order.shuffle(cells)
        began = time.monotonic()
        launches, times = self._ready(cells)
        try:
            if self.plan.block:
                counted = alike(self.fastest, self.plan.baseline)
                for cell, seconds in counted.items():
                    self.measured.calls[cell] = _each(block_calls, seconds)
                    self.measured.warm_calls[cell] = _each(warm_calls, seconds)
                self._count_out(times, counted, began)
                with off(self._hold(launches)):
                    self._rounds(launches)
        finally:
            for worker in launches.values():
                worker.close()
        for cell in launches:
            self.measured.complete(cell)
        self.whole_waves += self.plan.baseline in launches

    def _ready(self, cells: Sequence[str]) -> tuple[dict[str, Worker], dict[str, dict[int, float]]]:
        """A launch of every cell, warm, and the seconds that a call takes then, by cell and batch size.

        As many start at once as there are processors, and the first are warmed where the last start; unless a
        start is timed, which has the machine for itself.
        """
        alone = any(metric(entry).alone for entry in self.plan.fresh)
        with self.processes.side_by_side(1 if alone else self.plan.at_once) as pool:
            starts = {cell: pool.submit(self._start, cell) for cell in cells}
            warm = {} if alone else self._warming(pool, starts)
            # Here, not where the block ends, a Ctrl-C ends what is waited for.
            wait(starts.values())
            wait(warm.values())
        if alone:
            with self.processes.side_by_side(self.plan.at_once) as pool:
                warm = self._warming(pool, starts)
                wait(warm.values())
        launches = {cell: worker for cell, start in starts.items() if (worker := start.result()) is not None}
        times: dict[str, dict[int, float]] = {}
        for cell, future in warm.items():
            end = future.result()
            if isinstance(end, Failure):
                self._lost(launches, cell, end)
            elif end is not None:
                times[cell] = end
        return launches, times

    def _warming(
        self, pool: ThreadPoolExecutor, starts: Mapping[str, Future[Worker | None]]
    ) -> dict[str, Future[dict[int, float] | Failure | None]]:
        """Have every launch warmed once it has started: a pool does first what it was given first."""
        return {cell: pool.submit(self._warmed, start, cell) for cell, start in starts.items()}

    def _start(self, cell: str) -> Worker | None:
        while cell not in self.measured.failures:
            job = self.plan.job(self.plan.cells[cell], self.plan.artifacts[cell], time.monotonic_ns())
            for reference in job.metrics:
                if not self.measured.wanted(cell, reference.name):
                    job = job.without(reference.name)
            worker = self.processes.start(job, f"launch-{cell.rpartition('/')[2]}")
            self.measured.launches[cell] += 1
            self.measured.disturbed.discard(cell)
            try:
                worker.answer(timeout=self.plan.timeout)
                self._fresh(worker, cell)
            except Failure as failure:
                worker.close()
                self.measured.died(cell, failure, self.plan.metrics)
            else:
                return worker
        return None

    def _warmed(self, start: Future[Worker | None], cell: str) -> dict[int, float] | Failure | None:
        """Seconds a call takes when it is warm, by batch size; None where there is nothing to warm."""
        worker = start.result()
        if worker is None or not self.plan.block:
            return None
        try:
            return {size: self._warmed_at(worker, cell, size) for size in self.plan.batch_sizes}
        except Failure as failure:
            return failure

    def _warmed_at(self, worker: Worker, cell: str, size: int) -> float:
        answer = worker.ask("warm", timeout=self.plan.timeout, batch_size=size, seconds=WARM_SECONDS)
        if not answer["steady"]:
            self.measured.unsteady.add((cell, size))
        fastest = self.fastest.setdefault(cell, {})
        fastest[size] = min(fastest.get(size, math.inf), answer["fastest"])
        return float(answer["seconds_per_call"])

    def _count_out(self, times: Times, counted: Times, began: float) -> None:
        """Rounds of this wave, so that it and those that must follow fit what is left of the budget."""
        due = self.plan.least_waves - self.whole_waves
        if due <= 0:
            return
        tasks = self.plan.tasks
        costs = {task: round_seconds(times, counted, task.batch_size) for task in tasks}
        spent = time.monotonic() - began
        least = LEAST_ROUNDS * sum(costs.values())
        self._grant(self.plan.least_waves * len(self.plan.groups) * (spent + least))
        self.counts = counted_out(tasks, costs, HEADROOM * ((self.deadline - began) / due - spent))
        for task, count in self.counts.items():
            most = self.measured.rounds.setdefault(task.metric, {})
            most[task.batch_size] = max(count, most.get(task.batch_size, 0))

    def _grant(self, seconds: float) -> None:
        """In the first wave of a run, take what the least number of waves takes if the budget is shorter.

        Raises ``BudgetTooShort`` where that is more than may be taken.
        """
        # Not in a later group: what the first has measured would be lost.
        if self.plan.most is None or self.measured.waves > 1:
            return
        if seconds > self.plan.most:
            raise BudgetTooShort(seconds)
        self.measured.needed = seconds
        if seconds > self.measured.budget:
            self.measured.budget = min(self.plan.most, math.ceil(seconds))

    def _hold(self, launches: dict[str, Worker]) -> tuple[int, ...]:
        """Hold the launches to as many CPUs as they have threads, the same for all and others in each wave.

        Of all that was tried this steadied the ratios most: ``benchmarks/scheduling.py``.
        """
        cpus = cpus_for(self.plan.threads, self.plan.cpus, self.order)
        for cell in list(launches) if cpus else ():
            try:
                launches[cell].ask("hold", timeout=self.plan.timeout, cpus=cpus)
            except Failure as failure:
                self._lost(launches, cell, failure)
        self.measured.held_to = len(cpus)
        self.measured.held.append(cpus)
        return cpus

    def _rounds(self, launches: dict[str, Worker]) -> None:
        passes = in_order(self.counts, self.order)
        for done, (task, number) in enumerate(passes):
            cells = list(launches)
            self.order.shuffle(cells)
            for position, cell in enumerate(cells):
                try:
                    self._block(launches[cell], cell, task, number, position)
                except Failure as failure:
                    self._lost(launches, cell, failure)
            # Between rounds, when nothing is timed.
            self._show(f"wave {self.measured.waves}, round {done + 1} of {len(passes)}")

    def _lost(self, launches: dict[str, Worker], cell: str, failure: Failure) -> None:
        """A launch is lost in the middle of its wave."""
        launches.pop(cell).close()
        self.measured.died(cell, failure, self.plan.metrics)

    # What is measured -----------------------------------------------------------------------------

    def _fresh(self, worker: Worker, cell: str) -> None:
        """Have every metric of phase ``fresh`` measured."""
        for entry in self.plan.fresh:
            answer = self._ask(worker, cell, "fresh", entry.name)
            if answer is None:
                continue
            if failure := unpromised(metric(entry), answer, items=1):
                self.measured.drop(cell, entry.name, failure)
            else:
                self._record(cell, (entry.name, None), answer)

    def _block(self, worker: Worker, cell: str, task: Task, number: int, position: int) -> None:
        """Have one block of a round measured: the round's number, and the cell's position in it."""
        answer = self._ask(
            worker,
            cell,
            "block",
            task.metric,
            batch_size=task.batch_size,
            calls=self.measured.calls[cell][task.batch_size],
            warm=self.measured.warm_calls[cell][task.batch_size],
        )
        if answer is not None:
            self._record(cell, task.key, answer, number, position)

    def _ask(self, worker: Worker, cell: str, do: str, name: str, **arguments: object) -> JsonObject | None:
        """What a metric gave, if it did; its error costs this metric of this cell.

        Raises ``Failure`` where the launch has died of it, or where the error was not the metric's.
        """
        if not self.measured.wanted(cell, name):
            return None
        try:
            answer = worker.ask(do, timeout=self.plan.timeout, metric=name, stage=stage_of(name), **arguments)
        except Failure as failure:
            if failure.gone or metric_in(failure.stage) != name:
                raise
            self.measured.drop(cell, name, MetricFailure(failure.outcome, failure.cause))
            self.measured.disturbed.add(cell)
            return None
        if answer["values"] is None:
            self.measured.drop(cell, name)
            return None
        self.measured.answered.add((cell, name))
        return answer

    def _record(self, cell: str, key: Key, answer: JsonMapping, number: int = -1, position: int = -1) -> None:
        count = len(answer["values"])
        series = Series(
            values=answer["values"],
            wave=np.full(count, self.measured.waves - 1),
            round=np.full(count, number),
            position=np.full(count, position),
            details=(answer["details"],),
        )
        self.measured.pending.setdefault(cell, []).append((key, series))

    # Enough? --------------------------------------------------------------------------------------

    def _keep(self) -> None:
        for (cell, key), parts in self.measured.parts.items():
            self.recording.add(cell, key, joined(parts))

    def _ratios(self) -> list[Floats]:
        """Log ratios to the baseline, ``[waves, cells]``, for each key that has them."""
        ratios = []
        # Without the cells of other workloads, whose waves are others.
        recording = self.recording.select(self.plan.cells)
        records = {entry.name: metric(entry) for entry in self.plan.block}
        for key in sorted({key for _, key in self.measured.parts if key[0] in records}, key=str):
            # A cell that a metric was dropped for is measured no more, and must not hold up the others.
            cells = [cell for cell in self.alive if (cell, key) in self.measured.parts]
            cells = [cell for cell in cells if (cell, key[0]) not in self.measured.dropped]
            quantity = Quantity(records[key[0]], key[1], recording, self.plan.baseline)
            others = [cell for cell in cells if cell != self.plan.baseline and quantity.are_comparable(cell)]
            if others and quantity.is_relative and quantity.are_comparable(self.plan.baseline):
                ratios.append(
                    np.column_stack([quantity.advantage(cell, self.plan.baseline) for cell in others])
                )
        return ratios

    def _precise(self, ratios: Sequence[Floats]) -> bool:
        return all(intervals.enough(one, self.plan.precision, self.plan.least_waves) for one in ratios)

    def _show(self, text: str) -> None:
        spent, budget = time.monotonic() - self.began, self.measured.budget
        self.step(spent / budget if spent < budget else 1.0, text + self.reached)

    def _reached(self) -> str:
        widths = [
            float(np.max(width)) for ratios in self._ratios() if (width := intervals.half_width(ratios)).size
        ]
        widest = max(widths, default=math.inf)
        if not math.isfinite(widest):
            return ""
        reached = f"±{widest:.1%}" if widest < 1 else "no better than ±100 %"
        return f"; speedups to {reached}, wanted ±{self.plan.precision:.1%}"


def _each(count: Callable[[float], int], seconds: Mapping[int, float]) -> dict[int, int]:
    return {size: count(one) for size, one in seconds.items()}
