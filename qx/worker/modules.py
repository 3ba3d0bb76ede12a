"""From a workload to the module that a config makes of it: in a build, and again in a launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx.host import Host
from qx.jobs import Job
from qx.worker.plugins import context_for, options_of, seed_everything

if TYPE_CHECKING:
    import torch


def fp32_model(
    host: Host, job: Job, workload: str, options: Mapping[str, Any], *, quantizable: bool
) -> torch.nn.Module:
    """The workload's model in eval mode, without weights."""
    context = context_for(job, options=options_of(host, workload, options), quantizable=quantizable)
    seed_everything(job.seed)
    model: torch.nn.Module = host.call(workload, "make_model", context=context)
    return model.eval()


def example_inputs(
    host: Host, job: Job, workload: str, options: Mapping[str, Any], batch_size: int
) -> tuple[torch.Tensor, ...]:
    """The workload's tensors to trace with."""
    context = context_for(job, options=options_of(host, workload, options))
    return tuple(host.call(workload, "example_inputs", batch_size=batch_size, context=context))


def converted(
    host: Host,
    job: Job,
    config: str,
    options: Mapping[str, Any],
    model: torch.nn.Module,
    examples: tuple[torch.Tensor, ...],
    *,
    folder: Path | None = None,
    between: Callable[[torch.nn.Module], torch.nn.Module] | None = None,
    stage: Callable[[str], object] = str,
) -> Any:
    """Prepare, do what comes ``between`` (calibration, in a build), and convert."""
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
    return host.call(config, "convert", model=model, **arguments)
