"""Calling plugins in a worker: seeded, with their options, and with the rules of the contract held."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qx.contract.records import Context
from qx.host.host import Host, Reference
from qx.processes.jobs import Job, LoadingJob
from qx.values import OptionValue, OptionValues


def host_for(job: Job, references: Iterable[Reference | None]) -> Host:
    """A host of just these plugins and of those that wrap; no entry point is looked at."""
    wanted = {
        reference.name: reference for reference in [*references, *job.wrappers] if reference is not None
    }
    return Host.of(list(wanted.values()))


def options_of(host: Host, name: str, given: OptionValues) -> dict[str, OptionValue]:
    """All options of a plugin: the defaults, and over them what was given."""
    record = next(entry.record for entry in host.entries if entry.name == name)
    defaults = {option.name: option.default for option in record.options} if record else {}
    return {**defaults, **given}


def context_for(job: Job, **fields: Any) -> Context:
    """The context that a job gives to hooks."""
    return Context(seed=job.seed, threads=job.threads, engine=job.engine, **fields)


def loading_context(job: LoadingJob, host: Host, **fields: Any) -> Context:
    """The context in which a workload finds its data."""
    return context_for(
        job,
        options=options_of(host, job.workload.name, job.workload_options),
        data=Path(job.data) if job.data else None,
        cache=Path(job.cache),
        offline=job.offline,
        **fields,
    )


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators, those that are imported."""
    import random
    import sys

    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
