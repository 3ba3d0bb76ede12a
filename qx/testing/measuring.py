"""A metric at work: on an artifact, in launches, or on what they recorded."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from typing import TypeAlias

from qx.contract.records import Metric
from qx.host.host import Entry
from qx.processes.jobs import DeriveJob, EvaluateJob, LaunchJob
from qx.processes.workers import Failure, Processes, Worker
from qx.runner.evaluation import sample_failure
from qx.runner.request import metric, references
from qx.testing.bench import Bench, Built, named
from qx.testing.jobs import WatchJob
from qx.testing.verdicts import Failed
from qx.values import JsonMapping, OptionValues

#: What ``measure`` gave: ``values`` and what goes with them.
Measurement: TypeAlias = JsonMapping
#: By batch size, or None.
Measurements: TypeAlias = "dict[int | None, Measurement]"

BATCH_SIZES = (1, 32)
#: Pairs of launches, and blocks and calls in each of a metric of phase ``block``.
PAIRS = 6
BLOCKS, CALLS = 4, 20
#: Seconds in which a launch gets warm.
WARM_SECONDS = 0.3


class Measuring:
    """One metric, on a subject: the baseline's artifact, or that of the config which its author names."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        assert isinstance(bench.record, Metric)
        self.record = bench.record
        given = bench.conformance.subject
        self.subject = named(bench.host, "config", given) if given else bench.baseline
        #: What was seen besides in the first measurement.
        self.watched: JsonMapping = {}

    @cached_property
    def first(self) -> Measurements:
        """Of the subject. Raises ``Failed`` where the metric fails; without those where it gives None."""
        given, self.watched = self._measured(self._built)
        return given

    def again(self) -> Measurements:
        """Of the same artifact, in other processes."""
        return self._measured(self._built)[0]

    def worse(self) -> Measurements:
        """Of the artifact that its author supplies as worse."""
        return self._measured(self._bench.borrow(self.worse_subject))[0]

    @property
    def worse_subject(self) -> Entry:
        """The config that makes a worse artifact."""
        return named(self._bench.host, "config", str(self._bench.conformance.worse))

    def without(self, absent: tuple[str, ...]) -> None:
        """Measure where these modules look as if not installed. Raises ``Failure``."""
        self._measured(self._built, absent=absent, raises=True)

    def attempt(self, options: OptionValues) -> None:
        """Measure with these options. Raises ``Failure``."""
        self._measured(self._built, options=options, raises=True)

    def flaw(self, given: Measurement) -> str:
        """How the number of values is not what the record promises."""
        items = self._bench.prepared.items
        failure = None if self.record.phase == "block" else sample_failure(self.record, given, items)
        return failure.cause if failure else ""

    def medians(self, given: Measurements) -> dict[int | None, float]:
        """One value for each batch size: the mean over items, else the median."""
        mean = self.record.samples == "per_item"
        return {
            key: sum(one["values"]) / len(one["values"]) if mean else median(one["values"])
            for key, one in given.items()
        }

    def pairs(self) -> dict[int | None, tuple[list[float], list[float]]]:
        """Of launches in pairs, for each batch size one value for the first and the second of every pair."""
        pairs: dict[int | None, tuple[list[float], list[float]]] = {}
        for _ in range(PAIRS):
            for index, given in enumerate(self._pair()):
                for key, value in self.medians(given).items():
                    pairs.setdefault(key, ([], []))[index].append(value)
        return pairs

    # ----------------------------------------------------------------------------------------------

    def _pair(self) -> list[Measurements]:
        """Of two launches, one after the other; they start side by side, as in a wave, if that may be."""
        if self.record.alone:
            return [self.again(), self.again()]
        entries = [self._bench.entry]
        options = {self.record.name: self._bench.defaults}
        with Processes(self._bench.folder("log-launch")) as processes:
            with processes.side_by_side(2) as pool:
                start = partial(self._started, self._built, processes, entries, options)
                workers = [one.result() for one in (pool.submit(start), pool.submit(start))]
            asked = [self._asked_all(worker, entries)[0] for worker in workers]
        return [self._well({size: one for (_, size), one in given.items()}) for given in asked]

    @cached_property
    def _built(self) -> Built:
        try:
            return self._bench.borrow(self.subject)
        except Failure as failure:
            raise Failed(f"its subject cannot be built: {self.subject.name}: {failure}") from failure

    def _measured(
        self,
        built: Built,
        *,
        absent: tuple[str, ...] = (),
        options: OptionValues | None = None,
        raises: bool = False,
    ) -> tuple[Measurements, JsonMapping]:
        chosen = {self.record.name: {**self._bench.defaults, **(options or {})}}
        if self.record.phase in ("fresh", "block"):
            with Processes(self._bench.folder("log-launch")) as processes:
                entries = [self._bench.entry]
                worker = self._started(built, processes, entries, chosen, absent)
                given, watched = self._asked_all(worker, entries)
            measured = {size: one for (_, size), one in given.items()}
        elif self.record.phase == "derived":
            measured, watched = self._derived(built, absent, chosen)
        else:
            measured, watched = self._evaluated(built, absent, chosen)
        return self._well(measured, raises), watched

    def _well(self, measured: Measurements, raises: bool = False) -> Measurements:
        """Those with values. Raises ``Failed``, or ``Failure`` if asked to, where one of them failed."""
        for one in measured.values():
            if "outcome" in one:
                failure = Failure(one["outcome"], f"measure {self.record.name}", one["cause"])
                raise failure if raises else Failed(str(failure))
        return {key: one for key, one in measured.items() if one["values"] is not None}

    def _evaluate_job(
        self, built: Built, entries: list[Entry], options: Mapping[str, OptionValues], outputs: Path
    ) -> EvaluateJob:
        of_files = [entry for entry in entries if metric(entry).phase == "artifact"]
        prepared = self._bench.prepared
        return EvaluateJob(
            engine=prepared.engine,
            artifact=built.stored,
            inputs=str(prepared.evaluation),
            batch_size=50,
            artifact_metrics=references(of_files),
            prediction_metrics=references([entry for entry in entries if entry not in of_files]),
            metric_options=options,
            outputs=str(outputs),
        )

    def _evaluated(
        self, built: Built, absent: tuple[str, ...], options: Mapping[str, OptionValues]
    ) -> tuple[Measurements, JsonMapping]:
        outputs = self._bench.folder("outputs") / "outputs.npy"
        job = self._evaluate_job(built, [self._bench.entry], options, outputs)
        told = self._bench.watch(job, "evaluate", absent)
        return {None: told["metrics"][self.record.name]}, told["watched"]

    def _started(
        self,
        built: Built,
        processes: Processes,
        entries: list[Entry],
        options: Mapping[str, OptionValues] | None = None,
        absent: tuple[str, ...] = (),
    ) -> Worker:
        """A launch with these metrics, which has given its first answer."""
        job = LaunchJob(
            engine=self._bench.prepared.engine,
            artifact=built.stored,
            inputs=str(self._bench.prepared.evaluation),
            batch_sizes=BATCH_SIZES,
            metrics=references(entries),
            metric_options=options or {},
            spawned_ns=time.monotonic_ns(),
        )
        folder = str(self._bench.folder("here-launch"))
        worker = processes.start(WatchJob(job=job, absent=absent, folder=folder), "launch")
        worker.answer(timeout=self._bench.timeout)
        return worker

    def _asked_all(
        self, worker: Worker, entries: list[Entry]
    ) -> tuple[dict[tuple[str, int | None], Measurement], JsonMapping]:
        """What metrics of launches give in one launch, by metric and batch size. The launch is ended."""
        try:
            given: dict[tuple[str, int | None], Measurement] = {}
            watched: JsonMapping = {}
            for entry in sorted(entries, key=lambda one: metric(one).phase != "fresh"):
                for size in BATCH_SIZES if metric(entry).per_batch_size else BATCH_SIZES[:1]:
                    key = size if metric(entry).per_batch_size else None
                    one = self._asked(worker, metric(entry), size)
                    given[entry.name, key] = one
                    watched = one.get("watched", watched)
            return given, watched
        finally:
            worker.close()

    def _asked(self, worker: Worker, record: Metric, size: int) -> Measurement:
        timeout = self._bench.timeout
        try:
            if record.phase == "fresh":
                return worker.ask("fresh", timeout=timeout, metric=record.name)
            worker.ask("warm", timeout=timeout, batch_size=size, seconds=WARM_SECONDS)
            asked = {"metric": record.name, "batch_size": size, "calls": CALLS, "warm": 2}
            blocks = [worker.ask("block", timeout=timeout, **asked) for _ in range(BLOCKS)]
        except Failure as failure:
            if failure.gone:
                raise
            return {"outcome": failure.outcome, "cause": failure.cause}
        if any(block["values"] is None for block in blocks):
            return blocks[-1]
        return {
            **blocks[-1],
            "values": [value for block in blocks for value in block["values"]],
            "rounds": [number for number, block in enumerate(blocks) for _ in block["values"]],
        }

    def _derived(
        self, built: Built, absent: tuple[str, ...], options: Mapping[str, OptionValues]
    ) -> tuple[Measurements, JsonMapping]:
        job = DeriveJob(
            samples=str(self._recorded(built)),
            baseline=str(self._recorded(self._of_baseline)),
            batch_sizes=BATCH_SIZES,
            metrics=references([self._bench.entry]),
            metric_options=options,
        )
        told = self._bench.watch(job, "derive", absent)
        return {one["batch_size"]: one for one in told["metrics"]}, told["watched"]

    @cached_property
    def _of_baseline(self) -> Built:
        same = self.subject.name == self._bench.baseline.name
        return self._built if same else self._bench.borrow(self._bench.baseline)

    def _recorded(self, built: Built) -> Path:
        """What every other metric records of an artifact in two launches, as a derived metric is given it."""
        return self._bench.kept(f"recorded {built.artifact}", lambda: self._record(built))

    def _record(self, built: Built) -> Path:
        import numpy as np

        folder = self._bench.folder("recorded")
        outputs = folder / "outputs.npy"
        others = [entry for entry in self._bench.host.ready("metric") if entry.name != self.record.name]
        phases = {
            phase: [entry for entry in others if metric(entry).phase == phase]
            for phase in ("artifact", "fresh", "block", "predictions")
        }
        job = self._evaluate_job(built, [*phases["artifact"], *phases["predictions"]], {}, outputs)
        parts: dict[tuple[str, int | None], list[tuple[int, Measurement]]] = {}
        for name, one in self._bench.run(job, "evaluate")["metrics"].items():
            if one.get("values") is not None:
                parts[name, None] = [(-1, one)]
        with Processes(self._bench.folder("log-launch")) as processes:
            for wave in range(2):
                entries = [*phases["fresh"], *phases["block"]]
                given, _ = self._asked_all(self._started(built, processes, entries), entries)
                for key, one in given.items():
                    if one.get("values") is not None:
                        parts.setdefault(key, []).append((wave, one))
        arrays = {"outputs||values": np.load(outputs)}
        for (name, size), waves in parts.items():
            places = [
                (
                    one["values"],
                    np.full(len(one["values"]), wave),
                    one.get("rounds", [-1] * len(one["values"])),
                )
                for wave, one in waves
            ]
            for what, of_waves in zip(("values", "wave", "round"), zip(*places, strict=True), strict=True):
                arrays[f"{name}|{size or ''}|{what}"] = np.concatenate(of_waves)
        np.savez(folder / "samples.npz", **arrays)
        return folder / "samples.npz"
