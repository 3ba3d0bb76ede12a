"""The bench on which a plugin is tried: a workload, a baseline, and the artifacts built so far."""

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
from qx.contract.devices import CPU
from qx.contract.records import Arrays, BuildStep, Config, Kind, Record
from qx.errors import DataError, UsageError
from qx.host.host import Entry, Host, Reference
from qx.processes.answers import Answer
from qx.processes.job_answers import DescribeAnswer, ShipAnswer, Started
from qx.processes.jobs import BuildJob, DescribeJob, InspectJob, Job, ShipJob, StoredArtifact
from qx.processes.logs import Logs, Subject
from qx.processes.workers import Processes
from qx.runner import settings
from qx.runner.builds import build_job, stored_artifact
from qx.runner.preparation import Prepared, calibration_counts, data_folder, is_offline, prepare
from qx.runner.request import Request, Silent, cell_of, recipes_of, references
from qx.storage.cache import open_cache
from qx.storage.manifest import Manifest
from qx.testing.answers import (
    BuildObservations,
    LayerValuesAnswer,
    Observations,
    ServeAnswer,
    Watched,
)
from qx.testing.jobs import LayerValuesJob, ServeJob, WatchJob
from qx.testing.verdicts import Failed, NotApplicable
from qx.values import JsonObject, OptionValue, OptionValues

#: The kit's own workload, as ``-p`` takes it.
TESTBENCH = "qx.testing.testbench"
#: Batch sizes that an artifact is served at; the last one is compared.
BATCH_SIZES = (1, 3, 64)
CALIBRATION_N = 128

T = TypeVar("T")
A = TypeVar("A", bound=Answer)


@frozen(kw_only=True)
class Built:
    """An artifact, and what was observed while it was built."""

    manifest: Manifest
    #: What was recorded of the build's steps.
    steps: tuple[BuildStep, ...]
    stored: StoredArtifact
    observations: Observations
    #: The fp32 model's outputs for the first evaluation inputs, ``[n, ...]``, by name.
    fp32: Arrays

    @property
    def build_observations(self) -> BuildObservations:
        """What was observed because it is a build."""
        assert self.observations.build is not None
        return self.observations.build

    @property
    def artifact(self) -> Path:
        """The artifact's folder."""
        return Path(self.stored.folder)


@frozen(kw_only=True)
class Served:
    """The answer of a launch that served an artifact, and its outputs by name."""

    answer: ServeAnswer
    #: What was observed while it served.
    observations: Observations
    #: Outputs at the last batch size, ``[n, ...]``.
    outputs: Arrays


