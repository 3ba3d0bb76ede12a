"""From a workload to the module that a config makes of it: in a build, and again in a launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx.errors import UsageError
from qx.host import Host
from qx.jobs import Job
from qx.worker.plugins import context_for, options_of, seed_everything
from qx.worker.state import complete

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
    """The workload's tensors to trace with, laid out in memory as a launch's inputs are.

    Programs are exported and compiled for the strides of their examples, and kernels are chosen by them: with
    images that are transposed views (``[height, width, channels]`` read as ``[channels, height, width]``), a
    launch would meet other kernels than the build, or a program that reads its inputs in the wrong order.
    """
    context = context_for(job, options=options_of(host, workload, options))
    examples = host.call(workload, "example_inputs", batch_size=batch_size, context=context)
    return tuple(map(_row_major, examples))


def _row_major(example: torch.Tensor) -> torch.Tensor:
    """A copy in row-major order, in dimensions of size 1 too, whose strides ``contiguous()`` leaves alone."""
    import torch

    return example.detach().clone(memory_format=torch.contiguous_format)


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Load a state dict of torch or safetensors. Raises ``UsageError`` that names what does not fit."""
    import torch

    if not path.is_file():
        raise UsageError(f"weights file {path} does not exist")
    state = _safetensors(path) if path.suffix == ".safetensors" else _torch_file(path)
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UsageError(
            f"weights file {path} holds no state dict (names to tensors); "
            f"save it with torch.save(model.state_dict(), FILE)"
        )
    if problem := _misfit(model.state_dict(), state):
        raise UsageError(f"weights file {path} does not fit {type(model).__name__}: {problem}")
    model.load_state_dict(state, strict=True)


def _safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise UsageError(
            f"weights file {path}: reading it takes the package safetensors: pip install safetensors"
        ) from error
    try:
        return load_file(path)
    except Exception as error:
        # It raises an error of its own, which is no public name.
        raise UsageError(f"weights file {path} is damaged, or is no safetensors file: {error}") from error


def _torch_file(path: Path) -> Any:
    import pickle
    import zipfile

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(path) or "global" in str(error).lower():
            raise UsageError(
                f"weights file {path} holds more than tensors, and loading it could run code; "
                f"save it with torch.save(model.state_dict(), FILE)"
            ) from error
        raise UsageError(f"weights file {path} is damaged, or was not written by torch.save") from error
    except Exception as error:
        # A damaged pickle raises whatever it runs into.
        raise UsageError(f"weights file {path} is damaged, or was not written by torch.save") from error


def _misfit(due: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> str | None:
    missing = [name for name in due if name not in given]
    unexpected = [name for name in given if name not in due]
    reshaped = [
        f"{name} is {list(given[name].shape)}, expected {list(due[name].shape)}"
        for name in due
        if name in given and given[name].shape != due[name].shape
    ]
    kinds = (("missing ", missing), ("unexpected ", unexpected), ("", reshaped))
    return "; ".join(f"{word}{_some(names)}" for word, names in kinds if names) or None


def _some(names: list[str], most: int = 3) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


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
    """Prepare, do what comes ``between`` (calibration, in a build), and convert.

    The state dict of a module that comes of it carries all of its state.
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
