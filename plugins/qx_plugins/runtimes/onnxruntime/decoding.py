"""Serve a decoder as a graph that passes its cache on, with ONNX Runtime alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx_plugins.graph_decoding import GraphDecoderSubject
from qx_plugins.runtimes.onnxruntime import serving

if TYPE_CHECKING:
    import numpy as np


class OnnxDecoderSubject(GraphDecoderSubject):
    """A session of ONNX Runtime; its tensors are ``OrtValue``, of which nothing is copied by a call."""

    def __init__(self, path: Path, threads: int, details: Mapping[str, Any]) -> None:
        super().__init__(details)
        self.session, _ = serving.load([path], {**details, "outputs": ()}, threads)
        self._inputs = [entry.name for entry in self.session.get_inputs()]
        self._outputs = [entry.name for entry in self.session.get_outputs()]

    def value(self, array: np.ndarray) -> Any:
        import numpy as np
        import onnxruntime

        return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))

    def array(self, value: Any) -> np.ndarray:
        result: np.ndarray = value.numpy()
        return result

    def run(self, feeds: Sequence[Any]) -> Sequence[Any]:
        # A list that is returned as tuples are not: see `outputs`.
        return list(
            self.session.run_with_ort_values(self._outputs, dict(zip(self._inputs, feeds, strict=True)))
        )