class Bench:
    """One plugin, with all that its checks share. Each step runs when a check first needs it."""

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
        logs: Logs | None = None,
    ) -> None:
        """``logs`` keep what the plugin prints and its errors, by default in the folder of the bench."""
        self.host, self.entry, self.conformance = host, entry, conformance
        #: What the log of the plugin is kept for.
        self.subject = Subject(entry.name, entry.name)
        self.logs = Logs(lambda: folder / "logs") if logs is None else logs
        #: Seconds for each stage of a job.
        self.timeout = timeout
        self._folder = folder
        #: A cache folder that is used although others can write it.
        self._trust_cache = trust_cache
        self._count = itertools.count(1)
        self._cache: dict[str, Any] = {}
        #: Prepared workloads and built artifacts that several benches use.
        self._shared = {} if shared is None else shared

    # The plugin -----------------------------------------------------------------------------------

    @property
    def record(self) -> Record:
        """The plugin's record. Raises ``Failed`` where it has none."""
        if self.entry.record is None:
            raise Failed(self.entry.reason)
        return self.entry.record

    @property
    def config(self) -> Config:
        """The plugin's record, which is a config's."""
        assert isinstance(self.record, Config)
        return self.record

    @property
    def reference(self) -> Reference:
        """How to import the plugin. Raises ``Failed`` where its entry does not say."""
        if self.entry.reference is None:
            raise Failed(self.entry.reason)
        return self.entry.reference

    @property
    def defaults(self) -> dict[str, OptionValue]:
        """The default of each option, by its name."""
        return {option.name: option.default for option in self.record.options}

    def cached(self, name: str, compute: Callable[[], T]) -> T:
        """Return the result of ``compute``, which is called once for each name."""
        if name not in self._cache:
            self._cache[name] = compute()
        result: T = self._cache[name]
        return result

    # Jobs -----------------------------------------------------------------------------------------

    def new_folder(self, name: str) -> Path:
        """Make an empty folder whose name ends with ``name``."""
        folder = self._folder / f"{next(self._count):03d}-{name}"
        folder.mkdir(parents=True)
        return folder

    def run(self, job: Job[A], name: str) -> A:
        """Run a job in a process of its own. Raises ``qx.processes.workers.Failure``."""
        with self.processes(name) as processes:
            return processes.run(job, name, self.subject, timeout=self.timeout)

    def processes(self, name: str) -> Processes:
        """Return processes whose outputs lie in a new folder and are kept in the logs of the bench."""
        return Processes(self.new_folder(f"log-{name}"), logs=self.logs)

    def describe(self, times: int) -> list[DescribeAnswer]:
        """Describe the plugin several times in one process. Raises ``qx.processes.workers.Failure``."""
        with self.processes("describe") as processes:
            worker = processes.start(DescribeJob(), "describe", self.subject, fresh=True)
            worker.answer(Started, timeout=self.timeout)
            question = {"plugin": asdict(self.reference), "named": False}
            return [
                worker.ask("describe", DescribeAnswer, timeout=self.timeout, **question) for _ in range(times)
            ]

    def watch(self, job: Job[A], name: str, absent: tuple[str, ...] = (), **arguments: Any) -> Watched[A]:
        """Run a job while observing what plugins change beside it.

        Raises ``qx.processes.workers.Failure``.
        """
        watching = WatchJob(
            job=job,
            absent=absent,
            folder=str(self.new_folder(f"here-{name}")),
            threads=job.threads,
            **arguments,
        )
        return self.run(watching, name)

    # The workload ---------------------------------------------------------------------------------

    @cached_property
    def request(self) -> Request:
        """The request by which the workload is prepared."""
        return Request(
            workload=workload_name(self.host, self.conformance.workload),
            calibration_n=CALIBRATION_N,
            trust_cache=self._trust_cache,
            device=self.device,
        )

    @property
    def device(self) -> str:
        """The device that the plugin is tried on: the CPU, unless its record is for others only."""
        devices: tuple[str, ...] = getattr(self.entry.record, "devices", ())
        return CPU if not devices or CPU in devices else devices[0]

    def device_fields(self) -> JsonObject:
        """Return the fields of a job that say on which device it serves an artifact."""
        if self.request.device == CPU:
            return {}
        return {"device": self.request.device, "compiled": str(self.new_folder("compiled"))}

    @cached_property
    def prepared(self) -> Prepared:
        """The workload with its data. Raises ``NotApplicable`` where they are not available."""
        model = self.host.get("workload", str(self.request.workload))
        configs = [self.entry] if self.entry.kind == "config" else []
        configs += [self.host.get("config", name) for name in self._companion_configs]
        variants = [variant for config in configs for variant in settings.variants(config, {}, CALIBRATION_N)]
        training = any(getattr(config.record, "training", False) for config in configs)
        key = f"{model.reference} {calibration_counts(self.request, variants)} {training}"
        if key not in self._shared:
            with self.processes("prepare") as processes:
                try:
                    options = settings.all_options(model, {})
                    self._shared[key] = prepare(
                        self.host, self.request, model, processes, Silent(), options, variants
                    )
                except (UsageError, DataError) as error:
                    raise NotApplicable(f"workload {self.request.workload}: {error}") from error
        prepared: Prepared = self._shared[key]
        return prepared

    def data_fields(self) -> JsonObject:
        """Return the fields of a job that say where it finds data."""
        folder = data_folder(self.request)
        return {
            "data": str(folder) if folder else None,
            "offline": is_offline(self.request),
            "cache": str(open_cache(self._trust_cache)),
        }

    def inspect_job(self, *configs: Reference) -> InspectJob:
        """Return the job that makes the workload's model and asks configs whether they can quantize it."""
        prepared = self.prepared
        assert prepared.workload.reference is not None
        return InspectJob(
            seed=self.request.seed,
            workload=prepared.workload.reference,
            workload_options=prepared.options,
            weights=str(prepared.weights) if prepared.weights else None,
            engine=prepared.engine,
            configs=configs,
            recipes=references(recipes_of(self.host, self.entry) if self.entry.kind == "config" else ()),
            float_layers={config.name: () for config in configs},
        )

    # Builds and launches --------------------------------------------------------------------------

    def build_job(self, config: Entry, options: OptionValues | None = None) -> BuildJob:
        """Return the job that builds an artifact of a config."""
        prepared = self.prepared
        assert isinstance(config.record, Config)
        (variant,) = settings.variants(config, {}, CALIBRATION_N)
        cell = cell_of(prepared.workload.name, variant, self.request)
        cell = evolve(cell, options={**cell.options, **(options or {})})
        job = build_job(self.host, self.request, prepared, cell, config)
        return evolve(job, folder=str(self.new_folder(f"build-{config.name}")))

    def build(
        self, config: Entry, *, absent: tuple[str, ...] = (), options: OptionValues | None = None
    ) -> Built:
        """Build an artifact of a config, and observe the build. Raises ``qx.processes.workers.Failure``."""
        job = self.build_job(config, options)
        outputs = Path(job.folder) / "fp32.npz"
        watched = self.watch(
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
            steps=watched.answer.steps,
            stored=stored_artifact(self.host, job, artifact, manifest),
            observations=watched.watched,
            fp32=_read_outputs(outputs),
        )

    def borrow(self, config: Entry) -> Built:
        """Return an artifact of a config that is not under test: a copy of the one that benches share.

        Raises ``qx.processes.workers.Failure``.
        """
        key = evolve(self.build_job(config), folder="").to_json()
        built = self._shared.get(key)
        # It lies in the folder of the bench that built it, which may have been removed.
        if built is None or not built.artifact.is_dir():
            built = self._shared[key] = self.build(config)
        folder = self.new_folder("borrowed")
        shutil.copytree(built.artifact.parent, folder, dirs_exist_ok=True)
        return evolve(built, stored=evolve(built.stored, folder=str(folder / built.artifact.name)))

    def serve(self, built: Built, *, absent: tuple[str, ...] = ()) -> Served:
        """Serve a copy of the files that an artifact's manifest names.

        Raises ``qx.processes.workers.Failure``.
        """
        folder = self.new_folder("served")
        artifact = _copy_files(built, folder / "artifact")
        for path in built.artifact.parent.glob("probe.*"):
            shutil.copyfile(path, folder / path.name)
        outputs = folder / "outputs.npz"
        job = ServeJob(
            engine=self.prepared.engine,
            artifact=evolve(built.stored, folder=str(artifact)),
            inputs=str(self.prepared.evaluation),
            **self.device_fields(),
            batch_sizes=BATCH_SIZES,
            outputs=str(outputs),
        )
        watched = self.watch(job, "serve", absent)
        return Served(answer=watched.answer, observations=watched.watched, outputs=_read_outputs(outputs))

    def ship(self, built: Built) -> ShipAnswer:
        """Write ``serve.py`` beside a copy of an artifact, and try it in a process without qx.

        Raises ``qx.processes.workers.Failure``.
        """
        job = ShipJob(
            engine=self.prepared.engine,
            artifact=evolve(built.stored, folder=str(_copy_files(built, self.new_folder("shipped")))),
            inputs=str(self.prepared.evaluation),
        )
        return self.run(job, "ship")

    def look_inside(self, built: Built, reference: Built, items: int) -> LayerValuesAnswer:
        """Have the loader of two artifacts give what layers give inside of copies of them.

        Raises ``qx.processes.workers.Failure``.
        """
        own, other = (
            evolve(one.stored, folder=str(_copy_files(one, self.new_folder("inside"))))
            for one in (built, reference)
        )
        job = LayerValuesJob(
            engine=self.prepared.engine,
            artifact=own,
            reference=other,
            inputs=str(self.prepared.evaluation),
            items=items,
            **self.device_fields(),
        )
        return self.run(job, "layer_values")

    @cached_property
    def built(self) -> Built:
        """An artifact of the config under test."""
        return self.build(self.entry)

    @cached_property
    def served(self) -> Served:
        """The launch that served the artifact of the config under test."""
        return self.serve(self.built)

    @cached_property
    def baseline(self) -> Entry:
        """The entry of the config that others are compared with."""
        from qx.runner.request import choose

        return choose(self.host, self.request).baseline

    @cached_property
    def _companion_configs(self) -> tuple[str, ...]:
        """Names of the configs that a metric or a loader is tried with."""
        if self.entry.kind not in ("metric", "loader"):
            return ()
        targets = filter(None, (self.conformance.subject, self.conformance.worse))
        return (self.baseline.name, *(find_plugin(self.host, "config", target).name for target in targets))


