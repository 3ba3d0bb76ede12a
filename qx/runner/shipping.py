"""Deliver an artifact into a folder of the user's, with what serves it without qx and a README."""

from __future__ import annotations

from pathlib import Path

from attrs import evolve

from qx.contract.references import DISTRIBUTION
from qx.environment import distribution_version
from qx.errors import QxError
from qx.files import new_folder
from qx.foreign import to_line
from qx.host.host import Host
from qx.processes.job_answers import ShipAnswer
from qx.processes.jobs import ShipJob
from qx.processes.workers import Failure, Processes
from qx.runner.builds import Build
from qx.runner.preparation import Prepared
from qx.runner.request import Request
from qx.shipping.program import EXAMPLE_INPUTS, EXAMPLE_OUTPUTS, NAMES, README, taken_names
from qx.shipping.readme import Package
from qx.storage.digests import Damaged
from qx.storage.manifest import FILE as MANIFEST

#: Longest reason why there is no ``serve.py``, in characters.
REASON_LENGTH = 400


def deliver(
    host: Host, request: Request, prepared: Prepared, build: Build, place: Path, processes: Processes
) -> str:
    """Copy an artifact into a new folder, and leave ``serve.py`` and ``README.md`` beside it.

    Returns why there is no ``serve.py``; empty where there is. Raises ``UsageError`` where the folder cannot
    be made, and ``QxError`` where the artifact changes meanwhile.
    """
    with new_folder(place.absolute()) as folder:
        try:
            build.manifest.copy(build.artifact, folder)
        except Damaged as error:
            raise QxError(
                f"the artifact in {build.artifact} changed while it was copied: {error}; try again"
            ) from error
        if taken := taken_names(tuple(build.manifest.files)):
            # The artifact's own files are left alone.
            return f"the artifact has files with the names of qx's own: {', '.join(taken)}"
        shipped = _ship(request, prepared, build, folder, processes)
        kept = {*build.manifest.files, *shipped.files, MANIFEST}
        kept |= {EXAMPLE_INPUTS, EXAMPLE_OUTPUTS} if shipped.inputs else set()
        _remove_others(folder, kept if shipped.refusal else {*kept, *NAMES})
        package = Package(
            manifest=build.manifest,
            config=host.get("config", build.stored.config.name),
            workload=prepared.workload,
            loader=host.get("loader", build.stored.loader.name),
            preprocessing=prepared.preprocessing,
            shipped=shipped,
            version=distribution_version(DISTRIBUTION) or "",
        )
        (folder / README).write_text(package.text(), encoding="utf-8")
    return shipped.refusal


def _ship(
    request: Request, prepared: Prepared, build: Build, folder: Path, processes: Processes
) -> ShipAnswer:
    """Have a worker write and try ``serve.py``. Whatever happens to it is the reason that there is none."""
    job = ShipJob(
        seed=request.seed,
        engine=prepared.engine,
        artifact=evolve(build.stored, folder=str(folder)),
        inputs=str(prepared.evaluation),
    )
    try:
        answer = processes.run(job, f"ship-{build.stored.config.name}", timeout=request.timeout)
    except Failure as failure:
        return ShipAnswer(inputs=(), outputs=(), refusal=to_line(str(failure), REASON_LENGTH))
    return evolve(answer, refusal=to_line(answer.refusal, REASON_LENGTH).rstrip("."))


def _remove_others(folder: Path, names: set[str]) -> None:
    """Remove the files of a folder that are not among these, such as those of a hook that failed."""
    for path in folder.rglob("*"):
        if (path.is_symlink() or not path.is_dir()) and str(path.relative_to(folder)) not in names:
            path.unlink()
