"""Find the recurrent layers of a model. Light: torch is imported inside functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from qx import Unsupported

if TYPE_CHECKING:
    from torch import nn


def recurrent_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the recurrent layers of a model, cells among them, by name; the model itself is ``""``."""
    from torch import nn

    kinds = (nn.RNNBase, nn.RNNCellBase)
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds)}


def check_recurrent(model: nn.Module, is_quantized: Callable[[nn.Module], bool], limit: str) -> None:
    """Raise ``Unsupported`` where the model has no recurrent layer, or none that is quantized.

    ``limit`` says which recurrent layers the runtime quantizes.
    """
    from qx_plugins.recipes.tracing import check_layers

    layers = recurrent_layers(model)
    if not layers:
        check_layers(model)
        raise Unsupported(f"{type(model).__name__} has no recurrent layer, which this config is for")
    if not any(map(is_quantized, layers.values())):
        raise Unsupported(f"{', '.join(name_layers(layers))}: {limit}")


def name_layers(layers: Mapping[str, nn.Module]) -> Iterator[str]:
    """Yield a few words for each layer: ``layer 'body.0' (GRU)``."""
    for name, layer in layers.items():
        kind = type(layer).__name__
        yield f"layer {name!r} ({kind})" if name else f"the model ({kind})"
