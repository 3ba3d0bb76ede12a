"""Explain why a model could not be traced, exported or converted, and name the layer."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx import QxError, Unsupported

if TYPE_CHECKING:
    from traceback import FrameSummary
    from types import FrameType

    from torch import nn

#: Errors that say nothing about the model, and are passed on unchanged.
UNRELATED_ERRORS = (QxError, MemoryError, OSError, ImportError)
#: Name, within its layer, of an observer or of fake quantization.
_OBSERVER = "activation_post_process"
#: What torch.export says of sizes that were to stay open, and which these are.
_CONSTRAINTS = re.compile(r"^Constraints violated \(([^)]*)\)!")
#: Start of torch's message that an operation has no kernel for tensors of a kind.
_NO_KERNEL = re.compile(r"Could not run '(\S+)' with arguments from the '(\w+)' backend")


@contextmanager
def explain_errors(model: nn.Module, problem: str) -> Iterator[None]:
    """Turn errors into ``Unsupported`` with this ``problem``, the layer and the reason."""
    try:
        yield
    except UNRELATED_ERRORS:
        raise
    except Exception as error:
        raise Unsupported(f"{problem}: {name_layer(error, model)}") from error


def check_layers(model: nn.Module) -> None:
    """Raise ``Unsupported`` where the model is a graph from a file, or a layer is TorchScript.

    It is for configs that replace layers, which neither has.
    """
    from qx_plugins.recipes import graphs

    graphs.check_layers(model)
    check_python(model)


@contextmanager
def required_arguments_only(model: nn.Module, count: int) -> Iterator[None]:
    """Give a model a ``forward`` with no more than its first ``count`` arguments while it is traced.

    Further arguments keep their defaults (``forward(x, return_features=False)``). ``torch.fx`` would trace
    them as inputs, and fail where the model branches on them. The model's class is the old one afterwards.
    """
    kind = type(model)
    parameters = list(inspect.signature(model.forward).parameters.values())
    surplus = parameters[count:]
    if not surplus or any(
        parameter.kind is not parameter.POSITIONAL_OR_KEYWORD or parameter.default is parameter.empty
        for parameter in surplus
    ):
        yield
        return
    names = ", ".join(["self", *(parameter.name for parameter in parameters[:count])])
    scope: dict[str, Any] = {"kind": kind}
    # Only identifiers are put into this text: tracers read the signature of what they trace.
    exec(f"def forward({names}):\n    return kind.forward({names})\n", scope)  # noqa: S102
    namespace = {
        "forward": scope["forward"],
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
    }
    model.__class__ = type(kind.__name__, (kind,), namespace)
    try:
        yield
    finally:
        model.__class__ = kind


def check_python(model: nn.Module) -> None:
    """Raise ``Unsupported`` where torch cannot trace the model: an ONNX model, or a layer in TorchScript."""
    import torch

    from qx_plugins.recipes.graphs import check_not_onnx

    check_not_onnx(model)
    for name, layer in model.named_modules():
        if isinstance(layer, torch.jit.ScriptModule):
            subject = f"layer {name!r}" if name else "the model"
            raise Unsupported(
                f"{subject} is TorchScript, which can be neither quantized nor exported; have the factory "
                f"give the Python module that it was made from"
            )


def name_layer(error: BaseException, model: nn.Module) -> str:
    """Return the error in one line, with the innermost layer that was running and its place in the source.

    Layers have the names that they have in the user's model, without any wrapper.
    """
    from qx_plugins.recipes.bfloat16 import unwrap

    model = unwrap(model)
    # An observer, which torch has put into a layer, is passed over for the layer itself.
    names = {
        id(module): name for name, module in model.named_modules() if name.rpartition(".")[2] != _OBSERVER
    }
    modules = {id(module): module for module in model.modules() if id(module) in names}
    text = _line(error)

    def describe(layer: nn.Module, file: str, line: int) -> str:
        kind = type(layer).__name__
        named = f"layer {names[id(layer)]!r} ({kind})" if names[id(layer)] else kind
        return f"{named}, {Path(file).name}:{line}: {text}"

    for frame, line in _frames(error):
        layer = modules.get(id(frame.f_locals.get("self")))
        # Code that torch.fx generated ('<eval_with_key>') belongs to no layer: the frame that ran it has one.
        generated = frame.f_code.co_filename.startswith("<")
        if layer is not None and (names[id(layer)] or not generated):
            return describe(layer, frame.f_code.co_filename, line)
        # A function that converts a layer has it as an argument.
        for value in frame.f_locals.values():
            if names.get(id(value)):
                return f"layer {names[id(value)]!r} ({type(value).__name__}): {text}"
    # Dynamo interprets the code: its error holds a summary of frames, without the layer itself.
    for summary in reversed(getattr(error, "real_stack", None) or ()):
        layers = [layer for layer in model.modules() if _runs(layer, summary)]
        if len(layers) == 1:
            return describe(layers[0], summary.filename, summary.lineno or 0)
        if layers:
            kind = type(layers[0]).__name__
            return f"one of {len(layers)} {kind}, {Path(summary.filename).name}:{summary.lineno}: {text}"
    return f"{type(model).__name__}: {text}"


def _line(error: BaseException) -> str:
    """Return the first line of an error's message, or a short form of it."""
    if match := _NO_KERNEL.search(str(error)):
        operation, backend = match.groups()
        return f"{operation} has no kernel for {backend}"
    if match := _CONSTRAINTS.search(str(error)):
        sizes = match[1].replace(", ", " and ")
        return f"the exported program would hold for single sizes alone where any are wanted ({sizes})"
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _runs(layer: nn.Module, frame: FrameSummary) -> bool:
    """Whether a frame lies in the layer's own ``forward``."""
    code = getattr(type(layer).forward, "__code__", None)
    if code is None or (code.co_filename, code.co_name) != (frame.filename, frame.name):
        return False
    return frame.lineno in {line for _, _, line in code.co_lines()}


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """Yield frames and lines of an error and of the errors that caused it, the innermost first."""
    seen: set[int] = set()
    current: BaseException | None = error
    causes = []
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        causes.append(current)
        current = current.__cause__ or current.__context__
    for cause in reversed(causes):
        frames, trace = [], cause.__traceback__
        while trace is not None:
            frames.append((trace.tb_frame, trace.tb_lineno))
            trace = trace.tb_next
        yield from reversed(frames)
