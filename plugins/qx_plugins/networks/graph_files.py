"""Models of the user's own in files of graphs: ``FILE.pt2`` of ``torch.export``, and ``FILE.onnx``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from qx import UsageError
from qx_plugins.datasets.described_inputs import TYPES, DescribedInput
from qx_plugins.recipes.graphs import GraphInput, GraphModel

#: Suffixes of files that hold a graph.
PROGRAM, ONNX = ".pt2", ".onnx"


def is_graph_file(target: str) -> bool:
    """Return whether a model is a file that holds a graph."""
    return Path(target).suffix in (PROGRAM, ONNX)


def factory_in_graph_file(target: str) -> Callable[[], GraphModel] | None:
    """Return what reads the model of a graph's file; None where the target is no such file."""
    return partial(read_graph, target) if is_graph_file(target) else None


#: Inputs of models that were read in this process, and models that were read for their inputs alone.
_inputs: dict[str, tuple[GraphInput, ...]] = {}
_unused: dict[str, GraphModel] = {}


def read_graph(target: str) -> GraphModel:
    """Read a model from a file. Raises ``UsageError`` where that is not possible."""
    model = _unused.pop(target, None) or _read(target)
    _inputs[target] = model.inputs
    return model


def inputs_of_graph(target: str) -> tuple[GraphInput, ...]:
    """Return the inputs of the model in a file. Raises ``UsageError``."""
    if target not in _inputs:
        # A launch asks for the inputs first, and must not load the file twice.
        _unused[target] = _read(target)
        _inputs[target] = _unused[target].inputs
    return _inputs[target]


def _read(target: str) -> GraphModel:
    file = Path(target)
    if not file.is_file():
        raise UsageError(f"MODEL {target}: there is no such file")
    model: GraphModel
    if file.suffix == ONNX:
        from qx_plugins.networks.onnx_files import read_onnx

        model = read_onnx(target)
    else:
        from qx_plugins.networks.program_files import read_program

        model = read_program(target)
    model.file = file
    return model


def check_batches(target: str) -> None:
    """Raise ``UsageError`` where a program was changed to take any batch, and gives other outputs then.

    It runs the program, which a launch must not spend time on: this is for the process that loads the data.
    """
    if Path(target).suffix == PROGRAM:
        from qx_plugins.networks.program_files import check_program_batches

        check_program_batches(target)


def described_by_graph(target: str) -> tuple[DescribedInput, ...]:
    """Return the inputs of the model in a file, to be drawn. Raises ``UsageError`` where a size is open."""
    inputs = inputs_of_graph(target)
    if any(None in entry.shape for entry in inputs):
        shown = "; ".join(
            f"{entry.name}:{entry.dtype}[{','.join(map(_size, (1, *entry.shape)))}]" for entry in inputs
        )
        raise UsageError(
            f"MODEL {target} leaves sizes of its inputs open: {shown}; give a number for each SIZE with "
            f"--example, in this order"
        )
    return tuple(
        DescribedInput(entry.name, entry.dtype, tuple(size or 0 for size in entry.shape), entry.extent)
        for entry in inputs
    )


def _size(size: int | None) -> str:
    return "SIZE" if size is None else str(size)


def check_input(target: str, name: str, dtype: str, dimensions: int) -> None:
    """Raise ``UsageError`` for an input that qx cannot give to a model."""
    if dtype not in TYPES:
        raise UsageError(
            f"MODEL {target}: the input {name!r} is of type {dtype}; inputs may be {', '.join(TYPES)}"
        )
    if dimensions == 0:
        raise UsageError(f"MODEL {target}: the input {name!r} is one number, and has no dimension of items")


# Batch sizes --------------------------------------------------------------------------------------

#: Batch sizes at which a graph is tried that was changed to take any.
TRIED = (2, 3)
#: Largest error, as a share of the largest output, that other kernels for another batch size explain.
ROUNDING = 1e-3

#: Runs a graph on inputs ``[items, ...]``, and returns its outputs ``[items, ...]``.
Run = Callable[[tuple[np.ndarray, ...]], tuple[np.ndarray, ...]]


def any_batch_note(target: str, size: int) -> str:
    """Return the note of a graph that was changed to take any batch."""
    return f"the graph in {Path(target).name} is for batches of {size}, and was changed to take any"


def fixed_batch(target: str, sizes: Sequence[int], hint: str) -> str:
    """Return the message for a graph that takes batches of these sizes alone; ``hint`` is the way out."""
    return (
        f"MODEL {target} takes batches of {' and '.join(map(str, sizes))} alone, and cannot be changed to "
        f"take others: export it with a batch that may vary, {hint}"
    )


def is_same_at_any_batch(inputs: tuple[GraphInput, ...], size: int, fixed: Run, changed: Run) -> bool:
    """Return whether a graph that was changed to take any batch gives the outputs of the one before.

    ``fixed`` runs the graph of the file, which takes batches of ``size``, and ``changed`` the changed one.
    """
    random = np.random.default_rng(0)
    for items in TRIED:
        drawn = tuple(_draw(entry, items, random) for entry in inputs)
        outputs = changed(drawn)
        for first in range(items):
            rows = np.resize(np.arange(first, items), size)
            expected = fixed(tuple(array[rows] for array in drawn))
            for output, right in zip(outputs, expected, strict=True):
                if output.shape != (items, *right.shape[1:]) or not _is_close(output[first], right[0]):
                    return False
    return True


def _draw(entry: GraphInput, items: int, random: np.random.Generator) -> np.ndarray:
    shape = (items, *(size or 8 for size in entry.shape))
    if entry.dtype.startswith("float"):
        return random.standard_normal(shape).astype(entry.dtype)
    low, high = entry.extent or (0, 1)
    return random.integers(low, high, shape, endpoint=True).astype(entry.dtype)


def _is_close(output: np.ndarray, expected: np.ndarray) -> bool:
    if output.dtype.kind != "f":
        return bool(np.array_equal(output, expected))
    largest = float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
    return bool(np.allclose(output, expected, rtol=0, atol=ROUNDING * largest, equal_nan=True))
