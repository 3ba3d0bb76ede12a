"""How close the plan of a cluster comes to the shortest time possible, with machines that fail. Simulated.

1,000 cells, 100 workloads by 10 configs, are built, evaluated and measured on 50 machines of 3 kinds, a
third of the workloads on each. Machines fail at random; each loses what it is at work on, and another
takes its place after a while. Which work begins where is decided by ``qx.cluster.planning``; in a run it
decides so about waves, and Ray about builds and evaluations. Two orders are simulated: that of a run,
whose phases follow each other, and one in which each workload goes on as soon as it can.
"""

from __future__ import annotations

import argparse
import heapq
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from attrs import Factory, define, frozen

from benchmarks.common import keep
from qx.cluster.planning import Room, Work, choose, shortest_time
from qx.runner.executor import MOST_LOST

#: Machines by kind: their number, and CPUs of each.
KINDS = {"small": (20, 4), "amx": (20, 16), "large": (10, 32)}
WORKLOADS, CONFIGS = 100, 10
#: Median seconds of a build, an evaluation, and the waves of a workload, and the spread of their logs.
BUILD, EVALUATE, MEASURE, SPREAD = 60.0, 30.0, 300.0, 0.8
#: Seconds until the place of a machine that has failed is taken.
REPAIR = 600.0
PHASES = ("build", "evaluate", "measure")


@frozen
class Task:
    """A build, an evaluation, or the waves of a workload."""

    work: Work
    workload: int
    phase: str


@define
class Simulation:
    """A cluster at work. Times are in seconds."""

    tasks: Sequence[Task]
    rooms: Sequence[Room]
    #: Failures of a machine in an hour.
    rate: float
    #: Whether a phase begins when that before it has ended for all workloads, as in a run.
    has_barriers: bool
    generator: np.random.Generator
    now: float = 0.0
    #: What happens when: seconds, a number that makes events differ, what, and to which machine or task.
    events: list[tuple[float, int, str, Any]] = Factory(list)
    free: dict[str, int] = Factory(dict)
    running: dict[int, tuple[Task, str, int]] = Factory(dict)
    losses: Counter[str] = Factory(Counter)
    lost_seconds: float = 0.0
    given_up: int = 0
    _count: int = 0

    def run(self) -> float:
        """Return the time until all is done."""
        self.free = {room.name: room.cpus for room in self.rooms}
        for room in self.rooms:
            self._fail_later(room.name)
        left = Counter((self._gate(task), task.phase) for task in self.tasks)
        waiting: dict[str, Task] = {}
        blocked = deque(self.tasks)
        while any(left.values()):
            for _ in range(len(blocked)):
                task = blocked.popleft()
                before = PHASES[: PHASES.index(task.phase)]
                if any(left[self._gate(task), phase] for phase in before):
                    blocked.append(task)
                else:
                    waiting[task.work.name] = task
            self._begin(waiting)
            self.now, _, what, subject = heapq.heappop(self.events)
            if what == "end" and subject in self.running:
                task, name, cpus = self.running.pop(subject)
                self.free[name] += cpus
                left[self._gate(task), task.phase] -= 1
            elif what == "fail":
                for task in self._fail(subject):
                    if self.losses[task.work.name] > MOST_LOST:
                        self.given_up += 1
                        left[self._gate(task), task.phase] -= 1
                    else:
                        waiting[task.work.name] = task
            elif what == "repair":
                self.free[subject] = next(room.cpus for room in self.rooms if room.name == subject)
                self._fail_later(subject)
        return self.now

    def _gate(self, task: Task) -> int:
        """Return what a task's phases wait for: its workload's, or where there are barriers those of all."""
        return -1 if self.has_barriers else task.workload

    def _begin(self, waiting: dict[str, Task]) -> None:
        while waiting:
            rooms = [
                Room(name=room.name, cpus=room.cpus, free=self.free[room.name], kind=room.kind)
                for room in self.rooms
                if self.free[room.name] > 0
            ]
            choice = choose([task.work for task in waiting.values()], rooms)
            if choice is None:
                return
            work, room = choice
            cpus = room.cpus if work.is_alone else 1
            self.free[room.name] -= cpus
            self._count += 1
            self.running[self._count] = (waiting.pop(work.name), room.name, cpus)
            self._push(work.seconds, "end", self._count)

    def _fail(self, name: str) -> list[Task]:
        """Have a machine fail; return what was at work there."""
        numbers = [number for number, (_, machine, _) in self.running.items() if machine == name]
        tasks = [self.running.pop(number)[0] for number in numbers]
        for task in tasks:
            self.losses[task.work.name] += 1
            self.lost_seconds += task.work.seconds / 2
        self.free[name] = 0
        self._push(REPAIR, "repair", name)
        return tasks

    def _fail_later(self, name: str) -> None:
        if self.rate:
            self._push(self.generator.exponential(3600 / self.rate), "fail", name)

    def _push(self, seconds: float, what: str, subject: Any) -> None:
        self._count += 1
        heapq.heappush(self.events, (self.now + seconds, self._count, what, subject))


