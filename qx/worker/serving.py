"""Loading an artifact into this process, the same way for a launch and for the evaluation."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from qx.contract.devices import CPU, Device
from qx.contract.records import Converted, Loader, Subject
from qx.contract.structure import lengths_of
from qx.errors import PluginError, QxError
from qx.foreign import one_line
from qx.host.host import Host, Reference
from qx.processes.answers import Answer
from qx.processes.jobs import ArtifactJob
from qx.worker.calls import Calls
from qx.worker.channel import Channel
from qx.worker.plugins import BoundPlugin, bind, host_for, seed_everything


def import_runtime(job: ArtifactJob[Answer]) -> None:
    """Import the modules of the runtime, before any plugin."""
    job.artifact.loader.extend_search_path()
    for module in job.artifact.imports:
        import_module(module)


def host_of_artifact(job: ArtifactJob[Answer], metrics: tuple[Reference, ...] = ()) -> Host:
    """Return a host of the plugins that may be needed to serve this artifact."""
    stored = job.artifact
    return host_for(job, (stored.loader, stored.config, *stored.recipes, stored.workload, *metrics))


def load(job: ArtifactJob[Answer], host: Host) -> Calls:
    """Open the job's device, have the artifact's loader load it, and return the calls of the subject.

    Raises ``QxError`` for a device that cannot be opened, and ``DeviceOutOfMemory`` for one that is full.
    """
    device = _open_device(job.device)
    loader = bind_loader(job, host)
    subject = loader.call("load", artifact=job.artifact.record())
    if device is not None:
        device.synchronize()
    return Calls(subject, loader.name, device)


def _open_device(name: str) -> Device | None:
    """Open a device in this process; None for the CPU, for which nothing is imported."""
    if name == CPU:
        return None
    from qx.devices.cuda import CudaDevice

    return CudaDevice(name)


def load_subject(job: ArtifactJob[Answer], channel: Channel) -> tuple[Host, Subject]:
    """Import the runtime and load the artifact, naming both stages; return the host and the subject."""
    channel.stage("import")
    import_runtime(job)
    channel.stage("load")
    seed_everything(job.seed)
    host = host_of_artifact(job)
    return host, load(job, host).subject()


def bind_loader(job: ArtifactJob[Answer], host: Host) -> BoundPlugin:
    """Return the artifact's loader, with the artifact's folder and the functions that make its module."""
    return bind(
        job,
        job.artifact.loader,
        host=host,
        folder=Path(job.artifact.folder),
        rebuild=partial(_rebuild, job, host),
        make_model=partial(make_model, job, host),
        lengths=lengths_of(job.artifact.structure),
        cache=Path(job.compiled) if job.compiled else None,
    )


def make_model(job: ArtifactJob[Answer], host: Host) -> Any:
    """Return the workload's fp32 model, without its weights."""
    from qx.worker.modules import fp32_model

    stored = job.artifact
    workload = bind(job, stored.workload, stored.workload_options, host)
    return fp32_model(workload, quantizable=False, structure=stored.structure)


def _rebuild(job: ArtifactJob[Answer], host: Host) -> Any:
    """Return the module of which the artifact is the state dict."""
    from qx.worker.modules import FloatModel, convert_model, example_inputs, fp32_model
    from qx.worker.recipes import bind_config

    stored = job.artifact
    workload = bind(job, stored.workload, stored.workload_options, host)
    config = bind_config(
        job,
        stored.config,
        stored.config_options,
        host,
        seed=stored.build_seed,
        lengths=lengths_of(stored.structure),
    )
    make = partial(fp32_model, workload, quantizable=stored.quantizable, structure=stored.structure)
    examples = example_inputs(workload, 1)
    hooks: list[str] = []
    try:
        result = convert_model(config, make(), examples, FloatModel(make), stage=hooks.append)
    except (QxError, MemoryError):
        raise
    except Exception as error:
        raise _rebuild_error(job, host, hooks[-1], f"raised {one_line(error, 200)}") from error
    if not isinstance(result, Converted):
        problem = f"gave {type(result).__name__}, expected a module"
        raise _rebuild_error(job, host, hooks[-1], problem)
    return result.module


def _rebuild_error(job: ArtifactJob[Answer], host: Host, hook: str, problem: str) -> PluginError:
    """Return the error of a hook that was called again in a launch, which says what differs from a build."""
    config, loader = job.artifact.config.name, job.artifact.loader.name
    record = bind(job, job.artifact.loader, host=host).record
    text = f"{hook} of {config}, which context.rebuild() calls again with a context.folder of None, {problem}"
    if isinstance(record, Loader) and record.rebuilds:
        return PluginError(text)
    return PluginError(
        f"{text}. rebuild() is for configs whose convert returns a module, and {config} wrote files: have "
        f"loader {loader} take the workload's plain fp32 model from context.make_model()"
    )
