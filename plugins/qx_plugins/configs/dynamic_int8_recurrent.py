"""Recurrent and linear layers with int8 weights; activations are quantized at each call by their range."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Config, Context, Unsupported, hookimpl
from qx_plugins.recipes import layer_names
from qx_plugins.recipes.weight_scales import WEIGHT_SCALES

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="dynamic_int8_recurrent",
        summary="Recurrent and linear layers with int8 weights, activations quantized at run time.",
        float_layers=True,
        options=(WEIGHT_SCALES,),
    )


@hookimpl
def check_model(model: nn.Module) -> None:
    from torch import nn

    from qx_plugins.recipes.recurrent import check_recurrent, name_layers, recurrent_layers

    quantized = (nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell)
    limit = "torch quantizes LSTM, GRU, LSTMCell, GRUCell and RNNCell, and no subclasses of them"
    check_recurrent(model, lambda layer: type(layer) in quantized, limit)
    for name, layer in recurrent_layers(model).items():
        (words,) = name_layers({name: layer})
        if not isinstance(layer, quantized):
            # nn.RNN stays in float32.
            continue
        if type(layer) not in quantized:
            raise Unsupported(f"{words}: {limit}")
        if not layer.bias:
            raise Unsupported(f"{words} has no biases, which torch's int8 kernel needs")
        if getattr(layer, "proj_size", 0):
            raise Unsupported(f"{words} has proj_size={layer.proj_size}, which torch's int8 kernel ignores")


quantized_layers = layer_names.recurrent_and_linear_layers


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> nn.Module:
    import torch

    from qx_plugins.recipes.tracing import explain_errors
    from qx_plugins.recipes.transformers import avoid_fused_kernels
    from qx_plugins.runtimes.torch_eager.dynamic import LINEAR_AND_RECURRENT, quantize_weights

    avoid_fused_kernels(model)
    with explain_errors(model, "cannot be quantized"):
        quantized = quantize_weights(model, context, LINEAR_AND_RECURRENT)
    if context.folder is not None:
        # A build, and no launch, which is timed: torch notices what a kernel does not take when it is called.
        with torch.no_grad(), explain_errors(quantized, "does not run in 8 bits"):
            quantized(*example_inputs)
    return quantized
