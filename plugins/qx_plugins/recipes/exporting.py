"""What configs that export the model share."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export

from qx import Unsupported
from qx_plugins.recipes.bfloat16 import Bfloat16
from qx_plugins.recipes.rewriting import make_row_major, rewrite_program
from qx_plugins.recipes.tracing import UNRELATED_ERRORS, explain_errors

#: What a quantizer raises of itself, or of packages whose versions do not fit each other: no model did that.
QUANTIZER_FAULTS = (*UNRELATED_ERRORS, AttributeError, TypeError, NameError)
#: Letters of a reason that a row has room for.
MAX_REASON_LENGTH = 200
#: In the names that an early torch gives to layers: a step into one, and the model itself.
_GETATTR = re.compile(r"getattr\(([^()]+), '([^']+)'\)")
_ROOT = re.compile(r"^L\['\w+'\]\.?")


def export_model(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], max_batch: int | None = None
) -> ExportedProgram:
    """The model as a graph that takes any batch size, up to ``max_batch`` where that is given.

    Raises ``Unsupported`` with the layer and the reason.
    """
    # torch.export takes a dimension of size 1 for one that is always 1; and what is guarded on in lowering
    # must hold for the largest batch, where there is one.
    inputs = tuple(torch.cat([tensor] * (max_batch or 2)) for tensor in example_inputs)
    shapes = dynamic_shapes_of(model, len(inputs), Dim("batch", min=1, max=max_batch))
    with torch.no_grad(), explain_errors(model, "cannot be exported"):
        # Not strict: the model runs as plain Python, so that an error is where it is raised.
        return export(model, inputs, dynamic_shapes=shapes, strict=False)


def prepare_program(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], max_batch: int | None = None
) -> tuple[ExportedProgram, ExportedProgram]:
    """The same in a form that backends fold and quantize rightly, and as it was, with the names of layers.

    Lays the weights out in row-major order, in place.
    """
    make_row_major(model)
    original = export_model(model, example_inputs, max_batch)
    module = rewrite_program(original)
    return (original if module is None else export_model(module, example_inputs, max_batch)), original


def dynamic_shapes_of(model: nn.Module, inputs: int, batch: Any) -> tuple[Any, ...]:
    """Each input's first dimension, nested as the signature of ``forward`` takes them."""
    shapes: tuple[Any, ...] = tuple({0: batch} for _ in range(inputs))
    kinds = [parameter.kind for parameter in inspect.signature(model.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
        return (*shapes[:named], shapes[named:])
    return shapes


@contextmanager
def explain_lowering(
    program: ExportedProgram | None,
    what: str,
    *,
    unrelated: tuple[type[BaseException], ...] = UNRELATED_ERRORS,
) -> Iterator[None]:
    """Have what a runtime's exporter or quantizer raises told as ``Unsupported``, but for the ``unrelated``.

    What it says starts with ``what``, and goes on as :func:`lowering_error` does.
    """
    try:
        yield
    except unrelated:
        raise
    except Exception as error:
        raise lowering_error(program, error, what) from error


def lowering_error(program: ExportedProgram | None, error: BaseException, what: str) -> Unsupported:
    """The error for a graph that a runtime's exporter cannot take, with the layer where its message tells."""
    text = _full_text(error)
    nodes = () if program is None else program.graph.nodes
    layer = next((layer_of(node) for node in nodes if _is_named_in(node, text)), "")
    return Unsupported(f"{what}: {f'layer {layer!r}: ' if layer else ''}{describe_error(error)}")


def _is_named_in(node: torch.fx.Node, text: str) -> bool:
    """Whether a message names a node of the graph, or the operator that it calls, in whatever dialect."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return False
    operator = node.target.overloadpacket.__name__.removeprefix("special_")
    return (
        f"%{node.name} " in text
        or re.search(rf"\b(aten|prims)[.:]+(special_)?{operator}\b", text) is not None
    )


def layer_of(node: torch.fx.Node) -> str:
    """The name of the layer that a node of the graph comes from, as the user's model calls it."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = next((name for path, _ in reversed(stack) if (name := _dotted_name(path))), "")
    wrapped = bool(stack) and f"{Bfloat16.__module__}.{Bfloat16.__name__}" in str(stack[0][1])
    return path.partition(".")[2] if wrapped else path


def _dotted_name(path: str) -> str:
    """The name of a layer, where an early torch gives an expression: ``getattr(L['self'].features, '0')``."""
    while found := _GETATTR.search(path):
        path = path.replace(found[0], f"{found[1]}.{found[2]}")
    return _ROOT.sub("", path)


def describe_error(error: BaseException) -> str:
    """The first line of what the innermost error says, with its type."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    line = next((line.strip() for line in str(cause).splitlines() if line.strip()), "")
    told = f"{type(cause).__name__}: {line}".rstrip(": ")
    return told if len(told) <= MAX_REASON_LENGTH else told[: MAX_REASON_LENGTH - 3] + "..."


def _full_text(error: BaseException | None) -> str:
    return "" if error is None else f"{error} {_full_text(error.__cause__)}"
