"""Waves: launches of every cell of a group, alive together, timed in rounds of a random order."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

import numpy as np
from attrs import Factory, define, evolve, field, fields

from qx.analysis.quantity import Quantity
from qx.analysis.settled import Settling
from qx.contract.figures import Point
from qx.contract.records import MOST_WAVES
from qx.processes.answers import HoldAnswer
from qx.processes.workers import Failure, Processes, Worker
from qx.results.recording import Floats, Recording, joined
from qx.results.run_record import TIME_LIMIT
from qx.runner.evaluation import sample_failure
from qx.runner.measure.fresh import LEAST_FRESH, MOST_FRESH, fewest_values, has_enough_fresh
from qx.runner.measure.holding import cpus_for, keep_host_off
from qx.runner.measure.launches import Launches
from qx.runner.measure.log import WaveLog
from qx.runner.measure.orders import MeasureElsewhere, WaveOrder, WaveOutcome
from qx.runner.measure.plan import ENDED_BY, INTERRUPTED, Measured, Plan
from qx.runner.measure.rounds import (
    LEAST_ROUNDS,
    RoundCost,
    Task,
    Times,
    block_calls,
    count_rounds,
    quantise_times,
    round_seconds,
    schedule_rounds,
    settled_rounds,
    warm_calls,
)
from qx.runner.measure.servers import WaveServers
from qx.runner.request import metric
from qx.statistics import over_waves

#: Share of the remaining time of a wave that is planned for rounds, whose length is only an estimate.
HEADROOM = 0.95
#: Share of the time until the end of the run's time that waves are planned for: a wave that is longer than
#: estimated would be cut off, with nothing left of it.
BEFORE_END = 0.9
#: Number of waves with the baseline after which cells may count as settled.
LEAST_BEFORE_SETTLED = 3


class BudgetTooShort(Exception):
    """The least number of waves does not fit into the budget: they take about ``needed`` seconds."""

    def __init__(self, needed: float) -> None:
        super().__init__(f"{needed:.0f} s are needed")
        self.needed = needed


#: Shows which share of the waves is done, 0 to 1, and a line of text.
Step = Callable[[float, str], None]


def measure_in_waves(
    plan: Plan,
    processes: Processes,
    recording: Recording,
    step: Step,
    log: WaveLog | None = None,
    elsewhere: MeasureElsewhere | None = None,
) -> Measured:
    """Run waves of each group until the ratios are precise enough, or the budget or the run's time is over.

    Waves of earlier sittings are in the ``log`` and count, and those that are completed go into it. With
    ``elsewhere`` each wave is measured by another machine. Raises ``BudgetTooShort`` in the first wave if
    even ``plan.max_budget`` is too short.
    """
    log = log or WaveLog()
    measured = Measured(budget=plan.budget)
    if not plan.fresh and not plan.block:
        return measured
    log.restore(measured)
    # As if the waves of earlier sittings had been made without a pause before those of this one.
    began = time.monotonic() - measured.seconds
    reasons: list[str] = []
    for index, group in enumerate(plan.groups):
        is_over = time.monotonic() >= plan.end
        if is_over or log.is_interrupted:
            measured.has_too_few_waves = True
            reasons.append(TIME_LIMIT if is_over else INTERRUPTED)
            break
        share = (index + 1) / len(plan.groups)
        runner = _Group(
            *(plan, group, processes, recording, measured, step),
            began=began,
            share=share,
            log=log,
            index=index,
            elsewhere=elsewhere,
        )
        reasons.append(runner.run())
    measured.ended_by = min(reasons, key=ENDED_BY.index)
    measured.seconds = time.monotonic() - began
    return measured


def carry_out(order: WaveOrder, processes: Processes) -> WaveOutcome:
    """Measure one wave on this machine, for another one. Raises ``BudgetTooShort``."""
    now = time.monotonic()
    group = _Group(
        *(evolve(order.plan, end=now + order.left), order.group, processes, Recording(), order.measured),
        step=lambda *_: None,
        began=now - order.elapsed,
        share=order.share,
        index=order.index,
        counts=order.counts,
        fastest=order.fastest,
        fresh_seconds=order.fresh_seconds,
        whole_waves=order.whole_waves,
        measures_fresh=order.measures_fresh,
        settled=order.settled,
        wave_began=now,
    )
    group.order = order.shuffler
    with closing(WaveServers(processes, group.plan.parallel_launches)) as group.servers:
        completed = group.complete_wave(order.cells)
    return WaveOutcome(
        completed=tuple(completed),
        measured=group.measured,
        fastest=group.fastest,
        counts=group.counts,
        shuffler=group.order,
        fresh_seconds=group.fresh_seconds,
    )


@define
class _Group:
    """The waves of one group."""

    plan: Plan
    group: tuple[str, ...]
    processes: Processes
    recording: Recording
    measured: Measured
    step: Step
    #: When the first wave of the run began, by the monotonic clock in seconds.
    began: float
    #: Share of the budget for this group and those before it.
    share: float
    log: WaveLog = Factory(WaveLog)
    #: Number of the group, from 0.
    index: int = 0
    #: Has another machine measure waves; None: this one does.
    elsewhere: MeasureElsewhere | None = None
    order: random.Random = field(init=False)
    #: Where the processes of waves are forked from.
    servers: WaveServers = field(init=False)
    #: The launches of the current wave.
    wave_launches: Launches = field(init=False)
    #: Number of rounds of each task in the current wave.
    counts: dict[Task, int] = Factory(dict)
    #: The shortest time of a call in the warm-ups of all waves so far in seconds, by cell and point.
    fastest: dict[str, dict[Point, float]] = Factory(dict)
    #: Finds the settled cells; None before it is first asked.
    settling: Settling | None = None
    #: Cells that need no more rounds, as far as was known before the current wave.
    settled: frozenset[str] = frozenset()
    #: Numbers of the rounds in which these are in the current wave, of each task in which they have fewer.
    settled_rounds: dict[Task, set[int]] = Factory(dict)
    #: Whether the current wave measures the metrics of phase ``fresh``.
    measures_fresh: bool = False
    #: Seconds that launches of this group took in which only memory and start-up are measured.
    fresh_seconds: float = 0.0
    #: The same of the current wave.
    apart_seconds: float = 0.0
    #: Number of waves of this group that are done.
    waves: int = 0
    #: Number of waves that the baseline's launch completed: in the others there is nothing to compare with.
    whole_waves: int = 0
    #: Mean time of a wave of this group in seconds; 0 before the first has ended.
    mean_wave: float = 0.0
    #: When the current wave began, by the monotonic clock in seconds.
    wave_began: float = 0.0
    #: The precision after the last wave, as text.
    precision_text: str = ""

    def __attrs_post_init__(self) -> None:
        seed = f"{self.plan.seed} {' '.join(self.group)}"
        # In another sitting orders are drawn anew, not those of its first waves once more.
        self.order = random.Random(f"{seed} {self.log.sitting}" if self.log.sitting else seed)

    @property
    def alive(self) -> list[str]:
        """The cells that have not failed."""
        return [cell for cell in self.group if cell not in self.measured.failures]

    @property
    def least_fresh(self) -> int:
        """The least number of waves with fresh launches."""
        return min(LEAST_FRESH, self.plan.least_waves)

    @property
    def fresh_to_come(self) -> int:
        """The number of further waves with fresh launches that some cell needs at least."""
        return max(0, self.least_fresh - fewest_values(self.plan, self.measured, self.alive))

    @property
    def deadline(self) -> float:
        """When the waves of this group should end, by the monotonic clock in seconds."""
        budgeted = self.began + self.measured.budget * self.share
        return min(budgeted, self.began + BEFORE_END * (self.end - self.began))

    @property
    def is_limited(self) -> bool:
        """Whether the run's time is over before the budget is spent."""
        return self.deadline < self.began + self.measured.budget * self.share

    @property
    def end(self) -> float:
        """When the waves of this group must end, by the monotonic clock in seconds."""
        return self.began + (self.plan.end - self.began) * self.share

    def run(self) -> str:
        """Run waves until the ratios are precise enough, or the budget or the run's time is over.

        Returns what ended them.
        """
        with closing(WaveServers(self.processes, self.plan.parallel_launches)) as self.servers:
            reason = self._run()
        if reason in (TIME_LIMIT, INTERRUPTED) and self.whole_waves < self.plan.least_waves:
            self.measured.has_too_few_waves = True
        return reason

    def _run(self) -> str:
        if self._restore() and (reason := self._reason_to_end()) is not None:
            return reason
        start, earlier, before = time.monotonic(), self.waves, self.mean_wave * self.waves
        while True:
            self._wave()
            self.processes.logs.flush()
            if self.measured.is_cut_off:
                return TIME_LIMIT
            self.waves += 1
            self._store_samples()
            self.precision_text = self._describe_precision()
            self.mean_wave = (before + time.monotonic() - start) / self.waves
            self._show(f"wave {self.measured.waves} done")
            if self.plan.baseline in self.measured.failures:
                return "the baseline failed"
            if self.waves - earlier == 1 and not self.plan.block:
                self._grant(self.plan.least_waves * len(self.plan.groups) * self.mean_wave)
            if (reason := self._reason_to_end()) is not None:
                return reason

    def _restore(self) -> bool:
        """Go on from the waves of this group that earlier sittings have made; False where there are none."""
        waves = self.log.of_group(self.index)
        if not waves:
            return False
        self.waves, self.whole_waves = len(waves), sum(wave.is_whole for wave in waves)
        self.mean_wave = sum(wave.seconds for wave in waves) / len(waves)
        for cell, fastest in waves[-1].fastest.items():
            self.fastest[cell] = {Point.parse(point): seconds for point, seconds in fastest.items()}
        for task in self.plan.tasks:
            if (count := waves[-1].rounds.get(task.metric, {}).get(str(task.point))) is not None:
                self.counts[task] = count
        self._store_samples()
        self.precision_text = self._describe_precision()
        return True

    def _reason_to_end(self) -> str | None:
        """Return why no further wave of this group is made; None where one is."""
        now, mean = time.monotonic(), self.mean_wave
        has_enough = self.whole_waves >= self.plan.least_waves
        if has_enough:
            ratios = self._ratios()
            if not ratios:
                return "waves"
            if self._are_precise(ratios):
                return "precision"
        if self.log.is_interrupted:
            return INTERRUPTED
        if now + mean > self.end:
            return TIME_LIMIT
        if has_enough and (now + mean > self.deadline or self.measured.waves >= MOST_WAVES * self.share):
            return TIME_LIMIT if self.is_limited else "budget"
        return None

    # One wave -------------------------------------------------------------------------------------

    def _wave(self) -> None:
        self.settled = self._find_settled()
        self.measured.waves += 1
        self.measured.pending.clear()
        self.measured.thinned.clear()
        cells = self.alive
        self.order.shuffle(cells)
        self.log.begin(self.measured)
        self.wave_began = time.monotonic()
        self.measures_fresh = self._wants_fresh()
        completed = self.complete_wave(cells)
        if self.measured.is_cut_off:
            self._forget_wave()
            return
        is_whole = self.plan.baseline in completed
        self.measured.sittings.append(self.log.sitting)
        self.log.write(
            self.measured,
            completed,
            self.counts,
            self.fastest,
            self.index,
            is_whole,
            time.monotonic() - self.wave_began,
            self.measures_fresh,
        )
        for cell in completed:
            self.measured.keep_pending(cell)
        self.whole_waves += is_whole
        self.measured.fresh_waves += self.measures_fresh

    def complete_wave(self, cells: Sequence[str]) -> list[str]:
        """Measure a wave, here or elsewhere; return the cells whose launches completed it."""
        if self.elsewhere is None:
            return list(self._measure_wave(cells))
        outcome = self.elsewhere(self._as_order(cells))
        for attribute in fields(Measured):
            if attribute.name != "parts":
                setattr(self.measured, attribute.name, getattr(outcome.measured, attribute.name))
        self.fastest, self.counts, self.order = outcome.fastest, outcome.counts, outcome.shuffler
        self.fresh_seconds = outcome.fresh_seconds
        return list(outcome.completed)

    def _as_order(self, cells: Sequence[str]) -> WaveOrder:
        fresh = {entry.name for entry in self.plan.fresh}
        parts = {key: part for key, part in self.measured.parts.items() if key[1].metric in fresh}
        now = time.monotonic()
        return WaveOrder(
            plan=self.plan,
            group=self.group,
            index=self.index,
            share=self.share,
            cells=tuple(cells),
            measured=evolve(self.measured, parts=parts),
            fastest=self.fastest,
            counts=self.counts,
            shuffler=self.order,
            whole_waves=self.whole_waves,
            fresh_seconds=self.fresh_seconds,
            measures_fresh=self.measures_fresh,
            settled=self.settled,
            elapsed=now - self.began,
            left=self.plan.end - now,
        )

    def _measure_wave(self, cells: Sequence[str]) -> dict[str, Worker]:
        """Launch cells, time their calls and close them; return the launches that completed the wave."""
        launches_of_wave = Launches(
            self.plan, self.processes, self.measured, self.fastest, self.measures_fresh
        )
        self.wave_launches = launches_of_wave
        self.apart_seconds = 0.0
        if launches_of_wave.measures_fresh:
            launches_of_wave.measure_apart(cells)
            self.apart_seconds = time.monotonic() - self.wave_began
            self.fresh_seconds += self.apart_seconds
        waves_to_come = max(1, self.plan.least_waves - self.whole_waves)
        with launches_of_wave.forking(cells, self.servers, waves_to_come):
            launches, times = launches_of_wave.ready(cells)
            try:
                self._time_calls(launches, times)
            finally:
                for worker in launches.values():
                    worker.close()
        return launches

    def _time_calls(self, launches: dict[str, Worker], times: Times) -> None:
        """Run the rounds of the current wave, if there is anything to time."""
        if not self.plan.block:
            return
        block_times = quantise_times(self.fastest, self.plan.baseline)
        for cell, cell_times in block_times.items():
            self.measured.calls_per_block[cell] = _counts_by_point(block_calls, cell_times)
            self.measured.warm_calls[cell] = _counts_by_point(warm_calls, cell_times)
        self._plan_rounds(times, block_times)
        with keep_host_off(self._hold(launches)):
            self._rounds(launches)

    def _find_settled(self) -> frozenset[str]:
        """Return the cells that need no more rounds, by the waves so far."""
        if self.plan.decisions is None or self.whole_waves < LEAST_BEFORE_SETTLED:
            return frozenset()
        self.settling = self.settling or Settling(self.plan.decisions)
        recording = self.recording.select(self.plan.cells)
        return self.settling.settled_cells(recording, self.measured.failures, self.measured.dropped)

    def _wants_fresh(self) -> bool:
        """Return whether the next wave measures the metrics of phase ``fresh``."""
        if not self.plan.fresh or not self.plan.block:
            return bool(self.plan.fresh)
        if self.fresh_to_come:
            return True
        if self.fresh_seconds > MOST_FRESH * self.measured.budget / len(self.plan.groups):
            return False
        recording = self.recording.select(self.plan.cells)
        return not has_enough_fresh(self.plan, self.measured, recording, self.alive)

    def _forget_wave(self) -> None:
        """Forget the current wave, which the end of the run's time has cut off."""
        self.measured.waves -= 1
        self.measured.pending.clear()
        del self.measured.pinned_cpus[self.measured.waves :]

    def _plan_rounds(self, times: Times, block_times: Times) -> None:
        """Set the rounds of this wave so that it and the waves that must follow fit into the budget."""
        calls = {
            task: min(
                (
                    self.measured.calls_per_block[cell][task.point]
                    for cell in times
                    if task.point in times[cell]
                ),
                default=1,
            )
            for task in self.plan.tasks
        }
        required_waves = self.plan.least_waves - self.whole_waves
        if required_waves > 0:
            self._count_rounds(times, block_times, calls, required_waves)
        self.settled_rounds = settled_rounds(self.counts, calls) if self.settled else {}
        self.measured.thinned |= {
            cell
            for cell in self.settled & times.keys()
            if any(self.plan.has(cell, task.point) for task in self.settled_rounds)
        }

    def _count_rounds(
        self, times: Times, block_times: Times, calls: Mapping[Task, int], required_waves: int
    ) -> None:
        """Set the number of rounds of each task, of which settled cells have fewer."""
        tasks = self.plan.tasks
        settled = {cell: times[cell] for cell in times if cell in self.settled}
        others = {cell: times[cell] for cell in times if cell not in self.settled}
        costs = {
            task: RoundCost(
                seconds=round_seconds(others, block_times, task.point),
                settled_seconds=round_seconds(settled, block_times, task.point) if settled else 0.0,
                calls=calls[task],
            )
            for task in tasks
        }
        launching = time.monotonic() - self.wave_began - self.apart_seconds
        of_rounds = sum(cost.of(LEAST_ROUNDS) for cost in costs.values())
        least = self.plan.least_waves * (launching + of_rounds)
        self._grant(len(self.plan.groups) * (least + self.least_fresh * self.apart_seconds))
        # What fresh launches of this wave have taken, and those of later waves will take at least.
        fresh_seconds = max(1, self.fresh_to_come) * self.apart_seconds
        remaining = self.deadline - self.wave_began - fresh_seconds
        self.counts = count_rounds(tasks, costs, HEADROOM * (remaining / required_waves - launching))
        for task, count in self.counts.items():
            largest = self.measured.rounds.setdefault(task.metric, {})
            largest[task.point] = max(count, largest.get(task.point, 0))

    def _grant(self, seconds: float) -> None:
        """In the first wave of a run, extend the budget to the seconds that the least number of waves takes.

        Raises ``BudgetTooShort`` if that is longer than ``plan.max_budget``.
        """
        # Not in a later group: the samples of the first one would be lost.
        if self.plan.max_budget is None or self.measured.waves > 1:
            return
        if seconds > self.plan.max_budget:
            raise BudgetTooShort(seconds)
        self.measured.needed = seconds
        if seconds > self.measured.budget:
            self.measured.budget = min(self.plan.max_budget, math.ceil(seconds))

    def _hold(self, launches: dict[str, Worker]) -> tuple[int, ...]:
        """Pin all launches to the same CPUs, as many as they have threads, drawn anew for each wave.

        Of all schedules that were tried, this one has the steadiest ratios: ``benchmarks/scheduling.py``.
        """
        cpus = cpus_for(self.plan.threads, self.plan.cpus, self.order)
        for cell in list(launches) if cpus else ():
            try:
                launches[cell].ask("hold", HoldAnswer, timeout=self.plan.timeout, cpus=cpus)
            except Failure as failure:
                self.wave_launches.lose(launches, cell, failure)
        self.measured.pinned_to = len(cpus)
        self.measured.pinned_cpus.append(cpus)
        return cpus

    def _rounds(self, launches: dict[str, Worker]) -> None:
        """Run the rounds of a wave: in each, every launch has one block, in a random order.

        Settled cells are in some of them only.
        """
        passes = schedule_rounds(self.counts, self.order)
        for done, (task, number) in enumerate(passes):
            cells = [cell for cell in launches if self.plan.has(cell, task.point)]
            if number not in self.settled_rounds.get(task, {number}):
                cells = [cell for cell in cells if cell not in self.settled]
            self.order.shuffle(cells)
            for position, cell in enumerate(cells):
                try:
                    self._block(launches[cell], cell, task, number, position)
                except Failure as failure:
                    self.wave_launches.lose(launches, cell, failure)
            # Between rounds, when nothing is timed.
            self._show(f"wave {self.measured.waves}, round {done + 1} of {len(passes)}")

    # What is measured -----------------------------------------------------------------------------

    def _block(self, worker: Worker, cell: str, task: Task, number: int, position: int) -> None:
        """Have a launch measure one block: ``number`` is that of the round, ``position`` the cell's in it."""
        samples = self.wave_launches.ask(
            worker,
            cell,
            "block",
            task.metric,
            point=str(task.point),
            calls=self.measured.calls_per_block[cell][task.point],
            warm=self.measured.warm_calls[cell][task.point],
        )
        if samples is None:
            return
        if failure := sample_failure(self.plan.record(task.metric), samples, items=1):
            self.measured.drop_metric(cell, task.metric, failure)
        else:
            self.measured.record(cell, task.figure, samples, number, position)

    # Precision ------------------------------------------------------------------------------------

    def _store_samples(self) -> None:
        for (cell, figure), parts in self.measured.parts.items():
            self.recording.add(cell, figure, joined(parts))

    def _ratios(self) -> list[Floats]:
        """Return log ratios to the baseline, ``[waves, cells]``, for each metric and point."""
        ratios = []
        # Without the cells of other workloads, which have other waves.
        recording = self.recording.select(self.plan.cells)
        records = {entry.name: metric(entry) for entry in self.plan.block}
        figures = {figure for _, figure in self.measured.parts if figure.metric in records}
        for figure in sorted(figures, key=str):
            # A cell for which the metric was dropped gets no more samples, and must not hold up the others.
            cells = [cell for cell in self.alive if (cell, figure) in self.measured.parts]
            cells = [cell for cell in cells if (cell, figure.metric) not in self.measured.dropped]
            quantity = Quantity(records[figure.metric], figure.point, recording, self.plan.baseline)
            others = [cell for cell in cells if cell != self.plan.baseline and quantity.are_comparable(cell)]
            if others and quantity.is_relative and quantity.are_comparable(self.plan.baseline):
                ratios.append(
                    np.column_stack([quantity.by_wave.advantage(cell, self.plan.baseline) for cell in others])
                )
        return ratios

    def _are_precise(self, ratios: Sequence[Floats]) -> bool:
        return all(
            over_waves.enough(log_ratios, self.plan.precision, self.plan.least_waves) for log_ratios in ratios
        )

    def _show(self, text: str) -> None:
        now = time.monotonic()
        spent, in_wave = now - self.began, now - self.wave_began
        # The least number of waves may take longer than the budget.
        waves_to_come = max(0, self.plan.least_waves - max(1, self.waves))
        least = spent + waves_to_come * (self.mean_wave or in_wave)
        self.step(spent / max(self.measured.budget, least, 1e-9), text + self.precision_text)

    def _describe_precision(self) -> str:
        widths = [
            float(np.max(width)) for ratios in self._ratios() if (width := over_waves.half_width(ratios)).size
        ]
        widest = max(widths, default=math.inf)
        if not math.isfinite(widest):
            return ""
        precision = f"±{100 * widest:.1f} %" if widest < 1 else "beyond ±100 %"
        return f"; widest interval {precision}, wanted ±{100 * self.plan.precision:g} %"


def _counts_by_point(count: Callable[[float], int], times: Mapping[Point, float]) -> dict[Point, int]:
    """Return a number of calls for each point, from the seconds that a call takes."""
    return {point: count(seconds) for point, seconds in times.items()}
