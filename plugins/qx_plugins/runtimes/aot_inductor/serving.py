"""Serve a package of AOTInductor with torch: what ``serve.py`` does, from the text of these functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


def load(files: list[Path], details: dict[str, Any], threads: int) -> Any:
    """Load a compiled model that computes on this many threads; nothing is compiled."""
    import torch
    from torch._inductor import aoti_load_package

    torch.set_num_threads(threads)
    return aoti_load_package(str(files[0])), details["outputs"]


def run(model: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs of the model, which takes the arrays in their order."""
    import torch

    program, names = model
    with torch.inference_mode():
        outputs = program(*map(torch.from_numpy, inputs.values()))
    tensors = (outputs,) if isinstance(outputs, torch.Tensor) else outputs
    return {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
