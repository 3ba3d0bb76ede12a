"""What configs can say of a model before anything is built. Light: torch is imported in functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from qx import Unsupported, hookimpl

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl(specname="can_treat")
def check_export(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> None:
    """The hook of configs that export the model. It is exported once, whoever asks; with the layer if not."""

    def export() -> None:
        from qx_plugins.recipes.exporting import export_model
        from qx_plugins.recipes.tracing import check_python

        check_python(model)
        export_model(model, example_inputs)

    check_once("export", model, export)


@hookimpl(specname="can_treat")
def check_linears_and_export(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> None:
    """The hook of configs that quantize linear layers alone, and export the model."""
    import torch

    from qx_plugins.recipes.tracing import check_python

    if not any(isinstance(layer, torch.nn.Linear) for layer in model.modules()):
        check_python(model)
        raise Unsupported(f"{type(model).__name__} has no linear layer, and this config quantizes no other")
    check_export(model, example_inputs)


def check_once(what: str, model: nn.Module, attempt: Callable[[], None]) -> None:
    """Raise ``Unsupported`` where an attempt at this model does, or did when it was made before."""
    known = _known(what)
    if model not in known:
        try:
            attempt()
        except Unsupported as error:
            known[model] = str(error)
        else:
            known[model] = ""
    if known[model]:
        raise Unsupported(known[model])


@cache
def _known(what: str) -> WeakKeyDictionary[nn.Module, str]:
    """Why models cannot be had so, and nothing where they can."""
    return WeakKeyDictionary()
