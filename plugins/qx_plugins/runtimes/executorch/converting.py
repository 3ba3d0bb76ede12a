"""Convert models to ExecuTorch, shared by its configs."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export

from qx import Artifact, Context, Unsupported
from qx_plugins.recipes.bisecting import first_wrong_layer
from qx_plugins.recipes.exporting import (
    explain_lowering,
    export_model,
    layer_of,
    lowering_error,
    prepare_program,
)
from qx_plugins.recipes.fidelity import Reference, compute_reference, verify_compiled

FILE = "model.pte"
#: Largest batch that a program takes, in items, and largest number of positions of all its items together:
#: ExecuTorch plans its memory ahead of time, for the largest batch of the longest items.
MAX_BATCH, MAX_POSITIONS = 128, 8192
#: Note of every artifact about its batches.
BATCHES = (
    "one program serves all batch sizes; it takes up to {most} items at once, and larger batches in parts"
)

#: Messages for error codes of the runtime (``runtime/core/error.h``).
CODES = {0x1: "internal error", 0x10: "not supported", 0x12: "invalid argument", 0x14: "missing operator"}
_CODE = re.compile(r"error: 0x([0-9a-f]+)")
_KERNEL = re.compile(r"in operator (\S+?::\w+)")


def most_items(context: Context) -> int:
    """Return the largest batch that a program takes, in items."""
    longest = 1 if context.lengths is None else context.lengths.highest
    return max(1, min(MAX_BATCH, MAX_POSITIONS // longest))


def build_artifact(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    context: Context,
    quantize: Callable[[ExportedProgram, Reference], nn.Module] | None = None,
) -> Artifact:
    """Export the model, quantize it, lower it to XNNPACK, write the program and verify its outputs.

    ``quantize`` receives the exported model and outputs of the model, and returns the quantized model. Raises
    ``Unsupported``, also where the program does not run or its outputs are wrong.
    """
    assert context.folder is not None
    expected = compute_reference(model.eval(), example_inputs)
    most = most_items(context)
    program, original = prepare_program(model, example_inputs, most, context.lengths)
    _check_batch(original)
    # ExecuTorch logs every node that it does not delegate.
    logging.getLogger("executorch").setLevel(logging.ERROR)
    with explain_lowering(original, "cannot be lowered to XNNPACK"):
        if quantize is not None:
            program = export_model(quantize(program, expected), example_inputs, most, context.lengths)
        in_torch = _program_in_torch(program, original)
        path = context.folder / FILE
        _lower(program, path, most)
    served = _served_program(path, context.threads, original, most)
    try:
        verify_compiled(expected, in_torch, served, "lowered to XNNPACK, it")
    except Unsupported as error:
        if "layer '" in str(error):
            raise
        layer = _first_wrong_layer(program, expected.inputs, context.threads, most)
        raise Unsupported(f"layer {layer!r}: {error}" if layer else str(error)) from error
    return Artifact(
        folder=context.folder,
        loader="executorch",
        files=[FILE],
        details={"most": most},
        notes=[BATCHES.format(most=most)],
    )


def _lower(program: ExportedProgram, path: Path, most: int) -> None:
    """Lower a program for up to ``most`` items to XNNPACK, and write what ExecuTorch runs to ``path``."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
    from executorch.exir.passes import MemoryPlanningPass

    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    if not _takes_any_batch(lowered.exported_program()):
        raise Unsupported(f"ExecuTorch can lower it only for batches of exactly {most}")
    # Use the caller's tensors in place of copies in planned memory.
    planning = MemoryPlanningPass(alloc_graph_input=False)
    executable = lowered.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))
    with path.open("wb") as file:
        executable.write_to_file(file)


def _first_wrong_layer(
    program: ExportedProgram, inputs: tuple[torch.Tensor, ...], threads: int, most: int
) -> str:
    """Return the layer from which on a lowered program is wrong or does not run; empty if it is not found."""
    with tempfile.TemporaryDirectory() as folder:

        def lower_part(part: ExportedProgram) -> Callable[..., Any]:
            path = Path(folder) / FILE
            _lower(part, path, most)
            return _served_program(path, threads, part, most)

        # A part of a graph may be one that torch cannot export.
        with suppress(Exception):
            return first_wrong_layer(program, lower_part, inputs, most)
    return ""


