"""Implementations of the hook ``quantized_layers``: which layers a config quantizes and can leave in float.

Light: torch is imported inside functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import hookimpl

if TYPE_CHECKING:
    from torch import nn


def layers_of(model: nn.Module, kinds: tuple[type, ...]) -> list[str]:
    """Return the names of the layers of exactly these kinds."""
    return [name for name, layer in model.named_modules() if name and type(layer) in kinds]


def _instances(model: nn.Module, kinds: tuple[type, ...]) -> list[str]:
    return [name for name, layer in model.named_modules() if name and isinstance(layer, kinds)]


@hookimpl(specname="quantized_layers")
def linear_layers(model: nn.Module) -> list[str]:
    """Return the linear layers."""
    from torch import nn

    return layers_of(model, (nn.Linear,))


@hookimpl(specname="quantized_layers")
def linears_and_their_kinds(model: nn.Module) -> list[str]:
    """Return the linear layers, those of derived classes too."""
    from torch import nn

    return _instances(model, (nn.Linear,))


@hookimpl(specname="quantized_layers")
def recurrent_and_linear_layers(model: nn.Module) -> list[str]:
    """Return the linear layers, and the recurrent ones that torch quantizes."""
    from torch import nn

    return layers_of(model, (nn.Linear, nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell))


@hookimpl(specname="quantized_layers")
def static_layers(model: nn.Module) -> list[str]:
    """Return the linear layers and the convolutions."""
    from torch import nn

    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    return layers_of(model, (nn.Linear, *convolutions, *transposed))


@hookimpl(specname="quantized_layers")
def traced_layers(model: nn.Module) -> list[str]:
    """Return the layers that torch.fx quantizes: linear layers and convolutions, but none transposed."""
    from torch import nn

    return layers_of(model, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))


@hookimpl(specname="quantized_layers")
def layers_of_graphs(model: nn.Module) -> list[str]:
    """Return the layers whose weights quantizers of graphs find: all with a matrix, but recurrent ones."""
    from torch import nn

    others = (nn.RNNBase, nn.RNNCellBase, nn.LayerNorm)
    return [
        name
        for name, layer in model.named_modules()
        if name
        and not isinstance(layer, others)
        and any(parameter.dim() >= 2 for parameter in layer.parameters(recurse=False))
    ]


@hookimpl(specname="quantized_layers")
def products(model: nn.Module) -> list[str]:
    """Return the layers that multiply by matrices: linear ones, attention and recurrent cells."""
    from torch import nn

    return _instances(model, (nn.Linear, nn.MultiheadAttention, nn.RNNCellBase))


@hookimpl(specname="quantized_layers")
def products_and_lstm(model: nn.Module) -> list[str]:
    """Return the layers that multiply by matrices, and LSTM."""
    from torch import nn

    return _instances(model, (nn.Linear, nn.MultiheadAttention, nn.RNNCellBase, nn.LSTM))
