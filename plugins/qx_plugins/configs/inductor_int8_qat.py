"""As ``inductor_int8``, with weights from quantization-aware fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, float_layers, hookimpl
from qx_plugins.recipes import layer_names, prechecks, roundings
from qx_plugins.recipes.training_options import OPTIONS
from qx_plugins.runtimes import EXPORTING
from qx_plugins.runtimes.aot_inductor import pt2e
from qx_plugins.runtimes.aot_inductor.compiling import COMPILERS, KERNEL_PROFILE

if TYPE_CHECKING:
    import torch
    from torch import nn

    from qx import Batch


@hookimpl
def describe() -> Config:
    return Config(
        name="inductor_int8_qat",
        summary="Static int8 on the exported graph, fine-tuned for an epoch, compiled by Inductor.",
        requires=pt2e.requires(),
        extra="torchao",
        imports=EXPORTING,
        programs=COMPILERS,
        float_layers=True,
        training=True,
        options=(*OPTIONS, KERNEL_PROFILE),
        runtime_baseline="inductor_fp32",
    )


@hookimpl
def check_model(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> None:
    from qx_plugins.recipes.graphs import check_not_a_graph

    check_not_a_graph(model)
    prechecks.check_export(model, example_inputs, context)


quantized_layers = layer_names.static_layers
rounding = roundings.without_overflow


@hookimpl
def prepare_model(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> nn.Module:
    in_float = float_layers(model, context)
    return pt2e.prepare_graph(model, example_inputs, context.lengths, in_float=in_float, training=True)


@hookimpl
def calibrate(model: nn.Module, batches: Sequence[Batch], context: Context) -> nn.Module:
    from qx_plugins.recipes.finetuning import fine_tune

    modes = pt2e.library()
    return fine_tune(model, batches, context, to_eval=modes.to_eval, freeze_normalisation=modes.to_eval)


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    return pt2e.build_artifact(model, example_inputs, context)
