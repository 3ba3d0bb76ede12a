"""Serve a decoder as a graph that passes its cache on, with OpenVINO alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx_plugins.graph_decoding import GraphDecoderSubject
from qx_plugins.runtimes.openvino import serving

if TYPE_CHECKING:
    import numpy as np


class OpenVinoDecoderSubject(GraphDecoderSubject):
    """A compiled model with one request, whose outputs lie in memory that the next call overwrites."""

    def __init__(self, path: Path, threads: int, details: Mapping[str, Any]) -> None:
        super().__init__(details)
        self._request, _ = serving.load([path], {**details, "outputs": ()}, threads)

    def value(self, array: np.ndarray) -> Any:
        import numpy as np
        import openvino

        return openvino.Tensor(np.ascontiguousarray(array), shared_memory=True)

    def array(self, value: Any) -> np.ndarray:
        import numpy as np

        return np.array(getattr(value, "data", value))

    def run(self, feeds: Sequence[Any]) -> Sequence[Any]:
        answers = self._request.infer(dict(enumerate(feeds)), share_inputs=True, share_outputs=True)
        return list(answers.to_tuple())
