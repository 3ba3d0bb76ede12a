"""Static int8 on the exported graph (PT2E with X86InductorQuantizer), compiled ahead of time by Inductor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, float_layers, hookimpl
from qx_plugins.recipes import layer_names, prechecks, roundings
from qx_plugins.recipes.calibration import observe
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
        name="inductor_int8",
        summary="Static int8 on the exported graph, calibrated, compiled by Inductor; weights per channel.",
        requires=pt2e.requires(),
        extra="torchao",
        imports=EXPORTING,
        programs=COMPILERS,
        options=(KERNEL_PROFILE,),
        float_layers=True,
        calibration=True,
        runtime_baseline="inductor_fp32",
    )


check_model = prechecks.check_export
quantized_layers = layer_names.static_layers
rounding = roundings.without_overflow


@hookimpl
def prepare_model(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> nn.Module:
    in_float = float_layers(model, context)
    return pt2e.prepare_graph(model, example_inputs, context.lengths, in_float=in_float)


@hookimpl
def calibrate(model: nn.Module, batches: Sequence[Batch]) -> nn.Module:
    return observe(model, batches)


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    return pt2e.build_artifact(model, example_inputs, context)
