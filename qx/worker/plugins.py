"""Calls of plugins in a worker: their host, their options, their context and the seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from qx.contract.records import Context, Recipe, Record
from qx.host.host import Host, Reference
from qx.processes.answers import Answer
from qx.processes.jobs import Job, LoadingJob, WorkloadJob
from qx.values import OptionValues


@frozen
class BoundPlugin:
    """A plugin of a job with its context, in which its hooks are called."""

    host: Host
    name: str
    context: Context
    #: Binds a recipe that the plugin's hooks call, by the plugin and the recipe's name; only configs have it.
    bind_recipe: Callable[..., Recipe] | None = None

    @property
    def record(self) -> Record:
        """The plugin's record."""
        record = next(entry.record for entry in self.host.entries if entry.name == self.name)
        assert record is not None
        return record

    def implements(self, hook: str) -> bool:
        """Return whether the plugin implements a hook."""
        return self.host.implements(self.name, hook)

    def takes(self, hook: str, argument: str) -> bool:
        """Return whether the plugin's hook, or a plugin that wraps it, takes an argument."""
        return self.host.takes(self.name, hook, argument)

    def call(self, hook: str, **arguments: object) -> Any:
        """Call a hook in the plugin's context and return its result, as ``Host.call`` does."""
        context = self.context
        if self.bind_recipe is not None:
            context = evolve(context, recipe=partial(self.bind_recipe, self))
        return self.host.call(self.name, hook, context=context, **arguments)

    def with_context(self, **fields: Any) -> BoundPlugin:
        """Return the plugin with other values of these fields of its context."""
        return evolve(self, context=evolve(self.context, **fields))


def bind(
    job: Job[Answer],
    reference: Reference,
    options: OptionValues | None = None,
    host: Host | None = None,
    seed: int | None = None,
    **fields: Any,
) -> BoundPlugin:
    """Return a plugin of a job, with the defaults of its options replaced by these options.

    ``seed`` is that of its context, by default that of the job; ``fields`` are further fields. Without a
    host, the plugin gets one of its own.
    """
    if host is None:
        host = host_for(job, (reference,))
    context = Context(
        seed=job.seed if seed is None else seed,
        threads=job.threads,
        engine=job.engine,
        device=job.device,
        **fields,
    )
    plugin = BoundPlugin(host, reference.name, context)
    defaults = {option.name: option.default for option in plugin.record.options}
    return plugin.with_context(options={**defaults, **(options or {})})


def workload_of(job: WorkloadJob[Answer], host: Host | None = None) -> BoundPlugin:
    """Return the workload of a job."""
    return bind(job, job.workload, job.workload_options, host)


def loading_workload_of(job: LoadingJob[Answer], **fields: Any) -> BoundPlugin:
    """Return the workload of a job, with the context in which it loads its data."""
    return workload_of(job).with_context(
        data=Path(job.data) if job.data else None,
        cache=Path(job.cache),
        offline=job.offline,
        **fields,
    )


def host_for(job: Job[Answer], references: Iterable[Reference | None]) -> Host:
    """Return a host of these plugins and of the job's wrappers only, without a look at entry points."""
    unique = {
        reference.name: reference for reference in [*references, *job.wrappers] if reference is not None
    }
    return Host.of(list(unique.values()))


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, and of numpy and torch if they are imported."""
    import random
    import sys

    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
