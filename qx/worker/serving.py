"""Loading an artifact into this process, the same way for a launch and for the evaluation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from qx.contract.records import Converted, Subject
from qx.errors import PluginError
from qx.host.host import Host, Reference
from qx.processes.answers import Answer
from qx.processes.jobs import ArtifactJob
from qx.worker.plugins import bind, host_for


def import_runtime(job: ArtifactJob[Answer]) -> None:
    """Import the modules of the runtime, before any plugin."""
    job.artifact.loader.extend_search_path()
    for module in job.artifact.imports:
        import_module(module)


def host_of_artifact(job: ArtifactJob[Answer], metrics: tuple[Reference, ...] = ()) -> Host:
    """Return a host of the plugins that may be needed to serve this artifact."""
    stored = job.artifact
    return host_for(job, (stored.loader, stored.config, *stored.recipes, stored.workload, *metrics))


def load(job: ArtifactJob[Answer], host: Host) -> Subject:
    """Have the artifact's loader load it, and return the loaded subject."""
    rebuild = _rebuilder(job, host)
    loader = bind(job, job.artifact.loader, host=host, folder=Path(job.artifact.folder), rebuild=rebuild)
    subject: Subject = loader.call("load", artifact=job.artifact.record())
    for step in ("prepare", "call", "outputs"):
        if not callable(getattr(subject, step, None)):
            raise PluginError(f"{loader.name}: load gave a {type(subject).__name__} without {step}()")
    return subject


def _rebuilder(job: ArtifactJob[Answer], host: Host) -> Callable[[], Any]:
    """Return a function that rebuilds the module of which the artifact is the state dict."""

    def rebuild() -> Any:
        from qx.worker.modules import FloatModel, convert_model, example_inputs, fp32_model
        from qx.worker.recipes import bind_config

        stored = job.artifact
        workload = bind(job, stored.workload, stored.workload_options, host)
        config = bind_config(job, stored.config, stored.config_options, host, seed=stored.build_seed)
        make = partial(fp32_model, workload, quantizable=stored.quantizable, structure=stored.structure)
        result = convert_model(config, make(), example_inputs(workload, 1), FloatModel(make))
        return result.module if isinstance(result, Converted) else result

    return rebuild
