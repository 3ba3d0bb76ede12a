"""The waves of a workload in the journal: those of earlier sittings, and each that is completed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from attrs import Factory, define, evolve

from qx.contract.figures import Figure, Point
from qx.processes.interruption import Interruption
from qx.results.recording import Recording, Series, joined
from qx.results.run_record import Unsteady
from qx.runner.journal import BuildRecord, Entry, Journal, WaveRecord
from qx.runner.measure.plan import Measured
from qx.runner.measure.rounds import Task
from qx.runner.workload_run import Run, WorkloadRun

V = TypeVar("V", int, float)


@define
class WaveLog:
    """The waves of one workload, in the order in which they were made."""

    workload: str = ""
    journal: Journal = Factory(Journal)
    interruption: Interruption = Factory(Interruption)
    #: Waves of earlier sittings, with their samples.
    earlier: Sequence[Entry] = ()
    #: Identifier of the machine that measures; None: this one.
    machine: str | None = None
    #: State at the beginning of the current wave: numbers of launches, of deaths, and unsteady cells.
    _launches: dict[str, int] = Factory(dict)
    _deaths: int = 0
    _unsteady: frozenset[tuple[str, Point]] = frozenset()

    @classmethod
    def of(cls, run: Run, workload_run: WorkloadRun, control: str) -> WaveLog:
        """Return the log of a workload, with the waves of earlier sittings that are of the same builds."""
        baseline = run.chosen.baseline_cell(workload_run.name, run.request)
        contents = {cell: build.content for cell, build in workload_run.successful_builds().items()}
        measured_contents: dict[str, str] = {}
        waves = []
        for entry in run.journal.earlier:
            record = entry.record
            if isinstance(record, BuildRecord) and record.seed is None:
                measured_contents[record.cell] = record.content
            elif isinstance(record, WaveRecord) and record.workload == workload_run.name:
                same = {cell for cell, content in contents.items() if measured_contents.get(cell) == content}
                if baseline in same:
                    waves.append(evolve(entry, recording=entry.recording.select({*same, control})))
        return cls(workload_run.name, run.journal, run.interruption, waves)

    def on(self, machine: str | None) -> WaveLog:
        """Return a log of what this machine measures, with its waves of earlier sittings.

        Where another machine has measured since, they were measured anew, and none of them counts.
        """
        waves = [entry for entry in self.earlier if isinstance(entry.record, WaveRecord)]
        last = waves[-1].record.machine if waves and isinstance(waves[-1].record, WaveRecord) else machine
        same = [
            entry
            for entry in waves
            if isinstance(entry.record, WaveRecord) and entry.record.machine == machine == last
        ]
        return WaveLog(self.workload, self.journal, self.interruption, same, machine)

    @property
    def is_interrupted(self) -> bool:
        """Whether the user has asked for the run to end."""
        return self.interruption.is_requested

    @property
    def sitting(self) -> int:
        """Number of the sitting that is at work, from 0."""
        return self.journal.sitting

    @property
    def records(self) -> list[WaveRecord]:
        """The records of earlier sittings."""
        return [entry.record for entry in self.earlier if isinstance(entry.record, WaveRecord)]

    def of_group(self, index: int) -> list[WaveRecord]:
        """Return the waves of a group from earlier sittings."""
        return [record for record in self.records if record.group == index]

    def restore(self, measured: Measured) -> None:
        """Put the waves of earlier sittings into the state of a measurement.

        What had failed in them is not: another sitting tries it again.
        """
        for entry, record in zip(self.earlier, self.records, strict=True):
            wave = measured.waves
            measured.waves += 1
            measured.seconds += record.seconds
            measured.budget = max(measured.budget, record.budget)
            measured.needed = max(measured.needed, record.needed)
            measured.launches.update(record.launches)
            measured.deaths += [evolve(death, wave=wave) for death in record.deaths]
            measured.pinned_to = record.pinned_to
            if record.pinned_cpus is not None:
                measured.pinned_cpus.append(record.pinned_cpus)
            measured.unsteady |= {(pair.cell, pair.point) for pair in record.unsteady}
            measured.sittings.append(entry.sitting)
            measured.fresh_waves += record.measures_fresh
            measured.fewer_rounds.update(record.fewer_rounds)
            measured.forkable |= {*record.forked}
            measured.unforkable |= record.not_forked
            for name, counts in record.rounds.items():
                largest = measured.rounds.setdefault(name, {})
                for point, count in _by_point(counts).items():
                    largest[point] = max(count, largest.get(point, 0))
            for cell, counts in record.calls_per_block.items():
                measured.calls_per_block[cell] = _by_point(counts)
            for cell, counts in record.warm_calls.items():
                measured.warm_calls[cell] = _by_point(counts)
            for cell, series_by_figure in entry.recording.series.items():
                for figure, series in series_by_figure.items():
                    details = record.details.get(cell, {}).get(figure.key, ())
                    part = evolve(series, wave=np.full(len(series.wave), wave), details=tuple(details))
                    measured.parts.setdefault((cell, figure), []).append(part)
                    measured.answered.add((cell, figure.metric))

    def begin(self, measured: Measured) -> None:
        """Note the state before a wave."""
        self._launches = dict(measured.launches)
        self._deaths, self._unsteady = len(measured.deaths), frozenset(measured.unsteady)

    def write(
        self,
        measured: Measured,
        launches: Sequence[str],
        counts: Mapping[Task, int],
        fastest: Mapping[str, Mapping[Point, float]],
        group: int,
        is_whole: bool,
        seconds: float,
        measures_fresh: bool,
    ) -> None:
        """Write a wave, which these launches have completed, with the samples that are pending."""
        pending: dict[str, dict[Figure, list[Series]]] = {}
        for cell in launches:
            for figure, series in measured.pending.get(cell, ()):
                pending.setdefault(cell, {}).setdefault(figure, []).append(series)
        samples = {
            cell: {figure: joined(parts) for figure, parts in by_figure.items()}
            for cell, by_figure in pending.items()
        }
        rounds: dict[str, dict[str, int]] = {}
        for task, count in counts.items():
            rounds.setdefault(task.metric, {})[str(task.point)] = count
        new_launches = {
            cell: count - self._launches.get(cell, 0)
            for cell, count in measured.launches.items()
            if count > self._launches.get(cell, 0)
        }
        record = WaveRecord(
            workload=self.workload,
            wave=measured.waves - 1,
            group=group,
            is_whole=is_whole,
            seconds=seconds,
            budget=measured.budget,
            needed=measured.needed,
            pinned_to=measured.pinned_to,
            pinned_cpus=measured.pinned_cpus[-1] if measured.pinned_cpus else None,
            launches=new_launches,
            deaths=tuple(measured.deaths[self._deaths :]),
            unsteady=tuple(
                Unsteady(cell=cell, point=point) for cell, point in measured.unsteady - self._unsteady
            ),
            rounds=rounds,
            calls_per_block=_by_text(measured.calls_per_block),
            warm_calls=_by_text(measured.warm_calls),
            fastest=_by_text(fastest),
            measures_fresh=measures_fresh,
            fewer_rounds=tuple(cell for cell in launches if cell in measured.thinned),
            forked=tuple(sorted(measured.forkable)),
            not_forked=dict(measured.unforkable),
            details={
                cell: {figure.key: series.details for figure, series in by_figure.items()}
                for cell, by_figure in samples.items()
            },
            machine=self.machine,
        )
        self.journal.write(record, Recording(samples))


def _by_point(counts: Mapping[str, int]) -> dict[Point, int]:
    return {Point.parse(point): count for point, count in counts.items()}


def _by_text(values: Mapping[str, Mapping[Point, V]]) -> dict[str, dict[str, V]]:
    return {
        cell: {str(point): value for point, value in by_point.items()} for cell, by_point in values.items()
    }
