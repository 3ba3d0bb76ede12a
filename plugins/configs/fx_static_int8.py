"""Static int8 by tracing the model with torch.fx: for models without stubs and without ``fuse_model``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qx_plugins.calibration import keep, observe, taken

from qx import Config, Context, hookimpl

if TYPE_CHECKING:
    import torch
    from torch import nn

    from qx.records import Arrays


@hookimpl
def describe() -> Config:
    return Config(
        name="fx_static_int8",
        summary="Static int8 by torch.fx, calibrated; needs no stubs; weights per channel.",
        calibration=True,
    )


@hookimpl
def can_treat(model: nn.Module) -> None:
    import torch
    from qx_plugins.tracing import blaming, check_python

    check_python(model)
    with blaming(model, "torch.fx"):
        torch.fx.symbolic_trace(model)


@hookimpl
def prepare_model(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> nn.Module:
    from qx_plugins.tracing import blaming
    from torch.ao.quantization import (
        QConfig,
        default_observer,
        default_per_channel_weight_observer,
        get_default_qconfig_mapping,
    )
    from torch.ao.quantization.quantize_fx import prepare_fx

    # The mapping knows the operators whose range is fixed (sigmoid, softmax); all others are observed as in
    # static_int8_per_channel.
    recipe = QConfig(activation=default_observer, weight=default_per_channel_weight_observer)
    mapping = get_default_qconfig_mapping(context.engine).set_global(recipe)
    with blaming(model, "torch.fx"):
        return prepare_fx(model.eval(), mapping, example_inputs)


@hookimpl
def calibrate(model: nn.Module, batches: Sequence[Arrays]) -> nn.Module:
    return keep(observe(model, batches), batches)


@hookimpl
def convert(model: nn.Module) -> nn.Module:
    from qx_plugins.eager import proven
    from qx_plugins.tracing import blaming
    from torch.ao.quantization.quantize_fx import convert_fx

    batches = taken(model)
    with blaming(model, "torch.fx"):
        made = convert_fx(model)
    return proven(made, batches)
