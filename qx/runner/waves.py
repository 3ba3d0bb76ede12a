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
from qx.host import Entry
from qx.jobs import LaunchJob
from qx.quantity import log_ratios
from qx.recording import Key, Recording, Series, joined
from qx.runner.evaluation import MetricFailure
from qx.runner.processes import Failure, Processes, Worker
from qx.runner.request import Cell, metric

#: Fewer waves would give intervals that hold the truth less often than they claim: DESIGN, 'Statistics'.
LEAST_WAVES = 6
#: So many waves are aimed at when the rounds of one are counted out from the budget.
TARGET_WAVES = 8
#: A block is as many calls as fit this time, within the limits.
BLOCK_SECONDS = 0.012
BLOCK_CALLS = (2, 50)
#: Calls at the head of a block that bring back what other launches drove out of the caches; not recorded. A
#: call that takes as long as a block brings back everything by itself.
BLOCK_WARM_CALLS = (1, 2)
#: Rounds of a wave.
ROUNDS = (5, 24)
#: Warming ends after this long, steady or not.
WARM_SECONDS = 1.0
#: A launch that dies is tried again so often before its cell is given up.
RETRIES = 2


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
    #: Processors that launches may run on.
    cpus: int
    #: Seconds for all groups together.
    budget: float
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
    #: repeat``; ``the baseline failed``.
    ended_by: str = "nothing to repeat"
    seconds: float = 0.0
    budget: float = 0.0
    launches: Counter[str] = Factory(Counter)
    #: Launches that died, each with what it died of.
    deaths: list[dict[str, Any]] = Factory(list)
    #: Cells that were given up.
    failures: dict[str, Failure] = Factory(dict)
    metric_failures: dict[tuple[str, str], MetricFailure] = Factory(dict)
    #: Rounds in a wave, and calls in a block of a cell at a batch size.
    rounds: int = 0
    calls: dict[str, dict[int, int]] = Factory(dict)
    #: Cells whose times had not become steady when the warming ended, and at which batch size.
    unsteady: set[tuple[str, int]] = Factory(set)
    #: Samples as they come, by cell and key; those of the baseline and the control come from all groups.
    parts: dict[tuple[str, Key], list[Series]] = Factory(dict)
    #: Metrics that a cell has failed, or has nothing to give for: ``(cell, metric)``.
    dropped: set[tuple[str, str]] = Factory(set)


#: Told how far the waves are, 0 to 1, and a line of text.
Step = Callable[[float, str], None]


def measure_in_waves(plan: Plan, processes: Processes, recording: Recording, step: Step) -> Measured:
    """Run waves of each group until the ratios are precise enough or the budget is spent."""
    measured = Measured(budget=plan.budget)
    if not plan.fresh and not plan.block:
        return measured
    began = time.monotonic()
    reasons = []
    for index, group in enumerate(plan.groups):
        runner = _Group(plan, group, processes, recording, measured, step)
        share = (index + 1) / len(plan.groups)
        reasons.append(runner.run(began, began + plan.budget * share))
    worst = ("the baseline failed", "budget", "precision", "waves")
    measured.ended_by = min(reasons, key=worst.index)
    measured.seconds = time.monotonic() - began
    return measured


@frozen(kw_only=True)
class _Task:
    """A metric of phase ``block``, at one batch size."""

    metric: str
    batch_size: int
    key: Key


@define
class _Group:
    plan: Plan
    group: tuple[str, ...]
    processes: Processes
    recording: Recording
    measured: Measured
    step: Step
    order: random.Random = field(init=False)
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
                if not self.measured.rounds:
                    self._count_out(times, time.monotonic() - began)
                for cell in times:
                    self.measured.calls.setdefault(
                        cell, {size: _calls(seconds) for size, seconds in times[cell].items()}
                    )
                self._rounds(launches, wave)
        finally:
            for worker in launches.values():
                worker.close()

    def _started(self, cells: Sequence[str], wave: int) -> dict[str, Worker]:
        """A launch of every cell, as many at once as there are processors, unless their start is timed."""
        at_once = self.plan.cpus // max(cell.threads for cell in self.plan.cells.values())
        if any(metric(entry).alone for entry in self.plan.fresh):
            at_once = 1
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
                        worker, cell, wave, _Task(metric=entry.name, batch_size=0, key=(entry.name, None))
                    )
            except Failure as failure:
                worker.close()
                self._died(cell, wave, failure)
            else:
                return worker
        return None

    def _warmed(self, launches: dict[str, Worker]) -> dict[str, dict[int, float]]:
        """Seconds a call takes when it is warm, by cell and batch size."""
        times: dict[str, dict[int, float]] = {}
        for cell in list(launches):
            try:
                times[cell] = {
                    size: self._warmed_at(launches[cell], cell, size) for size in self.plan.batch_sizes
                }
            except Failure as failure:
                self._lost(launches, cell, failure)
        return times

    def _warmed_at(self, worker: Worker, cell: str, size: int) -> float:
        answer = worker.ask("warm", timeout=self.plan.timeout, batch_size=size, seconds=WARM_SECONDS)
        if not answer["steady"]:
            self.measured.unsteady.add((cell, size))
        return answer["seconds_per_call"]  # type: ignore[no-any-return]

    def _count_out(self, times: Mapping[str, Mapping[int, float]], spent: float) -> None:
        """Rounds, so that the waves that are aimed at fit the budget."""
        round_seconds = sum(
            (_calls(seconds) + _warm_calls(_calls(seconds))) * seconds
            for sizes in times.values()
            for seconds in sizes.values()
        )
        left = self.plan.budget / len(self.plan.groups) / TARGET_WAVES - spent
        least, most = ROUNDS
        fitting = math.floor(left / round_seconds) if round_seconds > 0 else most
        self.measured.rounds = max(least, min(most, fitting))

    def _rounds(self, launches: dict[str, Worker], wave: int) -> None:
        tasks = [
            _Task(
                metric=entry.name,
                batch_size=size,
                key=(entry.name, size if metric(entry).per_batch_size else None),
            )
            for entry in self.plan.block
            for size in (self.plan.batch_sizes if metric(entry).per_batch_size else self.plan.batch_sizes[:1])
        ]
        for number in range(self.measured.rounds):
            self.order.shuffle(tasks)
            for task in tasks:
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
            self._show(f"wave {wave + 1}, round {number + 1} of {self.measured.rounds}")

    def _ask(
        self, worker: Worker, cell: str, wave: int, task: _Task, number: int = -1, position: int = -1
    ) -> None:
        """Have a metric measured. Its error costs this metric of this cell; a launch's death is raised."""
        if (cell, task.metric) in self.measured.dropped:
            return
        arguments: dict[str, Any] = {"metric": task.metric, "stage": f"measure {task.metric}"}
        if number < 0:
            do = "fresh"
        else:
            calls = self.measured.calls[cell][task.batch_size]
            do = "block"
            arguments |= {"batch_size": task.batch_size, "calls": calls, "warm": _warm_calls(calls)}
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


def _calls(seconds: float) -> int:
    """How many calls make a block."""
    least, most = BLOCK_CALLS
    return max(least, min(most, round(BLOCK_SECONDS / seconds)))


def _warm_calls(calls: int) -> int:
    """How many calls come before those of a block."""
    few, more = BLOCK_WARM_CALLS
    return few if calls == BLOCK_CALLS[0] else more
