"""Measuring with one metric: on an artifact, in launches, or on recorded samples."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from attrs import evolve

from qx.contract.figures import Figure, Point
from qx.contract.records import Metric
from qx.host.host import Entry
from qx.processes.answers import LaunchAnswer, Measurement, PlainSamples, WarmAnswer
from qx.processes.jobs import DeriveJob, EvaluateJob, LaunchJob
from qx.processes.workers import Failure, Processes, Worker
from qx.runner.evaluation import sample_failure
from qx.runner.request import metric, references
from qx.testing.answers import Observations, Watched
from qx.testing.bench import Bench, Built, find_plugin
from qx.testing.jobs import CombineJob, WatchJob
from qx.testing.verdicts import Failed
from qx.values import OptionValues

#: Samples by point, or by None for a metric that is not measured at each point.
Samples: TypeAlias = "dict[Point | None, PlainSamples]"
#: What the metrics of a launch gave, by figure.
Measurements: TypeAlias = "dict[Figure, Measurement]"

POINTS = (Point(1), Point(32))
#: Pairs of launches, and blocks and calls in each of a metric of phase ``block``.
PAIRS = 6
BLOCKS, CALLS = 4, 20
#: Names of the file of samples, and of the folder of outputs beside it.
SAMPLES, OUTPUTS = "samples.npz", "outputs"
#: Seconds for which a launch is warmed up.
WARM_SECONDS = 0.3


class Measuring:
    """One metric and its subject: the artifact of the baseline, or of the config which its author names."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        assert isinstance(bench.record, Metric)
        self.record = bench.record
        subject = bench.conformance.subject
        self.subject = find_plugin(bench.host, "config", subject) if subject else bench.baseline
        #: What was observed in the first measurement.
        self._observations: Observations | None = None
        #: The last job that measured the metric, if that took no launch.
        self._job: EvaluateJob | DeriveJob | None = None

    @cached_property
    def first(self) -> Samples:
        """Samples of the subject, where the metric applies. Raises ``Failed`` where the metric fails."""
        samples, self._observations = self._measure(self._built)
        return samples

    @property
    def observed(self) -> Observations:
        """What was observed in the first measurement."""
        _ = self.first
        assert self._observations is not None
        return self._observations

    def combine(self) -> tuple[tuple[int, ...], ...]:
        """Combine statistics of items in arrays of several shapes, which are returned. Raises ``Failure``."""
        assert self._job is not None
        job = CombineJob(
            engine=self._job.engine,
            metric=self._bench.reference,
            options=self._bench.defaults,
            job=self._job,
        )
        return self._bench.run(job, "combine").shapes

    def measure_again(self) -> Samples:
        """Measure the same artifact in other processes."""
        return self._measure(self._built)[0]

    def measure_worse(self) -> Samples:
        """Measure the artifact that the metric's author supplies as worse."""
        return self._measure(self._bench.borrow(self.worse_subject))[0]

    @property
    def worse_subject(self) -> Entry:
        """The config that makes a worse artifact."""
        return find_plugin(self._bench.host, "config", str(self._bench.conformance.worse))

    def measure_without(self, absent: tuple[str, ...]) -> None:
        """Measure with the ``absent`` modules hidden. Raises ``Failure``."""
        self._measure(self._built, absent=absent, raises=True)

    def attempt(self, options: OptionValues) -> None:
        """Measure with these options. Raises ``Failure``."""
        self._measure(self._built, options=options, raises=True)

    def flaw(self, samples: PlainSamples) -> str:
        """Return how the number of values differs from what the record promises; empty where it does not."""
        if self.record.phase == "block":
            count = len(samples.values)
            is_short = self.record.samples == "per_round" and count != BLOCKS
            return f"it gave {count} values for {BLOCKS} blocks, expected one for each" if is_short else ""
        failure = sample_failure(self.record, samples, self._bench.prepared.items)
        return failure.cause if failure else ""

    def averages(self, samples: Samples) -> dict[Point | None, float]:
        """Return a value for each point: the mean over items, else the median."""
        values_by_key = {key: part.values for key, part in samples.items()}
        if self.record.samples == "per_item":
            return {key: sum(values) / len(values) for key, values in values_by_key.items()}
        return {key: median(values) for key, values in values_by_key.items()}

    def measure_pairs(self) -> dict[Point | None, tuple[list[float], list[float]]]:
        """Measure pairs of launches. Return by point the averages of first and of second launches."""
        pairs: dict[Point | None, tuple[list[float], list[float]]] = {}
        for _ in range(PAIRS):
            for index, samples in enumerate(self._measure_pair()):
                for key, value in self.averages(samples).items():
                    pairs.setdefault(key, ([], []))[index].append(value)
        return pairs

    # ----------------------------------------------------------------------------------------------

    def _measure_pair(self) -> list[Samples]:
        """Measure two launches, one after the other.

        They start side by side, as in a wave, unless the metric is measured ``alone``.
        """
        if self.record.alone:
            return [self.measure_again(), self.measure_again()]
        entries = [self._bench.entry]
        options = {self.record.name: self._bench.defaults}
        with self._bench.processes("launch") as processes:
            with processes.side_by_side(2) as pool:
                start = partial(self._start_launch, self._built, processes, entries, options)
                workers = [future.result() for future in (pool.submit(start), pool.submit(start))]
            answers = [self._measure_launch(worker, entries)[0] for worker in workers]
        return [self._require_samples(_by_point(measurements)) for measurements in answers]

    @cached_property
    def _built(self) -> Built:
        try:
            return self._bench.borrow(self.subject)
        except Failure as failure:
            raise Failed(f"its subject cannot be built: {self.subject.name}: {failure}") from failure

    def _measure(
        self,
        built: Built,
        *,
        absent: tuple[str, ...] = (),
        options: OptionValues | None = None,
        raises: bool = False,
    ) -> tuple[Samples, Observations]:
        metric_options = {self.record.name: {**self._bench.defaults, **(options or {})}}
        measurements: Mapping[Point | None, Measurement]
        if self.record.phase in ("fresh", "block"):
            with self._bench.processes("launch") as processes:
                entries = [self._bench.entry]
                worker = self._start_launch(built, processes, entries, metric_options, absent)
                by_metric, observations = self._measure_launch(worker, entries)
            measurements = _by_point(by_metric)
        elif self.record.phase == "derived":
            measurements, observations = self._derive(built, absent, metric_options)
        else:
            measurements, observations = self._evaluate(built, absent, metric_options)
        return self._require_samples(measurements, raises), observations

    def _require_samples(
        self, measurements: Mapping[Point | None, Measurement], raises: bool = False
    ) -> Samples:
        """Return the samples of the measurements that have some.

        Raises ``Failed`` for a measurement that failed, or ``Failure`` if ``raises``.
        """
        for measurement in measurements.values():
            if (reason := measurement.failure) is not None:
                stage = f"measure {self.record.name}"
                failure = Failure(reason.outcome, stage, reason.cause, traceback=reason.traceback)
                if raises:
                    raise failure
                raise Failed(str(failure)) from failure
        return {
            key: measurement.samples
            for key, measurement in measurements.items()
            if measurement.samples is not None
        }

    def _evaluate_job(
        self, built: Built, entries: list[Entry], options: Mapping[str, OptionValues], outputs: Path
    ) -> EvaluateJob:
        phases = [
            references([entry for entry in entries if metric(entry).phase == phase])
            for phase in ("build", "artifact", "predictions")
        ]
        prepared = self._bench.prepared
        return EvaluateJob(
            engine=prepared.engine,
            artifact=built.stored,
            inputs=str(prepared.evaluation),
            batch_size=50,
            layers=built.manifest.layers,
            steps=built.steps,
            build_metrics=phases[0],
            artifact_metrics=phases[1],
            prediction_metrics=phases[2],
            metric_options=options,
            outputs=str(outputs),
            **self._bench.device_fields(),
        )

    def _evaluate(
        self, built: Built, absent: tuple[str, ...], options: Mapping[str, OptionValues]
    ) -> tuple[Mapping[Point | None, Measurement], Observations]:
        outputs = self._bench.new_folder("outputs")
        job = self._job = self._evaluate_job(built, [self._bench.entry], options, outputs)
        watched = self._bench.watch(job, "evaluate", absent)
        return {None: watched.answer.metrics[self.record.name]}, watched.watched

    def _start_launch(
        self,
        built: Built,
        processes: Processes,
        entries: list[Entry],
        options: Mapping[str, OptionValues] | None = None,
        absent: tuple[str, ...] = (),
    ) -> Worker:
        """Start a launch with these metrics, and wait for its first answer."""
        job = LaunchJob(
            engine=self._bench.prepared.engine,
            artifact=built.stored,
            inputs=str(self._bench.prepared.evaluation),
            points=POINTS,
            metrics=references(entries),
            metric_options=options or {},
            spawned_ns=time.monotonic_ns(),
            **self._bench.device_fields(),
        )
        folder = str(self._bench.new_folder("here-launch"))
        watching = WatchJob(job=job, absent=absent, folder=folder)
        worker = processes.start(watching, "launch", self._bench.subject)
        worker.answer(Watched[LaunchAnswer], timeout=self._bench.timeout)
        return worker

    def _measure_launch(self, worker: Worker, entries: list[Entry]) -> tuple[Measurements, Observations]:
        """Measure one launch with each metric, and end it. Return measurements by figure."""
        try:
            measurements: Measurements = {}
            observations = Observations(changed=(), modules=(), strays=())
            for entry in sorted(entries, key=lambda entry: metric(entry).phase != "fresh"):
                for point in metric(entry).points(POINTS) or POINTS[:1]:
                    figure = Figure(entry.name, point if metric(entry).per_point else None)
                    try:
                        watched = self._ask(worker, metric(entry), point)
                    except Failure as failure:
                        if failure.gone:
                            raise
                        measurements[figure] = Measurement(failure=failure.of_metric())
                    else:
                        measurements[figure] = watched.answer
                        observations = watched.watched
            return measurements, observations
        finally:
            worker.close()

    def _ask(self, worker: Worker, record: Metric, point: Point) -> Watched[Measurement]:
        """Measure a metric in a launch. Raises ``Failure``."""
        timeout, kind = self._bench.timeout, Watched[Measurement]
        if record.phase == "fresh":
            return worker.ask("fresh", kind, timeout=timeout, metric=record.name)
        worker.ask("warm", Watched[WarmAnswer], timeout=timeout, point=str(point), seconds=WARM_SECONDS)
        question = {"metric": record.name, "point": str(point), "calls": CALLS, "warm": 2}
        watched = [worker.ask("block", kind, timeout=timeout, **question) for _ in range(BLOCKS)]
        last = watched[-1]
        blocks = [block.answer.samples for block in watched if block.answer.samples is not None]
        if len(blocks) < BLOCKS:
            return evolve(last, answer=Measurement())
        samples = evolve(
            blocks[-1],
            values=[value for block in blocks for value in block.values],
            rounds=[number for number, block in enumerate(blocks) for _ in block.values],
        )
        return evolve(last, answer=Measurement(samples=samples))

    def _derive(
        self, built: Built, absent: tuple[str, ...], options: Mapping[str, OptionValues]
    ) -> tuple[Mapping[Point | None, Measurement], Observations]:
        job = self._job = DeriveJob(
            samples=str(self._recorded(built) / SAMPLES),
            baseline=str(self._recorded(self._built_baseline) / SAMPLES),
            outputs=str(self._recorded(built) / OUTPUTS),
            baseline_outputs=str(self._recorded(self._built_baseline) / OUTPUTS),
            inputs=str(self._bench.prepared.evaluation),
            points=POINTS,
            metrics=references([self._bench.entry]),
            metric_options=options,
        )
        watched = self._bench.watch(job, "derive", absent)
        by_figure: Measurements = {measurement.figure: measurement for measurement in watched.answer.metrics}
        return _by_point(by_figure), watched.watched

    @cached_property
    def _built_baseline(self) -> Built:
        is_subject = self.subject.name == self._bench.baseline.name
        return self._built if is_subject else self._bench.borrow(self._bench.baseline)

    def _recorded(self, built: Built) -> Path:
        """Return the folder of outputs, and of samples that every other metric records in two launches."""
        return self._bench.cached(f"recorded {built.artifact}", lambda: self._record(built))

    def _record(self, built: Built) -> Path:
        import numpy as np

        from qx.worker.derive import CellRecord

        folder = self._bench.new_folder("recorded")
        others = [entry for entry in self._bench.host.ready("metric") if entry.name != self.record.name]
        phases = {
            phase: [entry for entry in others if metric(entry).phase == phase]
            for phase in ("build", "artifact", "fresh", "block", "predictions")
        }
        of_evaluation = [*phases["build"], *phases["artifact"], *phases["predictions"]]
        job = self._evaluate_job(built, of_evaluation, {}, folder / OUTPUTS)
        parts: dict[Figure, list[tuple[int, PlainSamples]]] = {}
        for name, measurement in self._bench.run(job, "evaluate").metrics.items():
            if measurement.samples is not None:
                parts[Figure(name)] = [(-1, measurement.samples)]
        with self._bench.processes("launch") as processes:
            for wave in range(2):
                entries = [*phases["fresh"], *phases["block"]]
                worker = self._start_launch(built, processes, entries)
                for figure, measurement in self._measure_launch(worker, entries)[0].items():
                    if measurement.samples is not None:
                        parts.setdefault(figure, []).append((wave, measurement.samples))
        record = CellRecord()
        for figure, waves in parts.items():
            counts = [len(samples.values) for _, samples in waves]
            record.values[figure] = np.concatenate([samples.values for _, samples in waves])
            record.wave[figure] = np.repeat([wave for wave, _ in waves], counts)
            record.round[figure] = np.concatenate(
                [
                    np.full(count, -1) if samples.rounds is None else samples.rounds
                    for count, (_, samples) in zip(counts, waves, strict=True)
                ]
            )
        # Any: `numpy.savez` takes the arrays as keywords, among its own options.
        arrays: dict[str, Any] = record.to_arrays()
        np.savez(folder / SAMPLES, **arrays)
        return folder


def _by_point(measurements: Measurements) -> dict[Point | None, Measurement]:
    """Return the measurements of one metric by point alone."""
    return {figure.point: measurement for figure, measurement in measurements.items()}
