"""Serve models by torch.compile on a CUDA device, compiled in the process that serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qx import Artifact, Context, Loader, Weights, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from qx import Arrays


@hookimpl
def describe() -> Loader:
    return Loader(
        name="torch_compile",
        summary="torch.compile on a GPU; compiles at the first call of each batch size, once in a run.",
        imports=("torch",),
        devices=("cuda",),
    )


@hookimpl
def load(artifact: Artifact, context: Context) -> CompiledSubject:
    import torch

    from qx_plugins.runtimes.torch_compile import CUDA_GRAPHS, serving

    torch.set_num_threads(context.threads)
    if context.cache is not None:
        serving.keep_kernels_in(context.cache)
    mode = str(artifact.details["mode"])
    model = serving.compile_model(serving.load_model(artifact, context), mode)
    return CompiledSubject(model, artifact.outputs, context.device, replays=mode in CUDA_GRAPHS)


@hookimpl
def read_weights(artifact: Artifact) -> Weights | None:
    from qx_plugins.runtimes.torch_compile.weights import read

    return read(artifact)


class CompiledSubject:
    """A compiled model, served without gradients."""

    def __init__(
        self, model: Callable[..., Any], names: tuple[str, ...], device: str, *, replays: bool
    ) -> None:
        """``replays`` says whether CUDA graphs are used, whose outputs the next call overwrites."""
        import torch

        self._model, self._names, self._device, self._replays = model, names, device, replays
        # Not inference mode, whose tensors those of torchao's classes cannot be mixed with.
        self._guard = torch.no_grad()
        self._guard.__enter__()

    def prepare(self, arrays: Arrays) -> tuple[torch.Tensor, ...]:
        import torch

        return tuple(torch.from_numpy(array).to(self._device) for array in arrays.values())

    def call(self, native: tuple[torch.Tensor, ...]) -> Any:
        import torch

        if self._replays:
            torch.compiler.cudagraph_mark_step_begin()
        return self._model(*native)

    def outputs(self, native: torch.Tensor | tuple[torch.Tensor, ...]) -> Arrays:
        tensors = native if isinstance(native, (tuple, list)) else (native,)
        return {name: tensor.cpu().numpy() for name, tensor in zip(self._names, tensors, strict=True)}
