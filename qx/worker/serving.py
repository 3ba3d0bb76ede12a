"""Loading an artifact into this process, the same way for a launch and for the evaluation."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from qx.errors import PluginError
from qx.host import Host, Reference
from qx.jobs import Job
from qx.manifest import Manifest
from qx.records import Subject
from qx.worker.plugins import context_for, host_for, options_of


def import_runtime(manifest: Manifest) -> None:
    """Import the modules of the runtime, before any plugin."""
    manifest.loader.extend_search_path()
    for module in manifest.imports:
        import_module(module)


def host_of_artifact(job: Job, manifest: Manifest, metrics: tuple[Reference, ...] = ()) -> Host:
    """A host of the plugins that serving this artifact can take."""
    return host_for(job, (manifest.loader, manifest.config, manifest.workload, *metrics))


def load(job: Job, manifest: Manifest, folder: Path, host: Host) -> Subject:
    """Have the artifact's loader load it."""
    context = context_for(
        job,
        options=options_of(host, manifest.loader.name, {}),
        folder=folder,
        rebuild=_rebuilder(job, manifest, host),
    )
    subject: Subject = host.call(
        manifest.loader.name, "load", artifact=manifest.artifact(folder), context=context
    )
    for step in ("prepare", "call", "outputs"):
        if not callable(getattr(subject, step, None)):
            raise PluginError(
                f"{manifest.loader.name}: load gave a {type(subject).__name__} without {step}()"
            )
    return subject


def _rebuilder(job: Job, manifest: Manifest, host: Host) -> Callable[[], Any]:
    def rebuild() -> Any:
        from qx.worker.modules import converted, example_inputs, fp32_model

        name, options = manifest.workload.name, manifest.workload_options
        model = fp32_model(host, job, name, options, quantizable=manifest.quantizable)
        examples = example_inputs(host, job, name, options, 1)
        return converted(host, job, manifest.config.name, manifest.config_options, model, examples)

    return rebuild
