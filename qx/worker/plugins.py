"""Calls of plugins in a worker: their host, their options, their context and the seeds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qx.contract.records import Context
from qx.host.host import Host, Reference
from qx.processes.jobs import Job, LoadingJob
from qx.values import OptionValue, OptionValues


def host_for(job: Job, references: Iterable[Reference | None]) -> Host:
    """Return a host of these plugins and of the job's wrappers only, without a look at entry points."""
    unique = {
        reference.name: reference for reference in [*references, *job.wrappers] if reference is not None
    }
    return Host.of(list(unique.values()))


def options_of(host: Host, name: str, options: OptionValues) -> dict[str, OptionValue]:
    """Return all options of a plugin: the defaults, replaced by these options."""
    record = next(entry.record for entry in host.entries if entry.name == name)
    defaults = {option.name: option.default for option in record.options} if record else {}
    return {**defaults, **options}


def context_for(job: Job, **fields: Any) -> Context:
    """Return the context of a job for hooks."""
    return Context(seed=job.seed, threads=job.threads, engine=job.engine, **fields)


def loading_context(job: LoadingJob, host: Host, **fields: Any) -> Context:
    """Return the context in which a workload loads its data."""
    return context_for(
        job,
        options=options_of(host, job.workload.name, job.workload_options),
        data=Path(job.data) if job.data else None,
        cache=Path(job.cache),
        offline=job.offline,
        **fields,
    )


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, and of numpy and torch if they are imported."""
    import random
    import sys

    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
