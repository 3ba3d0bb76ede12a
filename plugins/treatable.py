"""What configs can say of a model before anything is built. Light: torch is imported in functions."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from qx import Unsupported, hookimpl

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl(specname="can_treat")
def by_export(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> None:
    """The hook of configs that export the model. It is exported once, whoever asks; with the layer if not."""
    known = _known()
    if model not in known:
        from qx_plugins.runtimes.exporting import exported

        known[model] = ""
        try:
            exported(model, example_inputs)
        except Unsupported as error:
            known[model] = str(error)
    if known[model]:
        raise Unsupported(known[model])


@hookimpl(specname="can_treat")
def by_linears_and_export(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> None:
    """The hook of configs that quantize linear layers alone, and export the model."""
    import torch

    if not any(isinstance(layer, torch.nn.Linear) for layer in model.modules()):
        raise Unsupported(f"{type(model).__name__} has no linear layer, and this config quantizes no other")
    by_export(model, example_inputs)


@cache
def _known() -> WeakKeyDictionary[nn.Module, str]:
    """Why a model cannot be exported, and nothing where it can."""
    return WeakKeyDictionary()