def _program_in_torch(program: ExportedProgram, original: ExportedProgram) -> Callable[..., Any]:
    """Return a function that runs the program in torch.

    It raises ``Unsupported`` where lowering has fixed the batch size.
    """
    module = program.module()

    def call(*inputs: torch.Tensor) -> Any:
        try:
            return module(*inputs)
        except RuntimeError as error:
            if "to be equal to" not in str(error):
                raise
            recurrent = [node for node in original.graph.nodes if node.target is torch.ops.aten.gru.input]
            layer = f"layer {layer_of(recurrent[0])!r} (GRU): " if recurrent else ""
            raise Unsupported(f"{layer}ExecuTorch can lower it for a single batch size only") from error

    return call


def _served_program(path: Path, threads: int, program: ExportedProgram, most: int) -> Callable[..., Any]:
    """Return a function that runs the program by its loader.

    It raises ``Unsupported``, with the layer where the runtime names it.
    """
    from qx_plugins.loaders.executorch import ExecuTorchSubject

    names = tuple(map(str, range(len(program.graph_signature.user_outputs))))
    subject = ExecuTorchSubject(path, threads, most, names)

    def call(*inputs: torch.Tensor) -> Any:
        arrays = {f"input_{index}": tensor.numpy() for index, tensor in enumerate(inputs)}
        with _captured_stderr() as stderr_text:
            try:
                native = subject.call(subject.prepare(arrays))
                return tuple(map(torch.from_numpy, subject.outputs(native).values()))
            except RuntimeError as error:
                failure: Exception = error
        raise _run_error(program, failure, len(inputs[0]), stderr_text()) from failure

    return call


def _run_error(program: ExportedProgram, error: Exception, items: int, stderr_text: str) -> Unsupported:
    """Return the error for a program that cannot run: the runtime's code, and the kernel on stderr."""
    code = _CODE.search(str(error))
    words = CODES.get(int(code[1], 16), str(error)) if code else str(error)
    kernel = _KERNEL.search(stderr_text)
    reason = RuntimeError(f"{kernel[1]}: {words}" if kernel else words)
    return lowering_error(program, reason, f"ExecuTorch cannot run its program for a batch of {items}")


@contextmanager
def _captured_stderr() -> Iterator[Callable[[], str]]:
    """Capture what the runtime, which is C++, writes to standard error.

    Yields a function that returns the text once the block has ended.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        original_fd = os.dup(2)
        os.dup2(file.fileno(), 2)
        text: list[str] = []
        try:
            yield lambda: "".join(text)
        finally:
            os.dup2(original_fd, 2)
            os.close(original_fd)
            file.seek(0)
            text.append(file.read().decode(errors="replace"))


def _takes_any_batch(program: ExportedProgram) -> bool:
    """Whether a lowered graph still takes any batch size."""
    names = set(program.graph_signature.user_inputs)
    inputs: list[Any] = [node.meta["val"] for node in program.graph.nodes if node.name in names]
    return all(not isinstance(value, torch.Tensor) or not isinstance(value.shape[0], int) for value in inputs)


def _check_batch(program: ExportedProgram) -> None:
    """Raise ``Unsupported`` with the layer for which the exporter, or lowering, fixes the batch size.

    For a GRU this would otherwise show only after lowering, which takes minutes.
    """
    for node in program.graph.nodes:
        layer = f"layer {layer_of(node) or node.name!r}"
        if node.target is torch.ops.aten.pad.default and "circular" in node.args:
            raise Unsupported(f"{layer}: torch.export fixes the batch size where padding is circular")
        if node.target is torch.ops.aten.gru.input and _gru_fixes_batch():
            raise Unsupported(f"{layer} (GRU): ExecuTorch can lower it for a single batch size only")


@cache
def _gru_fixes_batch() -> bool:
    """Whether this version of ExecuTorch fixes the batch size of the smallest GRU."""
    from executorch.exir import to_edge

    class SmallestGru(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(1, 1, batch_first=True)

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor = self.gru(values)[0]
            return outputs

    shapes = ({0: Dim("batch", min=1, max=8)},)
    with torch.no_grad():
        program = export(SmallestGru().eval(), (torch.zeros(2, 1, 1),), dynamic_shapes=shapes, strict=False)
        return not _takes_any_batch(to_edge(program).exported_program())
