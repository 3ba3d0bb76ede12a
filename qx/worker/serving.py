"""Loading an artifact into this process, the same way for a launch and for the evaluation."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from qx.contract.records import Subject
from qx.errors import PluginError
from qx.host.host import Host, Reference
from qx.processes.jobs import ArtifactJob
from qx.worker.plugins import context_for, host_for, options_of


def import_runtime(job: ArtifactJob) -> None:
    """Import the modules of the runtime, before any plugin."""
    job.artifact.loader.extend_search_path()
    for module in job.artifact.imports:
        import_module(module)


def host_of_artifact(job: ArtifactJob, metrics: tuple[Reference, ...] = ()) -> Host:
    """Return a host of the plugins that may be needed to serve this artifact."""
    stored = job.artifact
    return host_for(job, (stored.loader, stored.config, stored.workload, *metrics))


def load(job: ArtifactJob, host: Host) -> Subject:
    """Have the artifact's loader load it, and return the loaded subject."""
    loader = job.artifact.loader.name
    context = context_for(
        job,
        options=options_of(host, loader, {}),
        folder=Path(job.artifact.folder),
        rebuild=_rebuilder(job, host),
    )
    subject: Subject = host.call(loader, "load", artifact=job.artifact.record(), context=context)
    for step in ("prepare", "call", "outputs"):
        if not callable(getattr(subject, step, None)):
            raise PluginError(f"{loader}: load gave a {type(subject).__name__} without {step}()")
    return subject


def _rebuilder(job: ArtifactJob, host: Host) -> Callable[[], Any]:
    """Return a function that rebuilds the module of which the artifact is the state dict."""

    def rebuild() -> Any:
        from qx.worker.modules import convert_model, example_inputs, fp32_model

        stored = job.artifact
        name, options = stored.workload.name, stored.workload_options
        model = fp32_model(host, job, name, options, quantizable=stored.quantizable)
        examples = example_inputs(host, job, name, options, 1)
        return convert_model(host, job, stored.config.name, stored.config_options, model, examples)

    return rebuild
