"""Waves: fresh launches of every cell of a group, alive together, timed in rounds of a random order."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import Factory, define, field, frozen

from qx import stats
from qx.environment import usable_cpus
from qx.host import Entry
from qx.jobs import LaunchJob
from qx.quantity import log_ratios
from qx.recording import Key, Recording, Series, joined
from qx.runner.evaluation import MetricFailure
from qx.runner.holding import cpus_for, off
from qx.runner.processes import Failure, Processes, Worker
from qx.runner.request import Cell, metric
from qx.runner.rounds import (
    LEAST_ROUNDS,
    Task,
    block_calls,
    counted_out,
    in_order,
    round_seconds,
    warm_calls,
)

#: Fewer waves would give intervals that hold the truth less often than they claim: DESIGN, 'Statistics'.
LEAST_WAVES = 6
#: Of the time that the least waves leave, so much is planned for rounds: the first wave is no exact measure.
HEADROOM = 0.9
#: Warming ends after this long, steady or not.
WARM_SECONDS = 1.0
#: A launch that dies is tried again so often before its cell is given up.
RETRIES = 2
#: What can end the waves, the worst first.
ENDED_BY = ("the baseline failed", "too short a budget", "budget", "precision", "waves", "nothing to repeat")


@frozen(kw_only=True)
class Plan:
    """What the waves of a run are made of."""

    #: Cells that share waves; each group holds the baseline and the control.
    groups: tuple[tuple[str, ...], ...]
    cells: Mapping[str, Cell]
    artifacts: Mapping[str, Path]
    baseline: str
    fresh: tuple[Entry, ...]
    block: tuple[Entry, ...]
    batch_sizes: tuple[int, ...]
    precision: float
    #: CPUs that launches may run on; none for all that this process may use.
    cpus: tuple[int, ...] = ()
    #: Seconds for all groups together.
    budget: float
    #: Refuse a budget that the least number of waves does not fit.
    strict: bool = False
    least_waves: int = LEAST_WAVES
    seed: int
    timeout: float
    #: The job of a launch, but for the artifact and the moment it is spawned.
    job: Callable[[Cell, Path, int], LaunchJob]


@define
class Measured:
    """What came of the waves, besides the recording."""

    waves: int = 0
    #: ``precision``; ``budget``; ``waves``, the least number of them, where nothing is timed; ``nothing to
    #: repeat``; ``too short a budget``; ``the baseline failed``.
    ended_by: str = "nothing to repeat"
    seconds: float = 0.0
    budget: float = 0.0
    launches: Counter[str] = Factory(Counter)
    #: Launches that died, each with what it died of.
    deaths: list[dict[str, Any]] = Factory(list)
    #: Cells that were given up.
    failures: dict[str, Failure] = Factory(dict)
    metric_failures: dict[tuple[str, str], MetricFailure] = Factory(dict)
    #: Rounds in a wave, by metric and batch size; and calls in a block of a cell at a batch size.
    rounds: dict[str, dict[int, int]] = Factory(dict)
    #: While rounds went on, the launches were held to so many CPUs, and this process to the others; 0: not.
    held_to: int = 0
    calls: dict[str, dict[int, int]] = Factory(dict)
    #: Calls before those, which are not recorded.
    warm_calls: dict[str, dict[int, int]] = Factory(dict)
    #: Cells whose times had not become steady when the warming ended, and at which batch size.
    unsteady: set[tuple[str, int]] = Factory(set)
    #: Samples as they come, by cell and key; those of the baseline and the control come from all groups.
    parts: dict[tuple[str, Key], list[Series]] = Factory(dict)
    #: Metrics that a cell has failed, or has nothing to give for: ``(cell, metric)``.
    dropped: set[tuple[str, str]] = Factory(set)


class BudgetTooShort(Exception):
    """The least number of waves does not fit the budget: they take about ``due`` seconds."""

    def __init__(self, due: float) -> None:
        super().__init__(f"{due:.0f} s are due")
        self.due = due


#: Told how far the waves are, 0 to 1, and a line of text.
Step = Callable[[float, str], None]


def measure_in_waves(plan: Plan, processes: Processes, recording: Recording, step: Step) -> Measured:
    """Run waves of each group until the ratios are precise enough or the budget is spent.

    Raises ``BudgetTooShort`` where ``plan.strict``, before anything is timed.
    """
    measured = Measured(budget=plan.budget)
    if not plan.fresh and not plan.block:
        return measured
    began = time.monotonic()
    reasons = []
    for index, group in enumerate(plan.groups):
        runner = _Group(plan, group, processes, recording, measured, step)
        share = (index + 1) / len(plan.groups)
        reasons.append(runner.run(began, began + plan.budget * share))
    measured.ended_by = min(reasons, key=ENDED_BY.index)
    measured.seconds = time.monotonic() - began
    return measured


@define
class _Group:
    plan: Plan
    group: tuple[str, ...]
    processes: Processes
    recording: Recording
    measured: Measured
    step: Step
    order: random.Random = field(init=False)
    #: Rounds in a wave.
    counts: dict[Task, int] = Factory(dict)
    #: When the first wave of the run began.
    began: float = field(init=False, default=0.0)
    #: What the last whole wave brought, in words.
    reached: str = ""

    def __attrs_post_init__(self) -> None:
        self.order = random.Random(f"{self.plan.seed} {' '.join(self.group)}")

    @property
    def alive(self) -> list[str]:
        """The cells that have not been given up."""
        return [cell for cell in self.group if cell not in self.measured.failures]

    def run(self, began: float, deadline: float) -> str:
        """Waves until enough; gives what ended them."""
        start, waves = time.monotonic(), 0
        self.began = began
        while True:
            self._wave()
            waves += 1
            self._keep()
            self.reached = self._reached()
            now = time.monotonic()
            mean = (now - start) / waves
            self._show(f"wave {waves} done")
            if self.plan.baseline in self.measured.failures:
                return "the baseline failed"
            if waves < self.plan.least_waves:
                continue
            if not self.plan.block:
                return "waves"
            if self._precise():
                return "precision"
            if now + mean > deadline:
                return "budget"

    # One wave -------------------------------------------------------------------------------------

    def _wave(self) -> None:
        wave = self.measured.waves
        self.measured.waves += 1
        cells = self.alive
        self.order.shuffle(cells)
        began = time.monotonic()
        launches = self._started(cells, wave)
        try:
            if self.plan.block:
                times = self._warmed(launches)
                if not self.counts:
                    self._count_out(times, time.monotonic() - began)
                for cell, seconds in times.items():
                    self.measured.calls.setdefault(cell, _each(block_calls, seconds))
                    self.measured.warm_calls.setdefault(cell, _each(warm_calls, seconds))
                with off(self._hold(launches)):
                    self._rounds(launches, wave)
        finally:
            for worker in launches.values():
                worker.close()

    @property
    def _at_once(self) -> int:
        """Launches that do not get in each other's way."""
        return (len(self.plan.cpus) or usable_cpus()) // self._threads

    @property
    def _threads(self) -> int:
        return max(cell.threads for cell in self.plan.cells.values())

    def _started(self, cells: Sequence[str], wave: int) -> dict[str, Worker]:
        """A launch of every cell, as many at once as there are processors, unless their start is timed."""
        alone = any(metric(entry).alone for entry in self.plan.fresh)
        at_once = 1 if alone else self._at_once
        with self.processes.side_by_side(at_once) as pool:
            started = dict(zip(cells, pool.map(lambda cell: self._start(cell, wave), cells), strict=True))
        return {cell: worker for cell, worker in started.items() if worker is not None}

    def _start(self, cell: str, wave: int) -> Worker | None:
        while cell not in self.measured.failures:
            job = self.plan.job(self.plan.cells[cell], self.plan.artifacts[cell], time.monotonic_ns())
            worker = self.processes.start(job, f"launch-{cell.rpartition('/')[2]}")
            self.measured.launches[cell] += 1
            try:
                worker.answer(timeout=self.plan.timeout)
                for entry in self.plan.fresh:
                    self._ask(
                        worker, cell, wave, Task(metric=entry.name, batch_size=0, key=(entry.name, None))
                    )
            except Failure as failure:
                worker.close()
                self._died(cell, wave, failure)
            else:
                return worker
        return None

    def _warmed(self, launches: dict[str, Worker]) -> dict[str, dict[int, float]]:
        """Seconds a call takes when it is warm, by cell and batch size."""

        def warmed(cell: str) -> dict[int, float] | Failure:
            try:
                return {size: self._warmed_at(launches[cell], cell, size) for size in self.plan.batch_sizes}
            except Failure as failure:
                return failure

        with self.processes.side_by_side(self._at_once) as pool:
            ended = dict(zip(launches, pool.map(warmed, list(launches)), strict=True))
        times: dict[str, dict[int, float]] = {}
        for cell, end in ended.items():
            if isinstance(end, Failure):
                self._lost(launches, cell, end)
            else:
                times[cell] = end
        return times

    def _warmed_at(self, worker: Worker, cell: str, size: int) -> float:
        answer = worker.ask("warm", timeout=self.plan.timeout, batch_size=size, seconds=WARM_SECONDS)
        if not answer["steady"]:
            self.measured.unsteady.add((cell, size))
        return answer["seconds_per_call"]  # type: ignore[no-any-return]

    def _count_out(self, times: Mapping[str, Mapping[int, float]], spent: float) -> None:
        """Rounds, so that the waves that are aimed at fit the budget."""
        tasks = [
            Task(
                metric=entry.name,
                batch_size=size,
                key=(entry.name, size if metric(entry).per_batch_size else None),
            )
            for entry in self.plan.block
            for size in (self.plan.batch_sizes if metric(entry).per_batch_size else self.plan.batch_sizes[:1])
        ]
        least = LEAST_ROUNDS * sum(round_seconds(times, task.batch_size) for task in tasks)
        due = self.plan.least_waves * len(self.plan.groups) * (spent + least)
        # Not in a later group: what the first has measured would be lost.
        if self.plan.strict and due > self.plan.budget and not self.measured.rounds:
            raise BudgetTooShort(due)
        left = self.plan.budget / len(self.plan.groups) / self.plan.least_waves - spent
        self.counts = counted_out(tasks, times, HEADROOM * left)
        for task, count in self.counts.items():
            self.measured.rounds.setdefault(task.metric, {})[task.batch_size] = count

    def _hold(self, launches: dict[str, Worker]) -> tuple[int, ...]:
        """Hold the launches to as many CPUs as they have threads, the same for all and others in each wave.

        Of all that was tried this steadied the ratios most: ``benchmarks/scheduling.py``.
        """
        cpus = cpus_for(self._threads, self.plan.cpus, self.order)
        for cell in list(launches) if cpus else ():
            try:
                launches[cell].ask("hold", timeout=self.plan.timeout, cpus=cpus)
            except Failure as failure:
                self._lost(launches, cell, failure)
        self.measured.held_to = len(cpus)
        return cpus

    def _rounds(self, launches: dict[str, Worker], wave: int) -> None:
        passes = in_order(self.counts, self.order)
        for done, (task, number) in enumerate(passes):
            cells = list(launches)
            self.order.shuffle(cells)
            for position, cell in enumerate(cells):
                if (cell, task.metric) in self.measured.dropped:
                    continue
                try:
                    self._ask(launches[cell], cell, wave, task, number, position)
                except Failure as failure:
                    self._lost(launches, cell, failure)
            # Between rounds, when nothing is timed.
            self._show(f"wave {wave + 1}, round {done + 1} of {len(passes)}")

    def _ask(
        self, worker: Worker, cell: str, wave: int, task: Task, number: int = -1, position: int = -1
    ) -> None:
        """Have a metric measured. Its error costs this metric of this cell; a launch's death is raised."""
        if (cell, task.metric) in self.measured.dropped:
            return
        arguments: dict[str, Any] = {"metric": task.metric, "stage": f"measure {task.metric}"}
        if number < 0:
            do = "fresh"
        else:
            do = "block"
            arguments |= {
                "batch_size": task.batch_size,
                "calls": self.measured.calls[cell][task.batch_size],
                "warm": self.measured.warm_calls[cell][task.batch_size],
            }
        try:
            answer = worker.ask(do, timeout=self.plan.timeout, **arguments)
        except Failure as failure:
            if failure.gone:
                raise
            self.measured.dropped.add((cell, task.metric))
            self.measured.metric_failures[cell, task.metric] = MetricFailure(failure.outcome, failure.cause)
            return
        if (values := answer["values"]) is None:
            self.measured.dropped.add((cell, task.metric))
            return
        if number < 0 and len(values) != 1:
            cause = f"{task.metric}: one value is due from each launch, and it gave {len(values)}"
            self.measured.dropped.add((cell, task.metric))
            self.measured.metric_failures[cell, task.metric] = MetricFailure("failed", cause)
            return
        series = Series(
            values=values,
            wave=np.full(len(values), wave),
            round=np.full(len(values), number),
            position=np.full(len(values), position),
            details=(answer["details"],),
        )
        self.measured.parts.setdefault((cell, task.key), []).append(series)

    # Deaths ---------------------------------------------------------------------------------------

    def _lost(self, launches: dict[str, Worker], cell: str, failure: Failure) -> None:
        """A launch is lost in the middle of its wave."""
        launches.pop(cell).close()
        self._died(cell, self.measured.waves - 1, failure)

    def _died(self, cell: str, wave: int, failure: Failure) -> None:
        """Count a death; a cell that dies too often, or hangs, is given up."""
        self.measured.deaths.append(
            {
                "cell": cell,
                "wave": wave,
                "outcome": failure.outcome,
                "stage": failure.stage,
                "cause": failure.cause,
            }
        )
        deaths = sum(death["cell"] == cell for death in self.measured.deaths)
        # Whatever raised an error in loading will raise it again, and what hung would cost its time again.
        if deaths > RETRIES or not failure.gone or failure.outcome == "timeout":
            self.measured.failures[cell] = failure

    # Enough? --------------------------------------------------------------------------------------

    def _keep(self) -> None:
        for (cell, key), parts in self.measured.parts.items():
            self.recording.add(cell, key, joined(parts))

    def _ratios(self) -> list[Any]:
        """Log ratios to the baseline, ``[waves, cells]``, for each key that has them."""
        ratios = []
        for key in sorted({key for _, key in self.measured.parts}, key=str):
            # A cell that a metric was dropped for is measured no more, and must not hold up the others.
            cells = [cell for cell in self.alive if (cell, key) in self.measured.parts]
            cells = [cell for cell in cells if (cell, key[0]) not in self.measured.dropped]
            if self.plan.baseline in cells and len(cells) > 1 and self._by_ratio(key, cells):
                ratios.append(log_ratios(self.recording, cells, key, self.plan.baseline))
        return ratios

    def _by_ratio(self, key: Key, cells: Sequence[str]) -> bool:
        """Whether it is a metric of blocks that is compared by ratio, and every sample has a logarithm."""
        return any(
            entry.name == key[0] and metric(entry).compare != "difference" for entry in self.plan.block
        ) and all((self.recording.series[cell][key].values > 0).all() for cell in cells)

    def _precise(self) -> bool:
        return all(
            stats.enough(ratios, self.plan.precision, self.plan.least_waves) for ratios in self._ratios()
        )

    def _show(self, text: str) -> None:
        self.step(min(1.0, (time.monotonic() - self.began) / self.plan.budget), text + self.reached)

    def _reached(self) -> str:
        widths = [
            float(np.max(width)) for ratios in self._ratios() if (width := stats.half_width(ratios)).size
        ]
        widest = max(widths, default=math.inf)
        if not math.isfinite(widest):
            return ""
        return f"; speedups to ±{widest:.1%}, wanted ±{self.plan.precision:.1%}"


def _each(count: Callable[[float], int], seconds: Mapping[int, float]) -> dict[int, int]:
    return {size: count(one) for size, one in seconds.items()}
