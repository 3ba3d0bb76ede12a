"""Describe the runtime, check weights and inputs against the model, and ask configs to check the model."""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve

from qx.contract.float_layers import check_layers, layers_with_weights, weight_elements
from qx.contract.records import FLOAT_LAYERS, OUTPUT, Config, ModelFacts
from qx.contract.structure import Structure
from qx.environment import distribution_version, distributions_of
from qx.errors import UsageError
from qx.foreign import one_line
from qx.processes.failures import outcome_of
from qx.processes.job_answers import InspectAnswer, ItemInput, Refusal, Runtime
from qx.processes.jobs import InspectJob
from qx.tracebacks import traceback_of
from qx.worker.channel import Channel
from qx.worker.lengths import find_lengths
from qx.worker.modules import example_inputs, fp32_model, named_example_inputs
from qx.worker.outputs import checked_outputs
from qx.worker.plugins import BoundPlugin, host_for, workload_of
from qx.worker.recipes import bind_config
from qx.worker.structure import adapt, find_structure
from qx.worker.weights import load_weights

if TYPE_CHECKING:
    import torch
    from torch import nn

#: The beginning of the names of the stages in which configs are asked.
ASKING = "check_model "


def run(job: InspectJob, channel: Channel) -> None:
    """Answer with the runtime, the model's fingerprints, and the configs that cannot quantize it."""
    channel.stage("import")
    import torch

    engines = [name for name in torch.backends.quantized.supported_engines if name != "none"]
    if job.engine is not None and job.engine not in engines:
        raise UsageError(
            f"engine {job.engine!r} is not available here; choose one of {', '.join(engines) or 'none'}"
        )
    workload = workload_of(job, host_for(job, (job.workload, *job.configs, *job.recipes)))
    workload = workload.with_context(data=Path(job.data) if job.data else None, offline=job.offline)
    before = set(sys.modules)
    channel.stage("make_model")
    model = fp32_model(workload, quantizable=False)
    facts = facts_of(model)
    channel.stage("weights")
    if job.weights is not None:
        note = load_weights(model, Path(job.weights))
        weights = hashlib.sha256(Path(job.weights).read_bytes()).hexdigest()
    else:
        note, weights = facts.note, _fingerprint(model)
    channel.stage("example_inputs")
    examples = example_inputs(workload, 1)
    structure = structure_of(workload, model) if examples else None
    adapt(model, structure)
    if structure is not None and structure.lengths is not None:
        for end in (structure.lengths.lowest, structure.lengths.highest):
            _outputs(workload, model, structure, end)
    answer = InspectAnswer(
        runtime=_runtime(engines),
        weights_sha256=weights,
        weights_note=note,
        trained=facts.trained if hasattr(model, "qx_facts") else None,
        sources_sha256=_sources(set(sys.modules) - before, facts.identity),
        versions=_versions(model, set(sys.modules) - before),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        outputs=_outputs(workload, model, structure) if structure else {},
        answers=_answers(workload, model, structure, channel) if structure else {},
        structure=structure,
        inputs=tuple(map(_item_input, examples)) if examples else None,
    )
    if structure:
        refusals = _refusals(job, workload, model, structure, channel)
        layers = _layers(job, workload, model, structure, refusals)
        answer = evolve(answer, refusals=refusals, layers=layers)
    channel.answer(answer)


def _item_input(example: torch.Tensor) -> ItemInput:
    dtype = str(example.dtype).removeprefix("torch.")
    return ItemInput(name="", dtype=dtype, shape=tuple(example.shape[1:]))


#: The batch sizes at which the model is tried: the first dimension of its outputs must be the batch.
BATCH_SIZES = (2, 3)


def structure_of(workload: BoundPlugin, model: nn.Module) -> Structure:
    """Return how the model takes inputs and returns outputs.

    Raises ``UsageError`` if it rejects its example inputs, or gives no tensor.
    """
    names, examples = named_example_inputs(workload, BATCH_SIZES[0])
    named = dict(zip(names, examples, strict=True)) if names else {}
    structure = find_structure(model, names, _call(model, *(() if names else examples), **named))
    return evolve(structure, lengths=find_lengths(workload))


