"""Static int8 with quantization-aware fine-tuning; weights per channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qx import Config, Context, hookimpl
from qx_plugins.recipes import layer_names
from qx_plugins.recipes.calibration import keep_calibration_batches
from qx_plugins.recipes.training_options import OPTIONS

if TYPE_CHECKING:
    import torch
    from torch import nn

    from qx import Batch


@hookimpl
def describe() -> Config:
    return Config(
        name="qat_int8",
        summary="Static int8, fine-tuned for an epoch with fake quantization; weights per channel.",
        training=True,
        quantizable=True,
        float_layers=True,
        options=OPTIONS,
    )


quantized_layers = layer_names.static_layers


@hookimpl
def prepare_model(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> nn.Module:
    from qx_plugins.runtimes.torch_eager.converting import prepare_for_training

    return prepare_for_training(model, example_inputs, context)


@hookimpl
def calibrate(model: nn.Module, batches: Sequence[Batch], context: Context) -> nn.Module:
    from qx_plugins.recipes.finetuning import fine_tune

    return keep_calibration_batches(fine_tune(model, batches, context), batches)


@hookimpl
def convert(model: nn.Module) -> nn.Module:
    from qx_plugins.runtimes.torch_eager.converting import convert_to_int8

    return convert_to_int8(model)
