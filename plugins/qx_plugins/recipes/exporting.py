"""Export a model with ``torch.export``, and explain in one line why that or a later step failed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export

from qx import Lengths, Unsupported
from qx_plugins.recipes.bfloat16 import Bfloat16
from qx_plugins.recipes.rewriting import make_row_major, rewrite_program
from qx_plugins.recipes.tracing import UNRELATED_ERRORS, explain_errors

#: Errors by a fault of a quantizer itself, or of packages whose versions do not fit: no model causes them.
QUANTIZER_FAULTS = (*UNRELATED_ERRORS, AttributeError, TypeError, NameError)
#: Longest reason that fits into a row of the report, in characters.
REASON_LENGTH = 200
#: Parts of layer names in early versions of torch: an attribute of a layer, and the model itself.
_GETATTR = re.compile(r"getattr\(([^()]+), '([^']+)'\)")
_ROOT = re.compile(r"^L\['\w+'\]\.?")


def export_model(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    max_batch: int | None = None,
    lengths: Lengths | None = None,
) -> ExportedProgram:
    """Export the model as a graph that takes any batch size, or any up to ``max_batch``.

    Inputs may have all of ``lengths``. Raises ``Unsupported`` with the layer and the reason.
    """
    # torch.export takes a dimension of size 1 as fixed. Conditions that lowering checks on the example must
    # hold for the largest batch, where there is one.
    inputs = tuple(torch.cat([tensor] * (max_batch or 2)) for tensor in example_inputs)
    shapes = dynamic_shapes_of(model, len(inputs), Dim("batch", min=1, max=max_batch), lengths)
    with torch.no_grad(), explain_errors(model, "cannot be exported"):
        # Not strict: the model runs as plain Python, so that an error is where it is raised.
        return export(model, inputs, dynamic_shapes=shapes, strict=False)


def prepare_program(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    max_batch: int | None = None,
    lengths: Lengths | None = None,
) -> tuple[ExportedProgram, ExportedProgram]:
    """Export the model in a form that backends fold and quantize correctly.

    Returns that program and the one before it was rewritten, which has the names of the layers. The weights
    are laid out in row-major order, in place.
    """
    make_row_major(model)
    original = export_model(model, example_inputs, max_batch, lengths)
    module = rewrite_program(original)
    if module is None:
        return original, original
    return export_model(module, example_inputs, max_batch, lengths), original


def dynamic_shapes_of(
    model: nn.Module, inputs: int, batch: Any, lengths: Lengths | None = None
) -> tuple[Any, ...]:
    """Return ``dynamic_shapes`` for ``torch.export``: the first dimension of each input is ``batch``.

    The free dimension of each input, if there is any, has all of ``lengths``. They are nested like the
    signature of ``forward``.
    """
    shapes: tuple[Any, ...] = tuple({0: batch} for _ in range(inputs))
    if lengths is not None:
        length = Dim("length", min=lengths.lowest, max=lengths.highest)
        for shape, place in zip(shapes, lengths.dimensions, strict=True):
            if place is not None:
                shape[place] = length
    kinds = [parameter.kind for parameter in inspect.signature(model.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
        return (*shapes[:named], shapes[named:])
    return shapes


@contextmanager
def explain_lowering(
    program: ExportedProgram | Callable[[], ExportedProgram] | None,
    problem: str,
    *,
    unrelated: tuple[type[BaseException], ...] = UNRELATED_ERRORS,
) -> Iterator[None]:
    """Turn errors of a runtime's exporter or quantizer into ``Unsupported``, except ``unrelated`` ones.

    The message starts with ``problem`` and continues as in :func:`lowering_error`. A function that gives the
    program is called only where there is an error.
    """
    try:
        yield
    except unrelated:
        raise
    except Exception as error:
        known = program if program is None or isinstance(program, ExportedProgram) else program()
        raise lowering_error(known, error, problem) from error


def lowering_error(program: ExportedProgram | None, error: BaseException, problem: str) -> Unsupported:
    """Return the error for a graph that a runtime cannot take, with the layer where the message names it."""
    text = _full_text(error)
    nodes = () if program is None else program.graph.nodes
    layer = next((layer_of(node) for node in nodes if _is_named_in(node, text)), "")
    return Unsupported(f"{problem}: {f'layer {layer!r}: ' if layer else ''}{describe_error(error)}")


def _is_named_in(node: torch.fx.Node, text: str) -> bool:
    """Whether a message names a node of the graph, or the operator that it calls, in any notation."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return False
    operator = node.target.overloadpacket.__name__.removeprefix("special_")
    return (
        f"%{node.name} " in text
        or re.search(rf"\b(aten|prims)[.:]+(special_)?{operator}\b", text) is not None
    )


def layer_of(node: torch.fx.Node) -> str:
    """Return the name, in the user's model, of the layer that a node of the graph comes from."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = next((name for path, _ in reversed(stack) if (name := _dotted_name(path))), "")
    wrapped = bool(stack) and f"{Bfloat16.__module__}.{Bfloat16.__name__}" in str(stack[0][1])
    return path.partition(".")[2] if wrapped else path


def _dotted_name(path: str) -> str:
    """Return a layer's name where early torch has an expression: ``getattr(L['self'].features, '0')``."""
    while match := _GETATTR.search(path):
        path = path.replace(match[0], f"{match[1]}.{match[2]}")
    return _ROOT.sub("", path)


def describe_error(error: BaseException) -> str:
    """Return the type and the first line of the innermost error."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    line = next((line.strip() for line in str(cause).splitlines() if line.strip()), "")
    text = f"{type(cause).__name__}: {line}".rstrip(": ")
    return text if len(text) <= REASON_LENGTH else text[: REASON_LENGTH - 3] + "..."


def _full_text(error: BaseException | None) -> str:
    return "" if error is None else f"{error} {_full_text(error.__cause__)}"