def _outputs(
    workload: BoundPlugin, model: nn.Module, structure: Structure, length: int | None = None
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each of the model's outputs for one item: ``[classes]`` for scores.

    Raises ``UsageError`` if the model rejects its example inputs, or does not return ``[batch, ...]`` at
    every batch size.
    """
    shapes_of: dict[str, dict[int, list[int]]] = {name: {} for name in structure.outputs}
    for size in BATCH_SIZES:
        returned = _call(model, *example_inputs(workload, size, length))
        outputs = returned if isinstance(returned, tuple) else (returned,)
        for shapes, output in zip(shapes_of.values(), outputs, strict=True):
            shapes[size] = list(output.shape)
    return {name: _item_shape(model, name, shapes) for name, shapes in shapes_of.items()}


def _answers(
    workload: BoundPlugin, model: nn.Module, structure: Structure, channel: Channel
) -> dict[str, tuple[int, ...]]:
    """Return the shape for one item of each answer that ``postprocess`` makes of the example's outputs.

    Nothing where the workload has no ``postprocess``, and where it fails: that costs the evaluation, with a
    message of its own.
    """
    if not workload.implements("postprocess"):
        return {}
    channel.stage("postprocess")
    size = BATCH_SIZES[0]
    returned = _call(model, *example_inputs(workload, size))
    tensors = returned if isinstance(returned, tuple) else (returned,)
    try:
        outputs = {name: tensor.numpy() for name, tensor in zip(structure.outputs, tensors, strict=True)}
        result: object = workload.call("postprocess", outputs=outputs)
        answers = {} if result is None else checked_outputs(result, workload.name, size, "postprocess")
    # Of whatever class, from a plugin.
    except Exception as error:
        print(f"postprocess of the example inputs: {one_line(error)}", file=sys.stderr)  # noqa: T201
        return {}
    return {name: answer.shape[1:] for name, answer in answers.items()}


def _item_shape(model: nn.Module, name: str, shapes: Mapping[int, list[int]]) -> tuple[int, ...]:
    """Return the shape of an output for one item, from its shapes by batch size. Raises ``UsageError``."""
    items = {tuple(shape[1:]) for shape in shapes.values()}
    # A further dimension of the size of the batch would be a mistake of the same kind.
    if len(items) == 1 and all(shape[:1] == [size] for size, shape in shapes.items()):
        return items.pop()
    seen = " and ".join(f"{shape} for a batch of {size}" for size, shape in shapes.items())
    words = "outputs" if name == OUTPUT else f"the output {name!r} as"
    raise UsageError(
        f"{type(model).__name__} gives {words} {seen}; expected [batch, ...], an output for each item: "
        f"have forward() put the batch first{_batch_hint(shapes)}"
    )


def _batch_hint(shapes: Mapping[int, Sequence[int]]) -> str:
    """Name the dimension that seems to be the batch; empty if that is not clear."""
    dimensions = [
        dimension
        for dimension in range(1, min(map(len, shapes.values())))
        if all(shape[dimension] == size for size, shape in shapes.items())
    ]
    return f" (dimension {dimensions[0]} seems to be the batch)" if len(dimensions) == 1 else ""


def _call(model: nn.Module, *inputs: torch.Tensor, **named: torch.Tensor) -> object:
    """Return what the model returns for these inputs. Raises ``UsageError`` if it rejects them."""
    import torch

    try:
        # Not inference mode: tensors that a model keeps from its first call must be usable by the exporters.
        with torch.no_grad():
            return model(*inputs, **named)
    except Exception as error:
        shapes = [str(list(value.shape)) for value in inputs]
        shapes += [f"{name} {list(value.shape)}" for name, value in named.items()]
        raise UsageError(
            f"{type(model).__name__} rejects an input of shape {', '.join(shapes)}: {one_line(error)}"
        ) from error


def _refusals(
    job: InspectJob, workload: BoundPlugin, model: nn.Module, structure: Structure, channel: Channel
) -> dict[str, Refusal]:
    """Return the stage and the reason of each config that cannot quantize the model."""
    refusals: dict[str, Refusal] = {}
    with_stubs: nn.Module | None = None
    examples = example_inputs(workload, 1)
    for reference in job.configs:
        name = reference.name
        config = bind_config(job, reference, {}, workload.host, lengths=structure.lengths)
        record = config.record
        assert isinstance(record, Config)
        stage = "make_model"
        channel.stage(f"{ASKING}{name}")
        try:
            if record.quantizable and with_stubs is None:
                with_stubs = fp32_model(workload, quantizable=True, structure=structure)
            stage = "check_model"
            if config.implements("check_model"):
                form = with_stubs if record.quantizable else model
                config.call("check_model", model=form, example_inputs=examples)
        # Any error of a config, also one that its error raises in `__str__`.
        except BaseException as error:
            outcome, cause = outcome_of(error)
            if outcome == "unsupported":
                refusals[name] = Refusal(stage=stage, cause=cause, traceback=traceback_of(error))
            else:
                # The build will fail too, with a better message.
                print(f"{name}: {cause}", file=sys.stderr)  # noqa: T201
    return refusals


def _layers(
    job: InspectJob,
    workload: BoundPlugin,
    model: nn.Module,
    structure: Structure,
    refusals: Mapping[str, Refusal],
) -> dict[str, dict[str, int]]:
    """Return the layers that configs quantize and can leave in float, of the configs that the job names.

    Each has the number of elements of its weights. Raises ``UsageError`` for a value of ``float_layers`` that
    names none of them.
    """
    layers: dict[str, dict[str, int]] = {}
    for reference in job.configs:
        name = reference.name
        if name not in job.float_layers or name in refusals:
            continue
        config = bind_config(job, reference, {}, workload.host, lengths=structure.lengths)
        record = config.record
        assert isinstance(record, Config)
        form = model
        if record.quantizable:
            form = fp32_model(workload, quantizable=True, structure=structure)
        quantized = quantized_layers(config, form, example_inputs(workload, 1))
        layers[name] = {layer: weight_elements(form, layer) for layer in quantized}
        for text in job.float_layers[name]:
            try:
                check_layers(form, text, quantized)
            except UsageError as error:
                raise UsageError(f"--set {name}.{FLOAT_LAYERS.name}={text}: {error}") from None
    return layers


def quantized_layers(
    config: BoundPlugin, model: nn.Module, examples: tuple[torch.Tensor, ...]
) -> tuple[str, ...]:
    """Return the layers that a config quantizes in a model and can leave in float."""
    own = None
    if config.implements("quantized_layers"):
        own = config.call("quantized_layers", model=model, example_inputs=examples)
    return layers_with_weights(model) if own is None else tuple(own)


def _fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 of the names, types, shapes and values in the model's state dict."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(dtype=_bytes()).numpy().data)
    return digest.hexdigest()


def _bytes() -> torch.dtype:
    import torch

    return torch.uint8


def facts_of(model: nn.Module) -> ModelFacts:
    """Return what a model says of itself. Raises ``UsageError`` where that is no ``ModelFacts``."""
    facts = getattr(model, "qx_facts", ModelFacts())
    if not isinstance(facts, ModelFacts):
        raise UsageError(
            f"{type(model).__name__}: qx_facts is of type {type(facts).__name__}; expected qx.ModelFacts"
        )
    return facts


def _sources(modules: set[str], identity: str) -> str:
    """Return the SHA-256 of a text and of the files of these modules, without those of installed packages."""
    installed = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
    digest = hashlib.sha256(identity.encode())
    for name in sorted(modules):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and file.endswith(".py") and not file.startswith(installed) and Path(file).is_file():
            digest.update(name.encode())
            digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def _versions(model: nn.Module, modules: set[str]) -> dict[str, str]:
    """Return the versions of the distributions of the model's layers and of these modules."""
    layers = {type(layer).__module__ for layer in model.modules()}
    packages = {name.partition(".")[0] for name in layers | modules}
    return {name: str(distribution_version(name)) for name in distributions_of(packages)}


def _runtime(engines: list[str]) -> Runtime:
    """Return the description of torch that results record."""
    import torch

    return Runtime(
        # A subclass of str, which no other process needs.
        torch=str(torch.__version__),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        engines=tuple(engines),
        mkldnn=bool(torch.backends.mkldnn.is_available()),
    )