def draw_tasks(generator: np.random.Generator) -> list[Task]:
    """Return the builds and evaluations of all cells, and the waves of all groups of cells."""
    kinds = list(KINDS)
    tasks = []
    for workload in range(WORKLOADS):
        size = generator.lognormal(0.0, SPREAD)
        counts = {
            "build": (CONFIGS, BUILD),
            "evaluate": (CONFIGS, EVALUATE),
            "measure": (1, MEASURE),
        }
        for phase, (count, seconds) in counts.items():
            for number in range(count):
                work = Work(
                    name=f"{phase} {workload} {number}",
                    seconds=seconds * size * generator.lognormal(0.0, SPREAD if count > 1 else 0.0),
                    is_alone=phase == "measure",
                    kind=kinds[workload % len(kinds)],
                )
                tasks.append(Task(work, workload, phase))
    return tasks


def bound(tasks: Sequence[Task], rooms: Sequence[Room]) -> float:
    """Return a time that no plan can undercut: of all work, and of the longest chain of a workload."""
    chains = [
        sum(
            max(task.work.seconds for task in tasks if (task.workload, task.phase) == (workload, phase))
            for phase in PHASES
        )
        for workload in range(WORKLOADS)
    ]
    return max(shortest_time([task.work for task in tasks], rooms), *chains)


def main() -> None:
    """Print and keep the times of plans beside the bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--rate", type=float, default=0.01, help="failures of a machine in an hour")
    arguments = parser.parse_args()
    rooms = [
        Room(name=f"{kind} {number:02d}", cpus=cpus, free=cpus, kind=kind)
        for kind, (count, cpus) in KINDS.items()
        for number in range(count)
    ]
    rows = []
    for has_barriers in (True, False):
        for rate in (0.0, arguments.rate):
            ratios, losses, given_up = [], [], []
            for seed in range(arguments.runs):
                generator = np.random.default_rng(seed)
                tasks = draw_tasks(generator)
                simulation = Simulation(tasks, rooms, rate, has_barriers, generator)
                ratios.append(simulation.run() / bound(tasks, rooms))
                losses.append(sum(simulation.losses.values()))
                given_up.append(simulation.given_up)
            low, median, high = (float(value) for value in np.percentile(ratios, (5, 50, 95)))
            row = {
                "phases_follow_each_other": has_barriers,
                "failures_per_hour": rate,
                "time_over_bound": {"p5": low, "median": median, "p95": high, "largest": max(ratios)},
                "tasks_lost_per_run": float(np.mean(losses)),
                "tasks_given_up": int(sum(given_up)),
            }
            rows.append(row)
            print(row, flush=True)
    cells = WORKLOADS * CONFIGS
    keep("cluster_plan", {"runs": arguments.runs, "machines": KINDS, "cells": cells, "plans": rows})


if __name__ == "__main__":
    main()
