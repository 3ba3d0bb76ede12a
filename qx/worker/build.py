"""Build one artifact: prepare, calibrate, convert, write."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve

from qx.contract.devices import CPU, kind_of
from qx.contract.records import OUTPUT, Artifact, Config, Converted, Loader
from qx.contract.structure import lengths_of
from qx.errors import PluginError
from qx.host.host import Host, Reference
from qx.processes.job_answers import BuildAnswer
from qx.processes.jobs import BuildJob
from qx.storage.digests import Damaged, digest_of, is_inside
from qx.storage.manifest import FILE as MANIFEST
from qx.storage.manifest import Manifest
from qx.values import Array, JsonObject, OptionValues
from qx.worker.arrays import Split
from qx.worker.channel import Channel
from qx.worker.modules import FloatModel, convert_model, example_inputs, fp32_model
from qx.worker.once import once_in
from qx.worker.plugins import BoundPlugin, host_for, seed_everything, workload_of
from qx.worker.probe import PROBE, PROBE_AT, REFERENCE, write_probe
from qx.worker.recipes import bind_config
from qx.worker.state import save
from qx.worker.steps import Steps
from qx.worker.weights import load_weights

if TYPE_CHECKING:
    from torch import nn

#: Number of images in a calibration batch, and in a training batch.
BATCH_SIZE = 32
#: The file of the state dict, in an artifact that a loader rebuilds.
STATE = "model.pt"
#: Number of items of the probe.
PROBE_ITEMS = 2


def run(job: BuildJob, channel: Channel) -> None:
    """Build into ``job.folder``: the artifact in ``artifact/``, the probe beside it."""
    steps = Steps(channel)
    steps.stage("import")
    import torch

    torch.set_num_threads(job.threads)
    if job.engine is not None:
        torch.backends.quantized.engine = job.engine
    host = host_for(job, (job.workload, job.config, *job.recipes, *job.loaders))
    folder = Path(job.folder) / "artifact"
    folder.mkdir()
    workload = workload_of(job, host)
    plugin = bind_config(
        job,
        job.config,
        job.config_options,
        host,
        folder=folder,
        seed=job.build_seed,
        lengths=lengths_of(job.structure),
        once=once_in(job.shared),
    )
    config = plugin.record
    assert isinstance(config, Config)

    began = time.perf_counter()
    steps.stage("make_model")
    model = model_with_weights(job, workload, config)
    weight_elements = _weight_elements(model)
    float_model = FloatModel(partial(model_with_weights, job, workload, config))
    _write_references(job, workload, model)
    result = convert_model(
        plugin,
        model,
        example_inputs(workload, 1),
        float_model,
        between=lambda prepared: calibrate(job, plugin, config, prepared, float_model, steps),
        stage=steps.stage,
    )
    steps.stage("save")
    artifact = _save_artifact(job, workload, result, folder)
    manifest = evolve(_manifest(job, host, artifact, folder), weight_elements=weight_elements)
    manifest.write(folder)
    seconds = time.perf_counter() - began
    _flush(Path(job.folder))
    channel.answer(BuildAnswer(seconds=seconds, steps=steps.finish()))


def model_with_weights(job: BuildJob, workload: BoundPlugin, config: Config) -> nn.Module:
    """Return the model that a config gets: in fp32, with weights, and with stubs if it wants them."""
    model = fp32_model(workload, quantizable=config.quantizable, structure=job.structure)
    if job.weights is not None:
        load_weights(model, Path(job.weights))
    elif config.quantizable:
        # The two forms of the model may draw their random numbers in different orders.
        plain = fp32_model(workload, quantizable=False)
        model.load_state_dict(plain.state_dict(), strict=True)
    return model


def calibrate(
    job: BuildJob,
    plugin: BoundPlugin,
    config: Config,
    model: nn.Module,
    float_model: FloatModel,
    steps: Steps,
) -> nn.Module:
    """Call ``calibrate`` with the calibration or the training split, if the config needs one."""
    needs_data = config.calibration or config.training
    if not (needs_data and plugin.implements("calibrate")):
        return model
    steps.stage("calibrate")
    folder = job.training if config.training else job.calibration
    assert folder is not None
    split = Split.read(Path(folder))
    beside = float_model.argument_of(plugin, "calibrate")
    seed = plugin.context.seed
    seed_everything(seed)
    calibrating = plugin.with_context(folder=None, progress=steps.progress)
    batches = split.shuffled(BATCH_SIZE, seed) if config.training else split.batches(BATCH_SIZE)
    calibrated: nn.Module = calibrating.call("calibrate", model=model, batches=batches, float_model=beside)
    return calibrated


def _save_artifact(job: BuildJob, workload: BoundPlugin, result: object, folder: Path) -> Artifact:
    """Return the artifact that ``convert`` returned, or one with the state dict of the module it returned."""
    if isinstance(result, Artifact):
        if MANIFEST in result.files:
            raise PluginError(
                f"{job.config.name}: the file name {MANIFEST!r} is reserved for qx's own manifest"
            )
        for name in result.files:
            if not is_inside(name):
                raise PluginError(
                    f"{job.config.name}: convert gave an artifact with the file {name!r}: it must be a plain "
                    f"path relative to context.folder, of characters that can be printed"
                )
            if not (folder / name).is_file():
                raise PluginError(
                    f"{job.config.name}: convert gave an artifact without its file {name!r}: "
                    f"it must lie in context.folder"
                )
        return result
    if not isinstance(result, Converted):
        kind = type(result).__name__
        raise PluginError(f"{job.config.name}: convert must give an nn.Module or an Artifact, not {kind}")
    loaders = [
        entry.name
        for entry in workload.host.ready("loader")
        if isinstance(entry.record, Loader) and entry.record.rebuilds
    ]
    if len(loaders) != 1:
        raise PluginError(
            f"{job.config.name} gives a module, so exactly one loader must rebuild modules; "
            f"there is {', '.join(loaders) or 'none'}"
        )
    module = result.module.eval()
    state = save(module, folder / STATE)
    names = _output_names(job)
    write_probe(module, _probe_inputs(job, workload), names, state, Path(job.folder) / PROBE)
    for length, inputs in _inputs_of_lengths(job, workload):
        # A module may take inputs of other lengths only, which the evaluation finds out.
        with suppress(Exception):
            write_probe(module, inputs, names, state, Path(job.folder) / PROBE_AT.format(length=length))
    return Artifact(
        folder=folder, loader=loaders[0], files=(STATE,), notes=result.notes, layers=result.layers
    )


def _output_names(job: BuildJob) -> tuple[str, ...]:
    return (OUTPUT,) if job.structure is None else job.structure.outputs


def _write_references(job: BuildJob, workload: BoundPlugin, model: nn.Module) -> None:
    """Write what the fp32 model gives for inputs of the smallest and the largest length, if these vary."""
    for length, inputs in _inputs_of_lengths(job, workload):
        path = Path(job.folder) / REFERENCE.format(length=length)
        write_probe(model, inputs, _output_names(job), model.state_dict(), path, is_finished=False)


def _inputs_of_lengths(job: BuildJob, workload: BoundPlugin) -> Iterator[tuple[int, list[Array]]]:
    """Yield the smallest and the largest length that inputs have, each with inputs; none if it is fixed."""
    lengths = lengths_of(job.structure)
    for length in () if lengths is None else (lengths.lowest, lengths.highest):
        yield length, [example.numpy() for example in example_inputs(workload, PROBE_ITEMS, length)]


def _probe_inputs(job: BuildJob, workload: BoundPlugin) -> list[Array]:
    """Return the inputs of the probe as arrays of two items, as launches get them.

    They are from the data that the config has seen, or else the example inputs.
    """
    folder = job.calibration or job.training
    if folder is not None:
        return list(Split.read(Path(folder)).rows(0, PROBE_ITEMS).values())
    return [example.numpy() for example in example_inputs(workload, PROBE_ITEMS)]


def _weight_elements(model: nn.Module) -> int:
    """Count the elements of parameters with two or more dimensions longer than 1; shared ones count once."""
    sizes = ((parameter.numel(), max(parameter.shape, default=0)) for parameter in model.parameters())
    return sum(elements for elements, longest in sizes if elements > longest)


def _manifest(job: BuildJob, host: Host, artifact: Artifact, folder: Path) -> Manifest:
    try:
        files = {name: digest_of(folder, name) for name in artifact.files}
    except Damaged as error:
        raise PluginError(
            f"{job.config.name}: convert gave an artifact with a wrong file: {error}"
        ) from error
    loader = host.get("loader", artifact.loader)
    assert isinstance(loader.record, Loader)
    if (kind := kind_of(job.device)) not in loader.record.devices:
        raise PluginError(
            f"{job.config.name}: convert gave an artifact for loader {loader.name}, which serves on "
            f"{', '.join(loader.record.devices)}, and the record of {job.config.name} says {kind}"
        )
    return Manifest(
        loader=loader.name,
        files=files,
        details=artifact.details,
        notes=artifact.notes,
        layers=artifact.layers,
        origin={
            "config": _origin(job.config, job.config_options),
            "workload": _origin(job.workload, job.workload_options),
            "seed": job.seed,
            "build_seed": job.seed if job.build_seed is None else job.build_seed,
            "engine": job.engine,
            **({} if job.device == CPU else {"device": kind_of(job.device)}),
        },
    )


def _origin(plugin: Reference, options: OptionValues) -> JsonObject:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "options": dict(options),
    }


def _flush(folder: Path) -> None:
    """Flush every file to the disk, before the build gets its final name."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
