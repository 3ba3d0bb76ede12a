"""The modules of a workload: its fp32 model, and what a config converts it to, in a build and in a launch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx.host.host import Host
from qx.processes.jobs import Job
from qx.values import OptionValues
from qx.worker.plugins import context_for, options_of, seed_everything
from qx.worker.state import complete

if TYPE_CHECKING:
    import torch


def fp32_model(
    host: Host, job: Job, workload: str, options: OptionValues, *, quantizable: bool
) -> torch.nn.Module:
    """Return the workload's model in eval mode, before weights are loaded."""
    context = context_for(job, options=options_of(host, workload, options), quantizable=quantizable)
    seed_everything(job.seed)
    model: torch.nn.Module = host.call(workload, "make_model", context=context)
    return model.eval()


def example_inputs(
    host: Host, job: Job, workload: str, options: OptionValues, batch_size: int
) -> tuple[torch.Tensor, ...]:
    """Return the workload's example inputs, with the memory layout that the inputs of launches have.

    Programs are exported and compiled for the strides of their examples, which also decide the kernels. With
    images that are transposed views (``[height, width, channels]`` read as ``[channels, height, width]``), a
    launch would use other kernels than the build, or a program that reads its inputs in the wrong order.
    """
    context = context_for(job, options=options_of(host, workload, options))
    examples = host.call(workload, "example_inputs", batch_size=batch_size, context=context)
    return tuple(map(_row_major, examples))


def _row_major(example: torch.Tensor) -> torch.Tensor:
    """Return a copy in row-major order; ``contiguous()`` would keep the strides of dimensions of size 1."""
    import torch

    return example.detach().clone(memory_format=torch.contiguous_format)


def convert_model(
    host: Host,
    job: Job,
    config: str,
    options: OptionValues,
    model: torch.nn.Module,
    examples: tuple[torch.Tensor, ...],
    *,
    folder: Path | None = None,
    between: Callable[[torch.nn.Module], torch.nn.Module] | None = None,
    stage: Callable[[str], object] = str,
) -> Any:
    """Prepare a model, apply ``between`` to it (the calibration, in a build), and convert it.

    ``stage`` is called with the name of each hook before it. Returns what ``convert`` returned. If that is a
    module, its state dict carries all of its state.
    """
    import torch

    context = context_for(job, options=options_of(host, config, options), folder=folder)
    arguments = {"example_inputs": examples, "context": context}
    if host.implements(config, "prepare_model"):
        stage("prepare_model")
        seed_everything(job.seed)
        model = host.call(config, "prepare_model", model=model, **arguments)
    if between is not None:
        model = between(model)
    stage("convert")
    seed_everything(job.seed)
    result = host.call(config, "convert", model=model, **arguments)
    return complete(result) if isinstance(result, torch.nn.Module) else result
