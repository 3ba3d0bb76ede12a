"""Builds: one process per config, kept in the cache under a key of everything that decides the artifact."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from shutil import which

from attrs import asdict, evolve, frozen

from qx.contract.devices import DeviceFacts, kind_of
from qx.contract.records import BuildStep, Loader, to_steps
from qx.environment import cpu_flags, distribution_version
from qx.files import write_whole
from qx.host.host import Entry, Host
from qx.host.sources import fingerprint, own_fingerprint
from qx.processes.jobs import BuildJob, StoredArtifact
from qx.processes.logs import Subject
from qx.processes.workers import Failure, Processes
from qx.results.cells import CellId
from qx.runner.journal import BuildRecord, Journal
from qx.runner.preparation import Prepared
from qx.runner.request import Reporter, Request, config, recipes_of, references
from qx.runner.settings import calibration_n
from qx.storage.cache import BUILDS, new_entry, open_cache, read_entry
from qx.storage.digests import Damaged, FileDigest, read_json
from qx.storage.manifest import FILE as MANIFEST
from qx.storage.manifest import Manifest
from qx.values import JsonObject

RECORD = "build.json"


@frozen(kw_only=True)
class Build:
    """An artifact on the disk."""

    key: str
    #: Time that the build took when it was carried out, in seconds.
    seconds: float
    #: What was recorded of its steps when it was carried out.
    steps: tuple[BuildStep, ...]
    #: Whether the build comes from the cache.
    cached: bool
    manifest: Manifest
    stored: StoredArtifact

    @property
    def content(self) -> str:
        """SHA-256 of what is served: the digests of all files, the loader and the details."""
        loader, files, details = self.manifest.content
        fields = [loader, {name: asdict(digest) for name, digest in files.items()}, details]
        return hashlib.sha256(json.dumps(fields, default=str).encode()).hexdigest()

    @property
    def artifact(self) -> Path:
        """The folder of the artifact."""
        return Path(self.stored.folder)


def build(
    host: Host,
    request: Request,
    prepared: Prepared,
    cell: CellId,
    processes: Processes,
    reporter: Reporter,
    seed: int | None = None,
    device: DeviceFacts | None = None,
    journal: Journal | None = None,
    shared: Path | None = None,
    flags: frozenset[str] | None = None,
) -> Build:
    """Return the build of one cell, from the cache or carried out now. Raises ``Failure``.

    A build from the cache is read whole and checked against its digests, once in a run and before anything is
    timed. ``seed`` is that of a further build; None for the build of the run's own seed. ``device`` is the
    device of the run; None for the CPU. The build is noted in the ``journal``; one that an earlier sitting
    has noted there is not built again for ``--rebuild``. ``shared`` is a folder for what several builds of
    the same workload share, and ``flags`` are the instruction sets of the CPU that builds; None: of this one.
    """
    entry = host.get("config", cell.config)
    job = build_job(host, request, prepared, cell, entry, seed)
    key = _key(host, job, prepared, entry, device, flags)
    cache = open_cache(request.trust_cache)
    processes.uses.hold(cache, BUILDS, key)
    place = cache / BUILDS / key
    label = cell.row if seed is None else f"{cell.row} seed {seed}"

    journal = journal or Journal()
    noted = [record for record in journal.of(BuildRecord) if (record.cell, record.seed) == (str(cell), seed)]
    # Parts of a run with other numbers of threads have the same build, so the first of them builds it.
    is_first = cell.threads == request.threads[0]
    replace = request.rebuild and is_first and all(record.key != key for record in noted)
    if not replace:
        try:
            if (cached := read_entry(place, partial(_read, host, job, key))) is not None:
                return _noted(cached, cell, seed, journal, noted)
        except Damaged as error:
            reporter.say(
                f"{cell.workload}/{label}: its build in the cache is damaged ({error}); it is built again"
            )
            replace = True
    job = evolve(job, shared=None if shared is None else str(shared))
    _build_into_cache(
        job, place, key, label, Subject(str(cell), cell.row), processes, request.timeout, replace=replace
    )
    try:
        built = read_entry(place, partial(_read, host, job, key))
    except Damaged as error:
        # Its process reported success, so nothing that it reported can be trusted.
        cause = f"the build reported success, but left no complete artifact in {place} ({error})"
        raise Failure(
            "crashed", "save", f"{cause}: does a plugin replace functions, such as those of json or os?"
        ) from error
    if built is None:
        raise Failure("failed", "save", f"the build in {place} is gone")
    return _noted(evolve(built, cached=False), cell, seed, journal, noted)


def _noted(
    build: Build, cell: CellId, seed: int | None, journal: Journal, noted: Sequence[BuildRecord]
) -> Build:
    """Note in the journal that a build is finished, unless it is noted, and return the build."""
    record = BuildRecord(cell=str(cell), seed=seed, key=build.key, content=build.content)
    if record not in noted:
        journal.write(record)
    return build


def build_job(
    host: Host,
    request: Request,
    prepared: Prepared,
    cell: CellId,
    entry: Entry,
    build_seed: int | None = None,
) -> BuildJob:
    """Return the job that builds the artifact of a cell, without the folder that it is to be built in."""
    calibrations = prepared.calibrations if build_seed is None else prepared.further[build_seed]
    assert entry.reference is not None
    assert prepared.workload.reference is not None
    count = calibration_n(config(entry), cell.options)
    return BuildJob(
        seed=request.seed,
        build_seed=build_seed,
        engine=prepared.engine,
        device=cell.device,
        workload=prepared.workload.reference,
        workload_options=prepared.options,
        config=entry.reference,
        config_options=cell.options,
        recipes=references(recipes_of(host, entry)),
        loaders=references(host.ready("loader")),
        wrappers=references(host.wrappers),
        weights=str(prepared.weights) if prepared.weights else None,
        structure=prepared.structure,
        calibration=str(calibrations[count]) if count is not None else None,
        training=str(prepared.training) if config(entry).training else None,
        folder="",
        imports=config(entry).imports,
    )


def _key(
    host: Host,
    job: BuildJob,
    prepared: Prepared,
    entry: Entry,
    device: DeviceFacts | None = None,
    flags: frozenset[str] | None = None,
) -> str:
    """Return a hash of everything that decides the result of the build."""
    configs = [entry, *recipes_of(host, entry)]
    records = [config(entry) for entry in configs]
    rebuilding = [loader.reference for loader in host.ready("loader") if _rebuilds(loader)]
    sources = [job.config, *job.recipes, job.workload, *filter(None, rebuilding), *job.wrappers]
    deciding = {
        "job": {
            name: value
            for name, value in asdict(job).items()
            # What the device is decides the build, and not its number. Of the loaders those do that rebuild
            # modules, which are among the sources: a further runtime changes no build of another one.
            if name
            not in ("weights", "calibration", "training", "folder", "device", "imports", "shared", "loaders")
        },
        "device": None if device is None else _kind_of_device(job.device, device),
        "weights": prepared.weights_sha256,
        "model": prepared.sources_sha256,
        # The splits are named by their content.
        "calibration": Path(job.calibration).name if job.calibration is not None else None,
        "training": Path(job.training).name if job.training is not None else None,
        "sources": fingerprint(sources),
        "qx": [
            "qx",
            distribution_version("quant-explorer"),
            own_fingerprint("qx", "qx.worker.__main__", "qx.worker.build"),
        ],
        "configs": [[entry.distribution, entry.version] for entry in configs],
        "model_versions": prepared.model_versions,
        "runtime": prepared.runtime,
        "requires": {name: distribution_version(name) for record in records for name in record.requires},
        "programs": {name: _program(name) for record in records for name in record.programs},
        "cpu": sorted(cpu_flags() if flags is None else flags),
    }
    return hashlib.sha256(json.dumps(deciding, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _kind_of_device(name: str, device: DeviceFacts) -> JsonObject:
    """Return what decides which code is compiled, and which kernels are chosen, for a device."""
    return {
        "kind": kind_of(name),
        "product": device.product,
        "capability": device.capability,
        "driver": device.driver,
        "torch_cuda": device.torch_cuda,
    }


def _rebuilds(entry: Entry) -> bool:
    return isinstance(entry.record, Loader) and entry.record.rebuilds


def _program(name: str) -> str | None:
    """Return path, size and time of a program, which change with its version; None without the program."""
    location = which(os.path.expandvars(name))
    if location is None:
        return None
    path = Path(location).resolve()
    status = path.stat()
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def _read(host: Host, job: BuildJob, key: str, place: Path, digests: Mapping[str, FileDigest]) -> Build:
    """Return the build in a folder whose files have these digests. Raises ``Damaged``."""
    if missing := {RECORD, f"artifact/{MANIFEST}"} - digests.keys():
        raise Damaged(f"it lacks {min(missing)}")
    record = read_json(place, RECORD)
    if not isinstance(record, dict) or record.get("key") != key:
        raise Damaged("it holds another build")
    if not isinstance(seconds := record.get("seconds"), float):
        raise Damaged(f"{RECORD} does not say how long it took")
    try:
        steps = to_steps(record["steps"])
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{RECORD} does not say what its steps took") from error
    artifact = place / "artifact"
    manifest = Manifest.read(artifact)
    for name, digest in manifest.files.items():
        if digests.get(f"artifact/{name}") != digest:
            raise Damaged(f"{MANIFEST} names another {name}")
    stored = stored_artifact(host, job, artifact, manifest)
    return Build(key=key, seconds=seconds, steps=steps, cached=True, manifest=manifest, stored=stored)


def stored_artifact(host: Host, job: BuildJob, folder: Path, manifest: Manifest) -> StoredArtifact:
    """Return the artifact that a job has built into a folder, with the plugins of this host that serve it.

    Raises ``Damaged`` if this host lacks the loader that the manifest names.
    """
    loaders = {entry.name: entry for entry in host.ready("loader")}
    loader = loaders.get(manifest.loader)
    if loader is None or loader.reference is None:
        raise Damaged(f"it needs the loader {manifest.loader!r}, which is not available")
    assert isinstance(loader.record, Loader)
    return StoredArtifact(
        folder=str(folder),
        files=tuple(manifest.files),
        details=manifest.details,
        notes=manifest.notes,
        weight_elements=manifest.weight_elements,
        loader=loader.reference,
        imports=loader.record.imports,
        config=job.config,
        config_options=job.config_options,
        recipes=job.recipes,
        build_seed=job.build_seed,
        quantizable=config(host.get("config", job.config.name)).quantizable,
        workload=job.workload,
        workload_options=job.workload_options,
        structure=job.structure,
    )


def _build_into_cache(
    job: BuildJob,
    place: Path,
    key: str,
    label: str,
    subject: Subject,
    processes: Processes,
    timeout: float,
    *,
    replace: bool,
) -> None:
    """Run the build job, and move its result to its place in the cache once it is complete."""
    with new_entry(place, replace=replace) as folder:
        answer, seconds = processes.run_timed(
            evolve(job, folder=str(folder)), f"build-{label}", subject, timeout=timeout
        )
        steps = [asdict(step) for step in answer.steps]
        write_whole(folder / RECORD, json.dumps({"seconds": seconds, "key": key, "steps": steps}).encode())
