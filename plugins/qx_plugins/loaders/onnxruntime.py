"""Serve ONNX files with ONNX Runtime on the CPU; torch is not imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qx import OUTPUT, Artifact, Context, Loader, Weights, hookimpl
from qx_plugins.runtimes.onnxruntime import SERVING

if TYPE_CHECKING:
    from pathlib import Path

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
def load(artifact: Artifact, context: Context) -> OnnxSubject:
    return OnnxSubject(artifact.folder / artifact.files[0], context.threads, artifact.outputs)


@hookimpl
def read_weights(artifact: Artifact) -> Weights | None:
    from qx_plugins.runtimes.onnxruntime.weights import read

    return read(artifact)


class OnnxSubject:
    """A session that takes numpy arrays."""

    def __init__(self, path: Path, threads: int, names: tuple[str, ...] = (OUTPUT,)) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        # Threads spin within a call, as in a server, and sleep between calls, when other launches are timed.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._inputs = [entry.name for entry in self.session.get_inputs()]
        self._outputs = [entry.name for entry in self.session.get_outputs()]
        self._names = names

    def prepare(self, arrays: Arrays) -> dict[str, Any]:
        import numpy

        values = (numpy.ascontiguousarray(array) for array in arrays.values())
        return dict(zip(self._inputs, values, strict=True))

    def call(self, native: dict[str, Any]) -> Any:
        return self.session.run(self._outputs, native)

    def outputs(self, native: Any) -> Arrays:
        return dict(zip(self._names, native, strict=True))
