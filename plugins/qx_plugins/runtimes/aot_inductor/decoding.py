"""Serve a decoder as a package that passes its cache on, with torch's C++ loader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from qx_plugins.graph_decoding import GraphDecoderSubject


class PackageDecoderSubject(GraphDecoderSubject):
    """A compiled decoder; keys and values are tensors of the type in which it computes."""

    def __init__(self, model: Any, details: Mapping[str, Any]) -> None:
        super().__init__(details)
        self.model = model
        self._cache_type = getattr(torch, details["decoder"]["cache_type"])
        # Entered once for the whole process, as a server would: entering takes microseconds.
        self._guard = torch.inference_mode()
        self._guard.__enter__()

    def value(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array))

    def array(self, value: torch.Tensor) -> np.ndarray:
        result: np.ndarray = value.float().numpy()
        return result

    def empty(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.zeros(shape, dtype=self._cache_type)

    def copy(self, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    def size(self, value: torch.Tensor) -> int:
        return value.nbytes

    def run(self, feeds: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        # A list that is returned as tuples are not: see `outputs`.
        return list(self.model.run(list(feeds)))
