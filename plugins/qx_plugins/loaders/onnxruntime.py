"""Serve ONNX files with ONNX Runtime on the CPU; torch is not imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qx import (
    OUTPUT,
    Artifact,
    Context,
    Loader,
    Profile,
    ServingCode,
    Subject,
    Weights,
    hookimpl,
)
from qx_plugins.graph_decoding import check_no_cache
from qx_plugins.recipes.layer_values import without_values
from qx_plugins.runtimes.onnxruntime import SERVING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy

    from qx import Arrays


@hookimpl
def describe() -> Loader:
    return Loader(
        name="onnxruntime",
        summary="ONNX Runtime on the CPU, without torch; one file serves all batch sizes.",
        imports=("numpy", "onnxruntime"),
        requires=SERVING,
        extra="onnxruntime",
    )


@hookimpl
def load(artifact: Artifact, context: Context) -> Subject:
    path = artifact.folder / artifact.files[0]
    if "decoder" in artifact.details:
        from qx_plugins.runtimes.onnxruntime.decoding import OnnxDecoderSubject

        return OnnxDecoderSubject(path, context.threads, artifact.details)
    return OnnxSubject(path, context.threads, artifact.outputs, artifact.details)


@hookimpl
def read_weights(artifact: Artifact) -> Weights | None:
    from qx_plugins.runtimes.onnxruntime.weights import read

    return read(artifact)


@hookimpl
def serving_code(artifact: Artifact) -> ServingCode:
    from qx_plugins.runtimes.onnxruntime import serving

    check_no_cache(artifact, "serve.py")
    details = {**without_values(artifact.details), "outputs": list(artifact.outputs)}
    return ServingCode.from_functions(serving.load, serving.run, details=details, requires=SERVING)


@hookimpl
def profile(artifact: Artifact, inputs: Arrays, calls: int, context: Context) -> Profile:
    from qx_plugins.runtimes.onnxruntime.profiling import profile_session

    check_no_cache(artifact, "profile")
    return profile_session(artifact, context.threads, inputs, calls)


@hookimpl
def layer_outputs(
    artifact: Artifact, reference: Artifact, inputs: Arrays, context: Context
) -> dict[str, tuple[numpy.ndarray, numpy.ndarray]]:
    from qx_plugins.runtimes.onnxruntime import layer_outputs

    return layer_outputs.read(artifact, reference, inputs, context.threads)


class OnnxSubject:
    """A session that takes numpy arrays."""

    def __init__(
        self,
        path: Path,
        threads: int,
        names: tuple[str, ...] = (OUTPUT,),
        details: Mapping[str, Any] | None = None,
    ) -> None:
        from qx_plugins.runtimes.onnxruntime import serving

        self.session, self._names = serving.load([path], {**(details or {}), "outputs": names}, threads)
        self._inputs = [entry.name for entry in self.session.get_inputs()]
        self._outputs = [entry.name for entry in self.session.get_outputs()]

    def prepare(self, arrays: Arrays) -> dict[str, Any]:
        import numpy

        values = (numpy.ascontiguousarray(array) for array in arrays.values())
        return dict(zip(self._inputs, values, strict=True))

    def call(self, native: dict[str, Any]) -> Any:
        return self.session.run(self._outputs, native)

    def outputs(self, native: Any) -> Arrays:
        return dict(zip(self._names, native, strict=True))
