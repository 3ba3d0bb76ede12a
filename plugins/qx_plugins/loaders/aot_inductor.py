"""Serve packages of AOTInductor by torch's C++ loader, as a C++ server would, without the compiler."""

from __future__ import annotations

import shutil
import zipfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx import OUTPUT, Artifact, Context, Loader, Profile, ServingCode, Unsupported, Weights, hookimpl
from qx_plugins.graph_decoding import check_no_cache

if TYPE_CHECKING:
    import torch

    from qx import Arrays, Subject

#: Default name of a model in packages of ``torch._inductor.aoti_compile_and_package``.
MODEL = "model"


@hookimpl
def describe() -> Loader:
    return Loader(
        name="aot_inductor",
        summary="Compiled packages of torch (AOTInductor); imports torch, and none of its compiler.",
        imports=("torch",),
    )


@hookimpl
def load(artifact: Artifact, context: Context) -> Subject:
    import torch

    torch.set_num_threads(context.threads)
    if torch.get_num_interop_threads() != 1:
        # Possible once in a process.
        torch.set_num_interop_threads(1)
    package = artifact.folder / artifact.files[0]
    model = open_package(package)
    _tidy(package)
    if "decoder" in artifact.details:
        from qx_plugins.runtimes.aot_inductor.decoding import PackageDecoderSubject

        return PackageDecoderSubject(model, artifact.details)
    return PackageSubject(model, artifact.outputs)


@hookimpl
def read_weights(artifact: Artifact) -> Weights | None:
    from qx_plugins.runtimes.aot_inductor.weights import read

    return read(artifact)


@hookimpl
def serving_code(artifact: Artifact) -> ServingCode:
    from qx_plugins.runtimes.aot_inductor import serving

    check_no_cache(artifact, "serve.py")
    details = {**artifact.details, "outputs": list(artifact.outputs)}
    return ServingCode.from_functions(serving.load, serving.run, details=details, requires=["torch"])


@hookimpl
def profile(artifact: Artifact, inputs: Arrays, calls: int, context: Context) -> Profile:
    from qx_plugins.runtimes.aot_inductor.profiling import profile_package

    subject = load(artifact, context)
    native = subject.prepare(inputs)
    return profile_package(partial(subject.call, native), calls)


def open_package(package: Path) -> Any:
    """Open the compiled model of a package. Raises ``Unsupported`` where this version of torch cannot."""
    import torch

    # torch._inductor.aoti_load_package does the same, but first imports the compiler: 1.2 s and 150 MiB.
    try:
        loader = torch._C._aoti.AOTIModelPackageLoader
    except AttributeError as error:
        raise Unsupported(f"torch {torch.__version__} has no loader of AOTInductor packages") from error
    try:
        # Safe for several threads, one copy of the model, the device that it was compiled for.
        return loader(str(package), MODEL, False, 1, -1)
    except TypeError:
        return loader(str(package), MODEL)  # torch 2.6


class PackageSubject:
    """A compiled model, served without gradients."""

    def __init__(self, model: Any, names: tuple[str, ...] = (OUTPUT,)) -> None:
        import torch

        self.model, self._names = model, names
        # Entered once for the whole process, as a server would: entering takes microseconds.
        self._guard = torch.inference_mode()
        self._guard.__enter__()

    def prepare(self, arrays: Arrays) -> list[torch.Tensor]:
        import torch

        return [torch.from_numpy(array) for array in arrays.values()]

    def call(self, native: list[torch.Tensor]) -> Any:
        return self.model.run(native)

    def outputs(self, native: list[torch.Tensor]) -> Arrays:
        return {name: tensor.numpy() for name, tensor in zip(self._names, native, strict=True)}


def _tidy(package: Path) -> None:
    """Remove the folder into which the C++ loader unpacked the package; the library is mapped already.

    The loader removes it only when the model is destroyed, which does not happen in a process that is killed.
    """
    with zipfile.ZipFile(package) as archive:
        libraries = [name for name in archive.namelist() if name.endswith(".so")]
    maps = Path("/proc/self/maps")
    lines = maps.read_text(encoding="utf-8").splitlines() if maps.exists() else ()
    mapped = {line.partition("/")[2] for line in lines}
    for library in libraries:
        for path in mapped:
            if path.endswith(f"/{library}"):
                shutil.rmtree(Path("/" + path.removesuffix(library)), ignore_errors=True)
