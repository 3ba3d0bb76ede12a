"""The modules of a workload: its fp32 model, and what a config converts it to, in a build and in a launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from qx.contract.records import Converted
from qx.contract.structure import Structure
from qx.errors import PluginError
from qx.worker.plugins import BoundPlugin, seed_everything
from qx.worker.state import complete
from qx.worker.structure import adapt

if TYPE_CHECKING:
    import torch


def fp32_model(
    workload: BoundPlugin, *, quantizable: bool, structure: Structure | None = None
) -> torch.nn.Module:
    """Return the workload's model in eval mode, before weights are loaded.

    With its structure it takes tensors one after another, and returns one tensor or a tuple of them.
    """
    seed_everything(workload.context.seed)
    model: torch.nn.Module = workload.with_context(quantizable=quantizable).call("make_model")
    return adapt(model.eval(), structure)


def example_inputs(
    workload: BoundPlugin, batch_size: int, length: int | None = None
) -> tuple[torch.Tensor, ...]:
    """Return the workload's example inputs in order, with the memory layout that the inputs of launches have.

    Programs are exported and compiled for the strides of their examples, which also decide the kernels. With
    images that are transposed views (``[height, width, channels]`` read as ``[channels, height, width]``), a
    launch would use other kernels than the build, or a program that reads its inputs in the wrong order.
    """
    return named_example_inputs(workload, batch_size, length)[1]


def named_example_inputs(
    workload: BoundPlugin, batch_size: int, length: int | None = None
) -> tuple[tuple[str, ...], tuple[torch.Tensor, ...]]:
    """Return the names of the inputs, empty where they have none, and :func:`example_inputs`."""
    import torch

    examples = workload.call("example_inputs", batch_size=batch_size, length=length)
    names = tuple(examples) if isinstance(examples, Mapping) else ()
    if isinstance(examples, torch.Tensor):
        examples = (examples,)
    values = examples.values() if isinstance(examples, Mapping) else examples
    return names, tuple(map(_row_major, values))


def _row_major(example: torch.Tensor) -> torch.Tensor:
    """Return a copy in row-major order; ``contiguous()`` would keep the strides of dimensions of size 1."""
    import torch

    return example.detach().clone(memory_format=torch.contiguous_format)


class FloatModel:
    """The fp32 model beside the prepared one, made when the first hook takes it."""

    def __init__(self, make: Callable[[], torch.nn.Module]) -> None:
        self._make = cache(make)

    def argument_of(self, config: BoundPlugin, hook: str) -> torch.nn.Module | None:
        """Return the argument ``float_model`` of a hook: None if the hook does not take it."""
        return self._make() if config.takes(hook, "float_model") else None


def convert_model(
    config: BoundPlugin,
    model: torch.nn.Module,
    examples: tuple[torch.Tensor, ...],
    float_model: FloatModel,
    *,
    between: Callable[[torch.nn.Module], torch.nn.Module] | None = None,
    stage: Callable[[str], object] = str,
) -> Any:
    """Prepare a model, apply ``between`` to it (the calibration, in a build), and convert it.

    ``stage`` is called with the name of each hook before it. Returns what ``convert`` returned; a module in a
    ``Converted``, and with a state dict that carries all of its state.
    """
    import torch

    seed = config.context.seed
    if config.implements("prepare_model"):
        stage("prepare_model")
        seed_everything(seed)
        model = config.call("prepare_model", model=model, example_inputs=examples)
    if between is not None:
        model = between(model)
    stage("convert")
    beside = float_model.argument_of(config, "convert")
    seed_everything(seed)
    result = config.call("convert", model=model, example_inputs=examples, float_model=beside)
    if isinstance(result, torch.nn.Module):
        result = Converted(module=result)
    if isinstance(result, Converted):
        if not isinstance(result.module, torch.nn.Module):
            kind = type(result.module).__name__
            raise PluginError(f"{config.name}: convert gave a Converted whose module is a {kind}")
        complete(result.module)
    return result
