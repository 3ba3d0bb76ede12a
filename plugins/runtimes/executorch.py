"""What the ExecuTorch configs share."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from qx_plugins.runtimes.exporting import exported, lowering
from torch import nn
from torch.export import ExportedProgram

from qx import Artifact, Context

FILE = "model.pte"
#: The largest batch that a program takes: ExecuTorch wants to know how much memory that will need.
MOST = 128
BATCHES = (
    f"one program serves all batch sizes; it takes up to {MOST} items at once, and larger batches in parts"
)


def artifact(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    context: Context,
    quantize: Callable[[ExportedProgram], nn.Module] | None = None,
) -> Artifact:
    """Export the model, have it quantized, lower it to XNNPACK, and write the program.

    ``quantize`` is given the exported model and gives the quantized one. Raises ``Unsupported``.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
    from executorch.exir.passes import MemoryPlanningPass

    assert context.folder is not None
    program = exported(model, example_inputs, MOST)
    # It tells what it leaves undelegated, line by line.
    logging.getLogger("executorch").setLevel(logging.ERROR)
    with lowering(program, "cannot be lowered to XNNPACK"):
        if quantize is not None:
            program = exported(quantize(program), example_inputs, MOST)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        # The caller's tensors are used as they are, and not copied into memory that is held for them.
        planning = MemoryPlanningPass(alloc_graph_input=False)
        made = lowered.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))
    with (context.folder / FILE).open("wb") as file:
        made.write_to_file(file)
    return Artifact(
        folder=context.folder,
        loader="executorch",
        files=[FILE],
        details={"most": MOST},
        notes=[BATCHES],
    )
