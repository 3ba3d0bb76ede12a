"""What configs that export the model share."""

from __future__ import annotations

import re

import torch
from qx_plugins.tracing import blamed
from torch import nn
from torch.export import Dim, ExportedProgram, export

from qx import Unsupported

#: Letters of a reason that a row has room for.
ROOM = 200


def exported(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], most: int | None = None
) -> ExportedProgram:
    """The model as a graph that takes any batch size, up to ``most`` where that is given.

    Raises ``Unsupported`` with the layer and the reason.
    """
    # torch.export takes a dimension of size 1 for one that is always 1; and what is guarded on in lowering
    # must hold for the largest batch, where there is one.
    inputs = tuple(torch.cat([tensor] * (most or 2)) for tensor in example_inputs)
    batch = Dim("batch", min=1, max=most)
    try:
        with torch.no_grad():
            # Not strict: the model runs as plain Python, so that an error is where it is raised.
            return export(model, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs), strict=False)
    except Exception as error:
        raise Unsupported(f"cannot be exported: {blamed(error, model)}") from error


def lowering_error(program: ExportedProgram, error: BaseException, what: str) -> Unsupported:
    """The error for a graph that a runtime's exporter cannot take, with the layer where its message tells."""
    text = _whole(error)
    layer = next((_layer(node) for node in program.graph.nodes if _is_told_of(node, text)), "")
    return Unsupported(f"{what}: {f'layer {layer!r}: ' if layer else ''}{reason(error)}")


def _is_told_of(node: torch.fx.Node, text: str) -> bool:
    """Whether a message names a node of the graph, or the operator that it calls, in whatever dialect."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return False
    operator = node.target.overloadpacket.__name__.removeprefix("special_")
    return (
        f"%{node.name} " in text
        or re.search(rf"\b(aten|prims)[.:]+(special_)?{operator}\b", text) is not None
    )


def _layer(node: torch.fx.Node) -> str:
    """The name of the layer that a node of the graph comes from."""
    stack = node.meta.get("nn_module_stack") or {}
    return next((path for path, _ in reversed(list(stack.values())) if path), "")


def reason(error: BaseException) -> str:
    """The first line of what the innermost error says, with its type."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    line = next((line.strip() for line in str(cause).splitlines() if line.strip()), "")
    told = f"{type(cause).__name__}: {line}".rstrip(": ")
    return told if len(told) <= ROOM else told[: ROOM - 3] + "..."


def _whole(error: BaseException | None) -> str:
    return "" if error is None else f"{error} {_whole(error.__cause__)}"
