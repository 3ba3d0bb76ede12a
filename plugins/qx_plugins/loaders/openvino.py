"""Serve OpenVINO models on the CPU; torch is not imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qx import OUTPUT, Artifact, Context, Loader, Profile, ServingCode, Subject, Weights, hookimpl
from qx_plugins.graph_decoding import check_no_cache
from qx_plugins.recipes.layer_values import without_values
from qx_plugins.runtimes.openvino import SERVING

if TYPE_CHECKING:
    from pathlib import Path

    import numpy

    from qx import Arrays


@hookimpl
def describe() -> Loader:
    return Loader(
        name="openvino",
        summary="OpenVINO on the CPU, without torch; one model serves all batch sizes.",
        imports=("numpy", "openvino"),
        requires=SERVING,
        extra="openvino",
    )


@hookimpl
def load(artifact: Artifact, context: Context) -> Subject:
    path = artifact.folder / artifact.files[0]
    if "decoder" in artifact.details:
        from qx_plugins.runtimes.openvino.decoding import OpenVinoDecoderSubject
        from qx_plugins.runtimes.openvino.stateful import StatefulDecoderSubject, is_stateful

        if is_stateful(artifact.details):
            return StatefulDecoderSubject(path, context.threads, artifact.details)
        return OpenVinoDecoderSubject(path, context.threads, artifact.details)
    return OpenVinoSubject(path, context.threads, artifact.details["precision"], artifact.outputs)


@hookimpl
def read_weights(artifact: Artifact) -> Weights | None:
    from qx_plugins.runtimes.openvino.weights import read

    return read(artifact)


@hookimpl
def serving_code(artifact: Artifact) -> ServingCode:
    from qx_plugins.runtimes.openvino import serving

    check_no_cache(artifact, "serve.py")
    details = {**without_values(artifact.details), "outputs": list(artifact.outputs)}
    return ServingCode.from_functions(serving.load, serving.run, details=details, requires=SERVING)


@hookimpl
def profile(artifact: Artifact, inputs: Arrays, calls: int, context: Context) -> Profile:
    from qx_plugins.runtimes.openvino.profiling import profile_request

    check_no_cache(artifact, "profile")
    details = {**artifact.details, "outputs": artifact.outputs}
    path = artifact.folder / artifact.files[0]
    return profile_request(path, details, context.threads, inputs, calls)


@hookimpl
def layer_outputs(
    artifact: Artifact, reference: Artifact, inputs: Arrays, context: Context
) -> dict[str, tuple[numpy.ndarray, numpy.ndarray]]:
    from qx_plugins.runtimes.openvino import layer_outputs

    return layer_outputs.read(artifact, reference, inputs, context.threads)


class OpenVinoSubject:
    """A compiled model with one request that serves all calls."""

    def __init__(self, path: Path, threads: int, precision: str, names: tuple[str, ...] = (OUTPUT,)) -> None:
        import openvino

        from qx_plugins.runtimes.openvino import serving

        self._tensor = openvino.Tensor
        details = {"precision": precision, "outputs": names}
        self._request, self._names = serving.load([path], details, threads)

    def prepare(self, arrays: Arrays) -> dict[int, Any]:
        import numpy

        return {
            index: self._tensor(numpy.ascontiguousarray(array), shared_memory=True)
            for index, array in enumerate(arrays.values())
        }

    def call(self, native: dict[int, Any]) -> Any:
        return self._request.infer(native, share_inputs=True, share_outputs=True)

    def outputs(self, native: Any) -> Arrays:
        # A copy, because the next call overwrites the request's memory.
        return {name: native[index].copy() for index, name in enumerate(self._names)}
