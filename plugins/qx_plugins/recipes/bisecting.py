"""Find the layer at which a compiled network goes wrong, by compiling its first half again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.export import Dim, ExportedProgram, export

from qx_plugins.recipes.exporting import dynamic_shapes_of, layer_of
from qx_plugins.recipes.fidelity import WRONG_DB, run_model, signal_to_noise_db

#: Compile a program, and return a function that runs what came out.
Compiler = Callable[[ExportedProgram], Callable[..., Any]]


def first_wrong_layer(
    program: ExportedProgram, compile_program: Compiler, inputs: tuple[torch.Tensor, ...], max_batch: int
) -> str:
    """Return the layer of the first operator whose outputs are wrong once compiled; empty if there is none.

    The graph is cut after an operator, compiled for up to ``max_batch`` items and run, and the operator is
    found by halving, since what follows a wrong one is wrong too.
    """
    nodes = [node for node in program.graph.nodes if node.op == "call_function" and _gives_floats(node)]
    low, high = 0, len(nodes)
    while low < high:
        middle = (low + high) // 2
        if _is_wrong(_cut_after(program, nodes[middle].name, inputs, max_batch), compile_program, inputs):
            high = middle
        else:
            low = middle + 1
    return layer_of(nodes[low]) if low < len(nodes) else ""


def _gives_floats(node: torch.fx.Node) -> bool:
    """Return whether a node belongs to a layer and gives one tensor of floats, as the outputs of a graph."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point() and bool(layer_of(node))


def _cut_after(
    program: ExportedProgram, name: str, inputs: tuple[torch.Tensor, ...], max_batch: int
) -> ExportedProgram:
    """Return the program that ends with a node, for any batch size up to ``max_batch``."""
    module = program.module()
    graph = module.graph
    (last,) = (node for node in graph.nodes if node.name == name)
    output = next(iter(reversed(graph.nodes)))
    output.args = ((last,),)
    graph.eliminate_dead_code()
    module.recompile()
    shapes = dynamic_shapes_of(module, len(inputs), Dim("batch", min=1, max=max_batch))
    return export(module, inputs, dynamic_shapes=shapes)


def _is_wrong(program: ExportedProgram, compile_program: Compiler, inputs: tuple[torch.Tensor, ...]) -> bool:
    """Return whether a program gives other outputs once compiled, or cannot be compiled or run."""
    expected = run_model(program.module(), inputs)
    try:
        outputs = run_model(compile_program(program), inputs)
    except Exception:
        return True
    return signal_to_noise_db(expected, outputs) < WRONG_DB
