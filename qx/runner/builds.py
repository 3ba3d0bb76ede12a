"""Builds: one process per config, kept under everything that decides what comes out."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from shutil import which

from attrs import asdict, evolve, frozen

import qx
from qx.environment import cpu_flags, distribution_version, usable_cpus
from qx.files import cache_folder, new_folder, write_whole
from qx.host import Entry, Host, Reference
from qx.jobs import BuildJob
from qx.manifest import Manifest
from qx.references import top_level_paths
from qx.runner.preparation import Prepared
from qx.runner.processes import Failure, Processes
from qx.runner.request import Cell, Reporter, Request, config, references
from qx.runner.settings import calibration_n

RECORD = "build.json"


@frozen(kw_only=True)
class Build:
    """An artifact on the disk."""

    artifact: Path
    key: str
    #: What the build took when it was made.
    seconds: float
    #: It was found, not made.
    cached: bool
    manifest: Manifest


def build_all(
    host: Host,
    request: Request,
    prepared: Prepared,
    cells: Sequence[Cell],
    processes: Processes,
    reporter: Reporter,
) -> dict[str, Build | Failure]:
    """Build the artifact of every cell, as many side by side as there are processors."""
    reporter.phase("build", f"{len(cells)} cells")
    ended: dict[str, Build | Failure] = {}

    def one(cell: Cell) -> Build | Failure:
        try:
            return build(host, request, prepared, cell, processes)
        except Failure as failure:
            return failure

    with processes.side_by_side(min(len(cells), usable_cpus())) as pool:
        futures = {cell.id: pool.submit(one, cell) for cell in cells}
        for cell in cells:
            ended[cell.id] = futures[cell.id].result()
            reporter.step(len(ended) / len(cells), cell.row)
    return ended


def build(host: Host, request: Request, prepared: Prepared, cell: Cell, processes: Processes) -> Build:
    """The artifact of one cell, built now or found in the cache. Raises ``Failure``."""
    entry = host.get("config", cell.config)
    job = build_job(host, request, prepared, cell, entry)
    key = _key(job, prepared, entry)
    place = cache_folder() / "builds" / key
    if not request.rebuild and (found := _found(place, key)) is not None:
        return found
    return _made(job, place, key, cell, processes, request.timeout)


def build_job(host: Host, request: Request, prepared: Prepared, cell: Cell, entry: Entry) -> BuildJob:
    """The job that builds the artifact of a cell, but for the folder that it is to be built in."""
    assert entry.reference is not None
    assert prepared.workload.reference is not None
    count = calibration_n(config(entry), cell.options)
    return BuildJob(
        seed=request.seed,
        engine=prepared.engine,
        workload=prepared.workload.reference,
        workload_options=prepared.options,
        config=entry.reference,
        config_options=cell.options,
        loaders=references(host.ready("loader")),
        wrappers=references(host.wrappers),
        weights=str(prepared.weights) if prepared.weights else None,
        calibration=str(prepared.calibrations[count]) if count is not None else None,
        training=str(prepared.training) if config(entry).training else None,
        folder="",
    )


def _key(job: BuildJob, prepared: Prepared, entry: Entry) -> str:
    """A name for everything that decides what the build gives."""
    record = config(entry)
    sources = [job.config, job.workload, *job.loaders, *job.wrappers]
    deciding = {
        "job": {
            name: value
            for name, value in asdict(job).items()
            if name not in ("weights", "calibration", "training", "folder")
        },
        "weights": prepared.weights_sha256,
        "model": prepared.sources_sha256,
        # The splits are named by their content.
        "calibration": Path(job.calibration).name if job.calibration is not None else None,
        "training": Path(job.training).name if job.training is not None else None,
        "sources": [source_fingerprint(reference) for reference in sources],
        "qx": [qx.__name__, distribution_version("quant-explorer"), source_fingerprint(_WORKER)],
        "config": [entry.distribution, entry.version],
        "model_versions": prepared.model_versions,
        "runtime": prepared.runtime,
        "requires": {name: distribution_version(name) for name in record.requires},
        "programs": {name: _program(name) for name in record.programs},
        "cpu": sorted(cpu_flags()),
    }
    return hashlib.sha256(json.dumps(deciding, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _program(name: str) -> str | None:
    """What tells a program from an earlier version of it, without running it."""
    found = which(os.path.expandvars(name))
    if found is None:
        return None
    path = Path(found).resolve()
    status = path.stat()
    return f"{path} {status.st_size} {status.st_mtime_ns}"


_WORKER = Reference(name="worker", module="qx.worker.build")


def source_fingerprint(reference: Reference) -> str:
    """SHA-256 of the source of a plugin: every file of its package, or its file and those beside it."""
    digest = hashlib.sha256()
    for path in _sources(reference):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources(reference: Reference) -> list[Path]:
    if reference.path is not None:
        # What the file imports from beside it decides what it does, too.
        return sorted(Path(reference.path).parent.glob("*.py"))
    places = top_level_paths([reference])
    return sorted(path for place in places for path in (place.rglob("*.py") if place.is_dir() else [place]))


def _found(place: Path, key: str) -> Build | None:
    try:
        record = json.loads((place / RECORD).read_text(encoding="utf-8"))
        manifest = Manifest.read(place / "artifact")
        whole = all(
            (place / "artifact" / name).stat().st_size == size for name, size in manifest.files.items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not whole:
        return None
    return Build(
        artifact=place / "artifact", key=key, seconds=record["seconds"], cached=True, manifest=manifest
    )


def _made(job: BuildJob, place: Path, key: str, cell: Cell, processes: Processes, timeout: float) -> Build:
    with new_folder(place, replace=True) as folder:
        began = time.perf_counter()
        processes.run(evolve(job, folder=str(folder)), f"build-{cell.row}", timeout=timeout)
        seconds = time.perf_counter() - began
        write_whole(folder / RECORD, json.dumps({"seconds": seconds, "key": key}).encode())
    found = _found(place, key)
    if found is None:
        # Its process has said that all went well, so no word of it is to be believed.
        cause = f"the build left no whole artifact in {place}, and did not notice"
        raise Failure("crashed", "save", f"{cause}: does a plugin replace functions, of json or os say?")
    return evolve(found, cached=False)
