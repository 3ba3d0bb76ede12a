"""Profiles of configs: where the time of a call of each artifact goes."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve, frozen

from qx.errors import UsageError
from qx.host.host import Host
from qx.processes.job_answers import ProfileAnswer
from qx.processes.jobs import ProfileJob
from qx.processes.logs import Subject, log_hint
from qx.processes.workers import Failure, Processes, processes_of_a_run
from qx.runner import settings
from qx.runner.builds import build
from qx.runner.one import logs_of_command
from qx.runner.preparation import Prepared, prepare
from qx.runner.request import Reporter, Request, cell_of, check_devices, choose_workload, references
from qx.runner.settings import Variant

#: Option of configs whose artifacts name their kernels only if they are built for a profiler.
KERNEL_PROFILE = "kernel_profile"


@frozen(kw_only=True)
class ConfigProfile:
    """The profile of one config."""

    #: The config's name with the options that were set.
    row: str
    #: Name of the loader, which stands for the runtime.
    loader: str = ""
    #: Whether it was built for a profiler, as it would not be deployed.
    built_for_it: bool = False
    #: None where it ended badly.
    answer: ProfileAnswer | None = None
    #: Outcome, stage and cause of what ended badly; empty where nothing did.
    failure: str = ""


@frozen(kw_only=True)
class Profiles:
    """The profiles of some configs of one model, with the inputs that they were called with."""

    workload: str
    batch_size: int
    threads: int
    configs: tuple[ConfigProfile, ...]


def profile(
    host: Host, request: Request, names: Sequence[str], batch_size: int, reporter: Reporter
) -> Profiles:
    """Build configs, or take them from the cache, and profile each in a process of its own.

    Raises ``UsageError``.
    """
    workload = choose_workload(host, request)
    entries = [host.get_ready("config", name) for name in names]
    check_devices(entries, request.device)
    values = settings.read(host, request.settings, (*entries, workload))
    variants = []
    for entry in entries:
        options = {option.name for option in getattr(entry.record, "options", ())}
        for variant in settings.variants(entry, values, request.calibration_n):
            if KERNEL_PROFILE in options:
                variant = evolve(variant, options={**variant.options, KERNEL_PROFILE: True})
            variants.append(variant)
    with processes_of_a_run(logs=logs_of_command(request, reporter)) as processes:
        prepared = prepare(
            host, request, workload, processes, reporter, settings.all_options(workload, values), variants
        )
        if batch_size > prepared.items:
            raise UsageError(
                f"--batch-size {batch_size}: the data have {prepared.items} items, so at most that many"
            )
        profiles = tuple(
            _profile(host, request, prepared, variant, batch_size, processes, reporter)
            for variant in variants
        )
        return Profiles(
            workload=prepared.workload.name,
            batch_size=batch_size,
            threads=request.threads[0],
            configs=profiles,
        )


def _profile(
    host: Host,
    request: Request,
    prepared: Prepared,
    variant: Variant,
    batch_size: int,
    processes: Processes,
    reporter: Reporter,
) -> ConfigProfile:
    """Build and profile one config; what ends badly is kept as the failure of its profile."""
    cell = cell_of(prepared.workload.name, variant, request)
    subject = Subject(str(cell), cell.row)
    try:
        if (refusal := prepared.refusals.get(variant.entry.name)) is not None:
            raise refusal
        reporter.phase("build", cell.row)
        built = build(host, request, prepared, cell, processes, reporter)
        reporter.phase("profile", cell.row)
        job = ProfileJob(
            seed=request.seed,
            threads=request.threads[0],
            engine=prepared.engine,
            wrappers=references(host.wrappers),
            artifact=built.stored,
            inputs=str(prepared.evaluation),
            batch_size=batch_size,
        )
        answer = processes.run(job, f"profile-{cell.row}", subject, timeout=request.timeout)
    except Failure as failure:
        file = processes.logs.failed(subject, str(failure), failure.traceback)
        return ConfigProfile(row=cell.row, failure=f"{failure}{log_hint(file)}")
    return ConfigProfile(
        row=cell.row,
        loader=built.stored.loader.name,
        built_for_it=bool(variant.options.get(KERNEL_PROFILE)),
        answer=answer,
    )
