"""Serve a program with ExecuTorch: what ``serve.py`` does, too, from the text of these functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


def load(files: list[Path], details: dict[str, Any], threads: int) -> Any:
    """Load a program that computes on this many threads; its largest batch comes with it."""
    from importlib import import_module

    import torch  # the binding is linked against its libraries

    try:
        runtime = import_module("executorch.extension.pybindings._C")
    except ImportError:  # earlier versions have the binding within a module that imports the exporter, too
        runtime = import_module("executorch.extension.pybindings.portable_lib")
    torch.set_num_threads(threads)
    # No environment variable sets the threads of XNNPACK. They must not change while a program runs.
    runtime._unsafe_reset_threadpool(threads)
    return runtime._load_for_executorch(str(files[0])), details["most"], details["outputs"]


def run(model: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs, computed in parts of the largest batch that the program takes."""
    import torch

    program, most, names = model
    tensors = [torch.from_numpy(array) for array in inputs.values()]
    starts = range(0, len(tensors[0]), most)
    # Copies, because the next call overwrites the program's memory.
    parts = [
        program.forward(tuple(tensor[start : start + most] for tensor in tensors), clone_outputs=True)
        for start in starts
    ]
    columns = zip(names, zip(*parts, strict=True), strict=True)
    return {name: torch.cat(outputs).numpy() for name, outputs in columns}
