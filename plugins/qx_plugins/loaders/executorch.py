"""Serves ExecuTorch programs. Its Python binding is linked against torch, so torch is in the process."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx import Artifact, Context, Loader, Weights, hookimpl
from qx_plugins.runtimes.executorch import SERVING

if TYPE_CHECKING:
    import torch

    from qx import Arrays


@hookimpl
def describe() -> Loader:
    return Loader(
        name="executorch",
        summary="ExecuTorch's own runtime with XNNPACK, through its Python binding, which needs torch.",
        # The binding is linked against torch, whose libraries must be there before it.
        imports=("torch", _binding()),
        requires=SERVING,
        extra="executorch",
    )


@hookimpl
def load(artifact: Artifact, context: Context) -> ExecuTorchSubject:
    return ExecuTorchSubject(artifact.folder / artifact.files[0], context.threads, artifact.details["most"])


@hookimpl
def read_weights(artifact: Artifact) -> Weights | None:
    from qx_plugins.runtimes.executorch.weights import read

    return read(artifact)


def _binding() -> str:
    """The module of the binding by itself, where there is one, and else ``portable_lib``.

    That wraps it, and also imports the exporter, which takes seconds. Looked up without importing anything.
    """
    spec = find_spec("executorch")
    places = spec.submodule_search_locations if spec is not None else None
    found = any([*Path(place, "extension", "pybindings").glob("_C.*")] for place in places or ())
    return f"executorch.extension.pybindings.{'_C' if found else 'portable_lib'}"


def _runtime() -> Any:
    """Import the binding."""
    if _binding().endswith("_C"):
        from executorch.extension.pybindings import _C

        return _C
    from executorch.extension.pybindings import portable_lib

    return portable_lib


class ExecuTorchSubject:
    """A loaded program, with as many threads as are due and not one for each processor."""

    def __init__(self, path: Path, threads: int, most: int) -> None:
        import torch

        runtime = _runtime()
        torch.set_num_threads(threads)
        # The pool of XNNPACK heeds no environment variable. It must not be changed while a program runs.
        runtime._unsafe_reset_threadpool(threads)
        if (count := runtime._threadpool_get_thread_count()) != threads:
            raise RuntimeError(f"ExecuTorch keeps {count} threads where {threads} are due")
        self._module = runtime._load_for_executorch(str(path))
        self._most = most

    def prepare(self, arrays: Arrays) -> list[tuple[torch.Tensor, ...]]:
        """As many parts as the program needs; one, but for batches larger than it takes."""
        import torch

        tensors = [torch.from_numpy(array) for array in arrays.values()]
        starts = range(0, len(tensors[0]), self._most)
        return [tuple(one[start : start + self._most] for one in tensors) for start in starts]

    def call(self, native: list[tuple[torch.Tensor, ...]]) -> list[Any]:
        # Outputs may stay in the memory of the program, unless there are those of another part to come.
        return [self._module.forward(part, clone_outputs=len(native) > 1) for part in native]

    def outputs(self, native: list[Any]) -> Any:
        import torch

        # A copy in any case: the next call would overwrite it.
        return torch.cat([part[0] for part in native]).numpy().copy()
