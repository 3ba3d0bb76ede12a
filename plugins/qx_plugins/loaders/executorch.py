"""Serve ExecuTorch programs. The Python binding is linked against torch, so torch is imported, too."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx import OUTPUT, Artifact, Context, Loader, Profile, ServingCode, Weights, hookimpl
from qx_plugins.runtimes.executorch import SERVING

if TYPE_CHECKING:
    import torch

    from qx import Arrays


@hookimpl
def describe() -> Loader:
    return Loader(
        name="executorch",
        summary="ExecuTorch's own runtime with XNNPACK, through its Python binding, which needs torch.",
        # The binding is linked against torch, whose libraries must be loaded first.
        imports=("torch", _binding()),
        requires=SERVING,
        extra="executorch",
    )


@hookimpl
def load(artifact: Artifact, context: Context) -> ExecuTorchSubject:
    path = artifact.folder / artifact.files[0]
    return ExecuTorchSubject(path, context.threads, artifact.details["most"], artifact.outputs)


@hookimpl
def read_weights(artifact: Artifact) -> Weights | None:
    from qx_plugins.runtimes.executorch.weights import read

    return read(artifact)


@hookimpl
def serving_code(artifact: Artifact) -> ServingCode:
    from qx_plugins.runtimes.executorch import serving

    details = {**artifact.details, "outputs": list(artifact.outputs)}
    return ServingCode.from_functions(
        serving.load, serving.run, details=details, requires=["executorch", "torch"]
    )


@hookimpl
def profile(artifact: Artifact, inputs: Arrays, calls: int, context: Context) -> Profile:
    from qx_plugins.runtimes.executorch.profiling import profile_program

    subject = load(artifact, context)
    native = subject.prepare(inputs)
    return profile_program(subject.watch(), partial(subject.call, native), calls)


def _binding() -> str:
    """Return the module of the binding itself if there is one, and else of ``portable_lib``.

    ``portable_lib`` wraps the binding and also imports the exporter, which takes seconds. The modules are
    looked up without importing anything.
    """
    spec = find_spec("executorch")
    folders = spec.submodule_search_locations if spec is not None else None
    has_binding = any([*Path(folder, "extension", "pybindings").glob("_C.*")] for folder in folders or ())
    return f"executorch.extension.pybindings.{'_C' if has_binding else 'portable_lib'}"


def _runtime() -> Any:
    """Import and return the binding."""
    if _binding().endswith("_C"):
        from executorch.extension.pybindings import _C

        return _C
    from executorch.extension.pybindings import portable_lib

    return portable_lib


class ExecuTorchSubject:
    """A loaded program that runs on ``threads`` threads, in batches of ``max_batch`` items or fewer."""

    def __init__(self, path: Path, threads: int, max_batch: int, names: tuple[str, ...] = (OUTPUT,)) -> None:
        import torch

        runtime = _runtime()
        torch.set_num_threads(threads)
        # No environment variable sets the threads of XNNPACK. They must not change while a program runs.
        runtime._unsafe_reset_threadpool(threads)
        if (count := runtime._threadpool_get_thread_count()) != threads:
            raise RuntimeError(f"ExecuTorch uses {count} threads, expected {threads}")
        self._path, self._module = path, runtime._load_for_executorch(str(path))
        self._max_batch, self._names = max_batch, names

    def watch(self) -> Any:
        """Load the program anew with an event tracer, if the runtime has one, and return the module."""
        self._module = _runtime()._load_for_executorch(str(self._path), enable_etdump=True)
        return self._module

    def prepare(self, arrays: Arrays) -> list[tuple[torch.Tensor, ...]]:
        """Split the batch into parts that the program takes: one part for all but the largest batches."""
        import torch

        tensors = [torch.from_numpy(array) for array in arrays.values()]
        starts = range(0, len(tensors[0]), self._max_batch)
        return [tuple(tensor[start : start + self._max_batch] for tensor in tensors) for start in starts]

    def call(self, native: list[tuple[torch.Tensor, ...]]) -> list[Any]:
        # Outputs may stay in the memory of the program, unless another part overwrites them.
        return [self._module.forward(part, clone_outputs=len(native) > 1) for part in native]

    def outputs(self, native: list[Any]) -> Arrays:
        import torch

        # Always a copy, because the next call overwrites the memory.
        columns = zip(self._names, zip(*native, strict=True), strict=True)
        return {name: torch.cat(parts).numpy().copy() for name, parts in columns}
