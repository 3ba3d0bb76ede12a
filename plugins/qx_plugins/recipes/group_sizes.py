"""Which layers have a number of inputs that groups of weights do not divide. It imports torch."""

from __future__ import annotations

from torch import nn

from qx import FloatLayers
from qx_plugins.recipes.bfloat16 import unwrap
from qx_plugins.recipes.naming import first_names


def undivided_layers(model: nn.Module, size: int, in_float: FloatLayers) -> dict[str, tuple[int, ...]]:
    """Return the numbers of inputs of linear and recurrent layers that are no multiple of ``size``, by name.

    Layers that stay in float are left out, since they have no groups.
    """
    inputs = {
        name: (layer.in_features,) if isinstance(layer, nn.Linear) else (layer.input_size, layer.hidden_size)
        for name, layer in unwrap(model).named_modules()
        if isinstance(layer, (nn.Linear, nn.RNNBase, nn.RNNCellBase)) and name not in in_float
    }
    return {name: sizes for name, sizes in inputs.items() if any(count % size for count in sizes)}


def describe_layers(layers: dict[str, tuple[int, ...]]) -> str:
    """Return the layers of ``undivided_layers`` as words, the first ones by name."""
    return first_names(
        [f"{name!r} ({' and '.join(map(str, sizes))} inputs)" for name, sizes in layers.items()]
    )
