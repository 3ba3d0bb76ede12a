"""Single steps of a run, for the commands that need no more: build one artifact, train one workload."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from attrs import evolve

from qx.contract.options import Setting
from qx.environment import usable_cpus
from qx.errors import DataError, QxError, UsageError
from qx.host.host import Entry, Host
from qx.processes.jobs import TrainJob
from qx.processes.logs import Logs, Subject, log_hint, logs_in_cache, logs_name, new_identity
from qx.processes.workers import Failure, processes_of_a_run, traceback_behind
from qx.runner import settings
from qx.runner.builds import Build, build
from qx.runner.preparation import data_folder, is_offline, prepare
from qx.runner.request import Reporter, Request, cell_of, check_devices, choose_workload
from qx.runner.shipping import deliver
from qx.storage.cache import open_cache


def quantize(
    host: Host, request: Request, name: str, reporter: Reporter, place: Path | None = None
) -> tuple[Build, str]:
    """Build the artifact of one config, and deliver it into a new folder if there is a place for it.

    Returns the build, and why no ``serve.py`` was left there. Raises ``UsageError``, or ``Failure`` where the
    build ends badly.
    """
    entry, workload = host.get("config", name), choose_workload(host, request)
    check_devices([entry], request.device)
    values = settings.read(host, request.settings, (entry, workload))
    (variant,) = settings.variants(entry, values, request.calibration_n)
    logs = logs_of_command(request, reporter)
    with processes_of_a_run(logs=logs) as processes:
        prepared = prepare(
            host, request, workload, processes, reporter, settings.all_options(workload, values), [variant]
        )
        cell = cell_of(prepared.workload.name, variant, request)
        subject = Subject(str(cell), cell.row)
        try:
            if name in prepared.refusals:
                raise prepared.refusals[name]
            reporter.phase("build", cell.row)
            built = build(host, request, prepared, cell, processes, reporter)
        except Failure as failure:
            file = logs.failed(subject, str(failure), failure.traceback)
            raise evolve(failure, cause=f"{failure.cause}{log_hint(file)}") from failure
        words = ""
        if place is not None:
            reporter.phase("deliver", str(place))
            words = deliver(host, request, prepared, built, place, processes)
    if (file := logs.file(subject.id)) is not None and not request.debug:
        reporter.say(f"{cell.row}: what it printed is in {file}")
    return built, words


def logs_of_command(request: Request, reporter: Reporter) -> Logs:
    """Return logs that are written into the cache, for a command that leaves no folder of results."""
    name = logs_name(new_identity(datetime.now(timezone.utc)))
    return Logs(
        lambda: logs_in_cache(request.trust_cache) / name,
        reporter.show if request.debug else None,
        reporter.say,
    )


def train(
    host: Host, entry: Entry, request: Request, output: Path, epochs: int | None, reporter: Reporter
) -> None:
    """Train a workload's model on all processors and write its weights. Raises ``UsageError``."""
    assert entry.reference is not None
    if "train" not in entry.hooks:
        raise UsageError(f"workload {entry.name} cannot be trained: it implements no 'train'")
    options = settings.all_options(entry, settings.read(host, request.settings, [entry]))
    if epochs is not None:
        if "epochs" not in options:
            raise UsageError(f"workload {entry.name} has no option 'epochs'")
        if any(Setting.of(text).option == "epochs" for text in request.settings):
            raise UsageError(f"give --epochs or --set {entry.name}.epochs, not both")
        options["epochs"] = epochs
    folder = data_folder(request)
    job = TrainJob(
        seed=request.seed,
        threads=usable_cpus(),
        workload=entry.reference,
        workload_options=options,
        data=str(folder) if folder else None,
        offline=is_offline(request),
        cache=str(open_cache(request.trust_cache)),
        output=str(output.absolute()),
    )
    reporter.phase("train", entry.name)
    logs, subject = logs_of_command(request, reporter), Subject(entry.name, entry.name)
    with processes_of_a_run(logs=logs) as processes:
        processes.uses.hold(Path(job.cache))
        try:
            name = f"train-{entry.name}"
            processes.run(job, name, subject, timeout=request.timeout, progress=reporter.step)
        except (UsageError, DataError) as error:
            traceback = traceback_behind(error)
            file = logs.failed(subject, str(error), traceback) if traceback.full else None
            raise UsageError(f"{error}{log_hint(file)}") from error
        except Failure as failure:
            file = logs.failed(subject, str(failure), failure.traceback)
            raise QxError(f"training {entry.name}: {failure}{log_hint(file)}") from failure
    if (file := logs.file(subject.id)) is not None and not request.debug:
        reporter.say(f"{entry.name}: what it printed is in {file}")
