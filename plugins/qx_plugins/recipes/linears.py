"""Quantize linear layers by torchao's ``quantize_``. It imports torch: import it inside functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from attrs import frozen
from torch import nn

from qx import FloatLayers, Unsupported
from qx_plugins.recipes.bfloat16 import unwrap
from qx_plugins.recipes.naming import first_names
from qx_plugins.recipes.tracing import check_layers

Model = TypeVar("Model", bound=nn.Module)


@frozen
class Kernel:
    """The linear layers that a kernel supports."""

    #: Whether the kernel supports a layer.
    supports: Callable[[nn.Linear], bool]
    #: The condition of ``supports`` in words, for messages.
    condition: str


#: A kernel that supports every linear layer.
ANY = Kernel(lambda _: True, "")


def multiples(inputs: int, outputs: int = 1) -> Kernel:
    """Return a kernel that supports layers whose numbers of inputs and outputs are multiples of these."""
    condition = f"with inputs in multiples of {inputs}"
    if outputs > 1:
        condition += f" and outputs in multiples of {outputs}"
    return Kernel(
        lambda layer: layer.in_features % inputs == 0 and layer.out_features % outputs == 0, condition
    )


def check_linears(model: nn.Module, kernel: Kernel = ANY) -> None:
    """Raise ``Unsupported``, with the reason, where the kernel supports no layer of the model."""
    model = unwrap(model)
    linears = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    if not linears:
        check_layers(model)
        raise Unsupported(f"torchao quantizes only nn.Linear, and {type(model).__name__} has none")
    if not any(map(kernel.supports, linears.values())):
        name, layer = next(iter(linears.items()))
        raise Unsupported(
            f"the model has no nn.Linear {kernel.condition}: the first of {len(linears)}, {name!r}, "
            f"has {layer.in_features} inputs and {layer.out_features} outputs"
        )


def supported_linears(model: nn.Module, kernel: Kernel = ANY) -> list[str]:
    """Return the names of the linear layers that the kernel supports."""
    layers = unwrap(model).named_modules()
    return [name for name, layer in layers if isinstance(layer, nn.Linear) and kernel.supports(layer)]


def left_in_float(model: nn.Module, in_float: FloatLayers, kernel: Kernel) -> tuple[str, ...]:
    """Return a note with the linear layers that the kernel does not support; empty where it supports all.

    Layers that the user leaves in float are not in it. Call it before the model is quantized.
    """
    supported = {*supported_linears(model, kernel)}
    left = [name for name in supported_linears(model) if name not in supported and name not in in_float]
    if not left:
        return ()
    shown = first_names([*map(repr, left)])
    return (f"layer {shown} left in float: the kernel takes nn.Linear {kernel.condition}",)


def quantize_linears(model: Model, recipe: Any, in_float: FloatLayers, kernel: Kernel = ANY) -> Model:
    """Quantize the linear layers that the kernel supports, in place, and return the model.

    Those of ``in_float`` stay as they are. Raises ``Unsupported`` where the kernel supports no layer.
    """
    from torchao.quantization import quantize_

    check_linears(model, kernel)
    names = [name for name in supported_linears(model, kernel) if name not in in_float]
    chosen = {id(unwrap(model).get_submodule(name)) for name in names}
    quantize_(model, recipe, filter_fn=lambda layer, _: id(layer) in chosen)
    return model
