"""Implementations of the hook ``check_model``: check a model before anything is built.

Light: torch is imported inside functions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from qx import Context, Unsupported, hookimpl

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl(specname="check_model")
def check_export(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> None:
    """Raise ``Unsupported``, with the layer, where the model cannot be exported.

    A model is exported once for all configs that ask. An ONNX model cannot be exported.
    """

    def export() -> None:
        from qx_plugins.recipes.exporting import export_model
        from qx_plugins.recipes.tracing import check_python

        check_python(model)
        export_model(model, example_inputs, lengths=context.lengths)

    check_once("export", model, export)


@hookimpl(specname="check_model")
def check_onnx_or_export(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context
) -> None:
    """Raise ``Unsupported``, with the layer, where the model is not ONNX already and cannot be exported."""
    from qx_plugins.recipes.graphs import OnnxModel

    if not isinstance(model, OnnxModel):
        check_export(model, example_inputs, context)


@hookimpl(specname="check_model")
def check_linears_and_export(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context
) -> None:
    """Raise ``Unsupported`` where the model has no linear layer or cannot be exported."""
    import torch

    from qx_plugins.recipes.tracing import check_layers

    if not any(isinstance(layer, torch.nn.Linear) for layer in model.modules()):
        check_layers(model)
        raise Unsupported(f"{type(model).__name__} has no linear layer, and this config quantizes no other")
    check_export(model, example_inputs, context)


@hookimpl(specname="check_model")
def check_products(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> None:
    """Raise ``Unsupported`` where the model has no linear layer, or is not ONNX and cannot be exported.

    In a graph the linear layers are the operators that multiply matrices.
    """
    from qx_plugins.recipes.graphs import GraphModel, OnnxModel, ProgramModel

    if not isinstance(model, GraphModel):
        check_linears_and_export(model, example_inputs, context)
        return
    products = {"MatMul", "Gemm", "linear", "addmm", "mm", "matmul", "bmm"}
    if isinstance(model, (OnnxModel, ProgramModel)) and not model.operators() & products:
        raise Unsupported(f"{model.form} without a product of matrices, and this config quantizes no other")
    check_onnx_or_export(model, example_inputs, context)


def check_once(name: str, model: nn.Module, attempt: Callable[[], None]) -> None:
    """Run an attempt the first time that it is asked for, and raise its ``Unsupported`` again at later times.

    An attempt is known by its ``name``, such as that of a runtime, and by the model.
    """
    reasons = _reasons(name)
    if model not in reasons:
        try:
            attempt()
        except Unsupported as error:
            reasons[model] = str(error)
        else:
            reasons[model] = ""
    if reasons[model]:
        raise Unsupported(reasons[model])


@cache
def _reasons(name: str) -> WeakKeyDictionary[nn.Module, str]:
    """Return the reasons why an attempt failed, by model; an empty text where it succeeded."""
    return WeakKeyDictionary()