def _copy_files(built: Built, folder: Path) -> Path:
    """Copy the files that an artifact's manifest names into a folder, and return it."""
    for name in built.manifest.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(built.artifact / name, folder / name)
    return folder


def _read_outputs(path: Path) -> Arrays:
    import numpy as np

    from qx.worker.outputs import unpack

    with np.load(path) as arrays:
        return unpack(arrays)


def workload_name(host: Host, target: str | None) -> str:
    """Return the name of the workload to check with; ``target`` may be a module or a file that is loaded."""
    from qx.contract import conformance

    if target is None:
        return conformance.TESTBENCH
    return find_plugin(host, "workload", target).name


def find_plugin(host: Host, kind: Kind, target: str) -> Entry:
    """Return the plugin of a name, or of a module or file as ``-p`` takes it. Raises ``UsageError``."""
    module, sign, attribute = target.partition(":")
    resolved = os.path.realpath(module) + sign + attribute if module.endswith(".py") else target
    for entry in host.entries:
        if entry.reference is not None and entry.reference.target == resolved:
            return host.get(kind, entry.name)
    return host.get(kind, target)


def conformance_of(entry: Entry) -> Conformance:
    """Return what the author declares to the kit. Raises ``UsageError`` where it is no ``Conformance``."""
    value = entry.description.conformance if entry.description is not None else None
    if isinstance(value, str):
        raise UsageError(f"plugin {entry.name!r} ({entry.provider}): {value}")
    return Conformance(**value) if value is not None else Conformance()
