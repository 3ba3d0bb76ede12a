"""Where a plugin is tried: a workload, a baseline, and what has been built and measured so far."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from attrs import asdict, evolve, frozen

from qx.contract.conformance import Conformance
from qx.contract.records import Config, Kind, Record
from qx.errors import DataError, UsageError
from qx.host.host import Entry, Host, Reference
from qx.processes.jobs import BuildJob, DescribeJob, InspectJob, Job, StoredArtifact
from qx.processes.workers import Processes
from qx.runner import settings
from qx.runner.builds import build_job, stored_artifact
from qx.runner.preparation import Prepared, calibration_counts, data_folder, is_offline, prepare
from qx.runner.request import Request, cell_of
from qx.storage.cache import open_cache
from qx.storage.manifest import Manifest
from qx.testing.jobs import ServeJob, WatchJob
from qx.testing.verdicts import Failed, NotApplicable
from qx.values import Array, JsonMapping, JsonObject, OptionValue, OptionValues

#: The kit's own workload, as ``-p`` takes it.
TESTBENCH = "qx.testing.testbench"
#: Batch sizes that an artifact is served at; the last one is compared.
BATCH_SIZES = (1, 3, 64)
CALIBRATION_N = 128

Kept = TypeVar("Kept")


@frozen(kw_only=True)
class Built:
    """An artifact, and what was seen while it was built."""

    manifest: Manifest
    stored: StoredArtifact
    watched: JsonMapping
    #: The fp32 model's outputs for the first evaluation inputs, ``[n, ...]``.
    fp32: Array

    @property
    def artifact(self) -> Path:
        """Its folder."""
        return Path(self.stored.folder)


@frozen(kw_only=True)
class Served:
    """What a launch that served an artifact told."""

    told: JsonMapping
    outputs: Array

    @property
    def watched(self) -> JsonMapping:
        """What was seen besides."""
        watched: JsonMapping = self.told["watched"]
        return watched


class Bench:
    """One plugin, with all that its checks share. Each step is taken when a check first needs it."""

    def __init__(
        self,
        host: Host,
        entry: Entry,
        folder: Path,
        conformance: Conformance,
        *,
        timeout: float = 300.0,
        shared: dict[str, Any] | None = None,
        trust_cache: Path | None = None,
    ) -> None:
        self.host, self.entry, self.conformance = host, entry, conformance
        #: Seconds for each stage of a job.
        self.timeout = timeout
        self._folder = folder
        #: A cache folder that is used although others can write it.
        self._trust_cache = trust_cache
        self._count = itertools.count(1)
        self._kept: dict[str, Any] = {}
        #: What other benches have prepared alike.
        self._shared = {} if shared is None else shared

    # The plugin -----------------------------------------------------------------------------------

    @property
    def record(self) -> Record:
        """Its record. Raises ``Failed`` where it has none."""
        if self.entry.record is None:
            raise Failed(self.entry.reason)
        return self.entry.record

    @property
    def config(self) -> Config:
        """Its record, of a config."""
        assert isinstance(self.record, Config)
        return self.record

    @property
    def reference(self) -> Reference:
        """How to import it. Raises ``Failed`` where that cannot be known."""
        if self.entry.reference is None:
            raise Failed(self.entry.reason)
        return self.entry.reference

    @property
    def defaults(self) -> dict[str, OptionValue]:
        """Its options, each with its default."""
        return {option.name: option.default for option in self.record.options}

    def kept(self, name: str, make: Callable[[], Kept]) -> Kept:
        """What ``make`` gives, made when it is first asked for under this name."""
        if name not in self._kept:
            self._kept[name] = make()
        kept: Kept = self._kept[name]
        return kept

    # Jobs -----------------------------------------------------------------------------------------

    def folder(self, name: str) -> Path:
        """A new empty folder."""
        place = self._folder / f"{next(self._count):03d}-{name}"
        place.mkdir(parents=True)
        return place

    def run(self, job: Job, name: str) -> JsonObject:
        """Have a job done by a process. Raises ``qx.processes.workers.Failure``."""
        with Processes(self.folder(f"log-{name}")) as processes:
            return processes.run(job, name, timeout=self.timeout)

    def describe(self, times: int) -> list[JsonObject]:
        """Have it describe itself so often in a fresh process. Raises ``qx.processes.workers.Failure``."""
        with Processes(self.folder("log-describe")) as processes:
            worker = processes.start(DescribeJob(), "describe")
            worker.answer(timeout=self.timeout)
            question = {"plugin": asdict(self.reference), "named": False}
            return [worker.ask("describe", timeout=self.timeout, **question) for _ in range(times)]

    def watch(self, job: Job, name: str, absent: tuple[str, ...] = (), **arguments: Any) -> JsonObject:
        """Have a job done and watched. Raises ``qx.processes.workers.Failure``."""
        watching = WatchJob(
            job=job, absent=absent, folder=str(self.folder(f"here-{name}")), threads=job.threads, **arguments
        )
        return self.run(watching, name)

    # The workload ---------------------------------------------------------------------------------

    @cached_property
    def request(self) -> Request:
        """What the workload is prepared by."""
        return Request(
            workload=workload_name(self.host, self.conformance.workload),
            calibration_n=CALIBRATION_N,
            trust_cache=self._trust_cache,
        )

    @cached_property
    def prepared(self) -> Prepared:
        """The workload with its data. Raises ``NotApplicable`` where they cannot be had."""
        model = self.host.get("workload", str(self.request.workload))
        wanted = [self.entry] if self.entry.kind == "config" else []
        wanted += [self.host.get("config", name) for name in self._others]
        variants = [one for entry in wanted for one in settings.variants(entry, {}, CALIBRATION_N)]
        training = any(getattr(entry.record, "training", False) for entry in wanted)
        key = f"{model.reference} {calibration_counts(self.request, variants)} {training}"
        if key not in self._shared:
            with Processes(self.folder("log-prepare")) as processes:
                try:
                    options = settings.all_options(model, {})
                    self._shared[key] = prepare(
                        self.host, self.request, model, processes, _Silent(), options, variants
                    )
                except (UsageError, DataError) as error:
                    raise NotApplicable(f"workload {self.request.workload}: {error}") from error
        found: Prepared = self._shared[key]
        return found

    def data(self) -> JsonObject:
        """Where a job that loads data is to look."""
        folder = data_folder(self.request)
        return {
            "data": str(folder) if folder else None,
            "offline": is_offline(self.request),
            "cache": str(open_cache(self._trust_cache)),
        }

    def inspect_job(self, *configs: Reference) -> InspectJob:
        """The job that makes the workload's model and asks configs whether they can treat it."""
        prepared = self.prepared
        assert prepared.workload.reference is not None
        return InspectJob(
            seed=self.request.seed,
            workload=prepared.workload.reference,
            workload_options=prepared.options,
            weights=str(prepared.weights) if prepared.weights else None,
            engine=prepared.engine,
            configs=configs,
        )

    # Builds and launches --------------------------------------------------------------------------

    def build_job(self, config: Entry, options: OptionValues | None = None) -> BuildJob:
        """The job that builds an artifact of a config."""
        prepared = self.prepared
        assert isinstance(config.record, Config)
        (variant,) = settings.variants(config, {}, CALIBRATION_N)
        cell = cell_of(prepared.workload.name, variant, self.request)
        cell = evolve(cell, options={**cell.options, **(options or {})})
        job = build_job(self.host, self.request, prepared, cell, config)
        return evolve(job, folder=str(self.folder(f"build-{config.name}")))

    def build(
        self, config: Entry, *, absent: tuple[str, ...] = (), options: OptionValues | None = None
    ) -> Built:
        """Build an artifact of a config, watched. Raises ``qx.processes.workers.Failure``."""
        import numpy as np

        job = self.build_job(config, options)
        outputs = Path(job.folder) / "fp32.npy"
        told = self.watch(
            job,
            f"build-{config.name}",
            absent,
            inputs=str(self.prepared.evaluation),
            outputs=str(outputs),
        )
        artifact = Path(job.folder) / "artifact"
        manifest = Manifest.read(artifact)
        return Built(
            manifest=manifest,
            stored=stored_artifact(self.host, job, artifact, manifest),
            watched=told["watched"],
            fp32=np.load(outputs),
        )

    def borrow(self, config: Entry) -> Built:
        """An artifact of a config that is not under test: a copy of the one that benches of one job share.

        Raises ``qx.processes.workers.Failure``.
        """
        key = evolve(self.build_job(config), folder="").to_json()
        ours = self._shared.get(key)
        # It lies with the bench that built it, which may be gone.
        if ours is None or not ours.artifact.is_dir():
            ours = self._shared[key] = self.build(config)
        place = self.folder("borrowed")
        shutil.copytree(ours.artifact.parent, place, dirs_exist_ok=True)
        return evolve(ours, stored=evolve(ours.stored, folder=str(place / ours.artifact.name)))

    def serve(self, built: Built, *, absent: tuple[str, ...] = ()) -> Served:
        """Serve the files that an artifact is said to be made of, copied to a folder of their own.

        Raises ``qx.processes.workers.Failure``.
        """
        import numpy as np

        place = self.folder("served")
        moved = place / "artifact"
        for name in built.manifest.files:
            (moved / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(built.artifact / name, moved / name)
        for path in built.artifact.parent.glob("probe.*"):
            shutil.copyfile(path, place / path.name)
        outputs = place / "outputs.npy"
        job = ServeJob(
            engine=self.prepared.engine,
            artifact=evolve(built.stored, folder=str(moved)),
            inputs=str(self.prepared.evaluation),
            batch_sizes=BATCH_SIZES,
            outputs=str(outputs),
        )
        told = self.watch(job, "serve", absent)
        return Served(told=told, outputs=np.load(outputs))

    @cached_property
    def built(self) -> Built:
        """An artifact of the config under test."""
        return self.build(self.entry)

    @cached_property
    def served(self) -> Served:
        """That artifact, served."""
        return self.serve(self.built)

    @cached_property
    def baseline(self) -> Entry:
        """The config that others are compared with."""
        from qx.runner.request import choose

        return choose(self.host, self.request).baseline

    @cached_property
    def _others(self) -> tuple[str, ...]:
        """Configs that a metric or a loader is tried with."""
        if self.entry.kind not in ("metric", "loader"):
            return ()
        given = (self.conformance.subject, self.conformance.worse)
        return (self.baseline.name, *(named(self.host, "config", one).name for one in given if one))


class _Silent:
    """Told how the preparation goes, and says nothing."""

    def phase(self, name: str, text: str) -> None:
        """Nothing."""

    def step(self, done: float, text: str) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


def workload_name(host: Host, given: str | None) -> str:
    """The name of the workload to check with. ``given`` may be a module or a file, loaded already."""
    from qx.contract import conformance

    if given is None:
        return conformance.TESTBENCH
    return named(host, "workload", given).name


def named(host: Host, kind: Kind, given: str) -> Entry:
    """A plugin by its name, or as ``-p`` takes it. Raises ``UsageError``."""
    place, sign, attribute = given.partition(":")
    target = os.path.realpath(place) + sign + attribute if place.endswith(".py") else given
    for entry in host.entries:
        if entry.reference is not None and entry.reference.target == target:
            return host.get(kind, entry.name)
    return host.get(kind, given)


def conformance_of(entry: Entry) -> Conformance:
    """What the author tells the kit. Raises ``UsageError`` where it is no ``Conformance``."""
    value = entry.description.conformance if entry.description is not None else None
    if isinstance(value, str):
        raise UsageError(f"plugin {entry.name!r} ({entry.provider}): {value}")
    return Conformance(**value) if value is not None else Conformance()
