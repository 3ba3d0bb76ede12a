"""Look at candidates: evaluate them on more items, time them in more waves, and keep what was seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from attrs import Factory, define, evolve

from qx.analysis.quantity import Quantity
from qx.contract.figures import Figure
from qx.contract.records import MOST_WAVES, Metric
from qx.processes.logs import Logs
from qx.processes.workers import Failure
from qx.results.cells import CellId
from qx.results.recording import Recording, Series
from qx.runner.building import build_cells
from qx.runner.builds import Build
from qx.runner.derivation import derive_metrics
from qx.runner.evaluation import evaluate_cells
from qx.runner.measure.plan import LEAST_WAVES
from qx.runner.measure.timing import measure_waves
from qx.runner.preparation import Prepared
from qx.runner.request import QUICK_WAVES, budget_of, cell_of, metric
from qx.runner.settings import Variant
from qx.runner.workload_run import Run, WorkloadRun
from qx.searching.figures import Figures
from qx.values import Array
from qx.worker.arrays import Split


@define
class Looks:
    """The candidates of a search, their builds, and the items and waves that they have been seen in."""

    run: Run
    prepared: Prepared
    logs: Logs
    baseline: Variant
    #: Metric of quality, and metrics of files and of launches that constraints or the aim need.
    quality: Metric | None
    files: Sequence[Metric]
    launches: Sequence[Metric]
    #: Items that choose, in the order in which they are looked at, and those that verify the choice.
    choosing: Array
    held_out: Array
    variants: dict[str, Variant] = Factory(dict)
    builds: dict[str, Build] = Factory(dict)
    figures: dict[str, Figures] = Factory(dict)
    #: Candidates that failed, each with its failure.
    failures: dict[str, Failure] = Factory(dict)
    #: Number of items that all candidates of the last look were seen on, and of waves so far.
    items: int = 0
    waves: int = 0
    #: Folders of the items of each look.
    folders: dict[tuple[int, int], Path] = Factory(dict)
    #: Samples of the baseline's quality, by the number of items.
    base_items: dict[int, Series] = Factory(dict)

    # Builds ---------------------------------------------------------------------------------------

    def enter(self, variants: Iterable[Variant]) -> list[str]:
        """Build candidates, and return the rows of those that are new and were built."""
        new = {one.row: one for one in variants if one.row not in self.variants}
        self.variants |= new
        self._build([self.baseline] * (self.baseline.row not in self.builds) + [*new.values()])
        if self.baseline.row in self.failures:
            raise self.failures[self.baseline.row]
        entered = [row for row in new if row in self.builds]
        for row in entered:
            self.figures[row] = Figures()
        return entered

    def _build(self, variants: Sequence[Variant]) -> None:
        for variant in variants:
            self._prepare_calibration(variant)
        workload_run = self._workload_run({one.row: one for one in variants}, self.prepared)
        for row, one in {one.row: one for one in variants}.items():
            if one.entry.state != "ready" or one.entry.name in self.prepared.refusals:
                failure = self.prepared.refusals.get(one.entry.name)
                failure = failure or Failure("unavailable", "plan", one.entry.reason)
                workload_run.failures[self.cell(row)] = failure
        build_cells(self.run, workload_run)
        self._collect(workload_run)

    def rebuild(self, rows: Sequence[str]) -> None:
        """Check builds against their digests in the cache again. Raises ``Failure`` where one has changed."""
        before = {row: self.builds[row].manifest.content for row in rows}
        self._build([self.variants[row] for row in rows])
        for row in rows:
            if row in self.failures:
                raise self.failures[row]
            if self.builds[row].manifest.content != before[row]:
                raise Failure("failed", "build", f"{row}: its artifact has changed since the race")

    def _prepare_calibration(self, variant: Variant) -> None:
        """Lay down the calibration items of a number that was not known in advance: heads of the largest."""
        count = variant.calibration_n
        if count is None or count in self.prepared.calibrations:
            return
        largest = max(self.prepared.calibrations)
        split = Split.read(self.prepared.calibrations[largest]).take(slice(count))
        folder = self.run.outputs / "calibration" / split.fingerprint()
        if not folder.exists():
            folder.mkdir(parents=True)
            split.write(folder)
        calibrations = {**self.prepared.calibrations, count: folder}
        self.prepared = evolve(self.prepared, calibrations=calibrations)

    # Items ----------------------------------------------------------------------------------------

    def evaluate(self, rows: Sequence[str], before: int, after: int) -> None:
        """Evaluate candidates on the choosing items from ``before`` to ``after``, and join what is seen.

        A metric of the whole set is computed anew over all items so far.
        """
        if self.quality is None and not self.files:
            return
        is_joined = self.quality is not None and _is_joined(self.quality)
        first = before if is_joined else 0
        recording = self._evaluated(rows, self.choosing, first, after)
        self._keep_files(rows, recording)
        if self.quality is None:
            return
        figure = Figure(self.quality.name)
        base = self._whole_base(before, after, recording.get(self.cell(self.baseline.row), figure))
        for row in rows:
            series = recording.get(self.cell(row), figure)
            if series is None or base is None:
                if row not in self.failures:
                    self.failures[row] = Failure("failed", "evaluate", f"{self.quality.name} has no value")
                continue
            former = self.figures[row].items
            if is_joined and before and former is not None:
                series = _joined(former[0], series)
            self.figures[row].items = series, base
        self.items = max(self.items, after)

    def _whole_base(self, before: int, after: int, series: Series | None) -> Series | None:
        """Return the baseline's samples of all items so far."""
        if series is None:
            return None
        assert self.quality is not None
        if before and _is_joined(self.quality):
            series = _joined(self.base_items[before], series)
        self.base_items[after] = series
        return series

    def _evaluated(self, rows: Sequence[str], order: Array, first: int, after: int) -> Recording:
        prepared = evolve(
            self.prepared, evaluation=self._folder(order, first, after), items=after - first, lengths={}
        )
        run = self._run([*([self.quality] if self.quality else []), *self.files])
        workload_run = self._workload_run(self._with_baseline(rows), prepared)
        evaluate_cells(run, workload_run)
        if run.chosen.metrics_of("derived"):
            derive_metrics(run, workload_run)
        self._collect(workload_run)
        if (failure := workload_run.failures.get(self.cell(self.baseline.row))) is not None:
            raise failure
        return run.recording

    def _folder(self, order: Array, first: int, after: int) -> Path:
        """Return a folder with some items of the evaluation split, as arrays."""
        key = int(order[first]), after - first
        if key not in self.folders:
            self.folders[key] = folder = self.run.outputs / f"items-{len(self.folders)}"
            folder.mkdir()
            Split.read(self.prepared.evaluation).take(np.asarray(order[first:after])).write(folder)
        return self.folders[key]

    def _keep_files(self, rows: Sequence[str], recording: Recording) -> None:
        for record in self.files:
            theirs = recording.get(self.cell(self.baseline.row), Figure(record.name))
            for row in rows:
                ours = recording.get(self.cell(row), Figure(record.name))
                if ours is not None and theirs is not None and min(ours.values[0], theirs.values[0]) > 0:
                    self.figures[row].exact[record.name] = float(ours.values[0]), float(theirs.values[0])

    # Waves ----------------------------------------------------------------------------------------

    def launch(self, rows: Sequence[str], waves: int) -> None:
        """Time candidates in so many more waves, beside the baseline and the control."""
        if not self.launches:
            return
        run = self._run(self.launches)
        workload_run = self._workload_run(self._with_baseline(rows), self.prepared)
        measure_waves(run, workload_run, waves, seed=self.waves)
        self._collect(workload_run)
        self._keep_waves(rows, run.recording, self.figures)
        # Groups number their waves one after another, so a look has several times as many numbers.
        self.waves += MOST_WAVES

    def _keep_waves(self, rows: Sequence[str], recording: Recording, figures: Mapping[str, Figures]) -> None:
        base = self.cell(self.baseline.row)
        for record in self.launches:
            point = (record.points(self.run.request.points) or (None,))[0]
            quantity = Quantity(record, point, recording, base)
            if base not in quantity.measured:
                continue
            for row in rows:
                if not quantity.are_comparable(self.cell(row), base):
                    continue
                ratios = quantity.by_wave.advantage(self.cell(row), base)
                medians = quantity.by_wave.medians(self.cell(row))
                own = figures[row].log_ratios.setdefault(record.name, {})
                own |= {
                    self.waves + wave: float(value) for wave, value in enumerate(ratios) if value == value
                }
                launched = figures[row].launches.setdefault(record.name, [])
                launched += [float(value) for value in medians if math.isfinite(value)]

    # The final ------------------------------------------------------------------------------------

    def verify(self, rows: Sequence[str]) -> dict[str, Figures]:
        """Measure the finalists afresh: on the items that were held out, and in waves of their own."""
        self.rebuild(rows)
        fresh = {row: Figures(exact=dict(self.figures[row].exact)) for row in rows}
        if self.quality is not None:
            recording = self._evaluated(rows, self.held_out, 0, len(self.held_out))
            figure = Figure(self.quality.name)
            base = recording.get(self.cell(self.baseline.row), figure)
            for row in rows:
                series = recording.get(self.cell(row), figure)
                if series is not None and base is not None:
                    fresh[row].items = series, base
        if self.launches:
            request, run = self.run.request, self._run(self.launches)
            workload_run = self._workload_run(self._with_baseline(rows), self.prepared)
            waves = QUICK_WAVES if request.quick else LEAST_WAVES
            budget = request.budget or budget_of(request, len(rows))
            measure_waves(run, workload_run, waves, seed=self.waves, budget=budget)
            self._collect(workload_run)
            self._keep_waves([row for row in rows if row not in self.failures], run.recording, fresh)
        return {row: own for row, own in fresh.items() if row not in self.failures}

    # Runs -----------------------------------------------------------------------------------------

    def cell(self, row: str) -> str:
        """Return the id of the cell of a candidate."""
        return str(self.cell_id(row))

    def on_choosing_items(self, row: str, items: int) -> WorkloadRun:
        """Return a state of a run with one candidate, whose evaluation split are the first choosing items."""
        folder = self._folder(self.choosing, 0, items)
        prepared = evolve(self.prepared, evaluation=folder, items=items, lengths={})
        return self._workload_run({row: self.variants[row]}, prepared)

    def cell_id(self, row: str) -> CellId:
        """Return the cell of a candidate."""
        variant = self.baseline if row == self.baseline.row else self.variants[row]
        return cell_of(self.prepared.workload.name, variant, self.run.request)

    def _with_baseline(self, rows: Sequence[str]) -> dict[str, Variant]:
        return {self.baseline.row: self.baseline, **{row: self.variants[row] for row in rows}}

    def _workload_run(self, variants: Mapping[str, Variant], prepared: Prepared) -> WorkloadRun:
        """Return a state of a run with these candidates alone, with the builds that they have."""
        name = prepared.workload.name
        cells = {self.cell(row): self.cell_id(row) for row in variants}
        builds = {self.cell(row): self.builds[row] for row in variants if row in self.builds}
        return WorkloadRun(name, prepared, cells, self.run.request.seed, builds=builds, logs=self.logs)

    def _run(self, metrics: Sequence[Metric]) -> Run:
        """Return a run with samples of its own that measures these metrics, and what they derive from."""
        names = {record.name for record in metrics}
        names |= {name for record in metrics for name in record.derived_from}
        entries = tuple(entry for entry in self.run.chosen.metrics if metric(entry).name in names)
        return evolve(self.run, chosen=evolve(self.run.chosen, metrics=entries), recording=Recording())

    def _collect(self, workload_run: WorkloadRun) -> None:
        """Keep the builds and the failures of candidates."""
        rows = {self.cell(row): row for row in (*self.variants, self.baseline.row)}
        for cell, built in workload_run.builds.items():
            if cell in rows:
                self.builds[rows[cell]] = built
        for cell, failure in workload_run.failures.items():
            if cell in rows:
                self.failures[rows[cell]] = failure


def _is_joined(record: Metric) -> bool:
    """Return whether values of items can be joined from one look to the next."""
    return record.phase == "predictions" and record.samples == "per_item"


def _joined(former: Series, series: Series) -> Series:
    values = np.concatenate([former.values, series.values])
    none = np.full(len(values), -1, dtype=np.int32)
    return Series(values=values, wave=none, round=none, position=none)
