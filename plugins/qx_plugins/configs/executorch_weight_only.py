"""Weights of linear layers in 4 bits by group, activations in 8 bits at each call, served by ExecuTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from qx import Artifact, Config, Context, Option, Rounding, float_layers, hookimpl
from qx_plugins.recipes import prechecks
from qx_plugins.runtimes import EXPORTING
from qx_plugins.runtimes.executorch import CONVERTING

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.export import ExportedProgram

    from qx_plugins.recipes.fidelity import Reference

#: Group sizes, all multiples of the first: a row that it does not divide is not divided by any other.
GROUP_SIZES = (32, 64, 128, 256)
#: Ways of rounding, by the names that torchao has for them.
METHODS = {"rtn": "affine", "hqq": "hqq_scale_only"}


@hookimpl
def describe() -> Config:
    return Config(
        name="executorch_weight_only",
        summary="Weights of linear layers in 4 bits by group, activations in int8 at each call; ExecuTorch.",
        requires=(*CONVERTING, "torchao>=0.18"),
        extra="executorch",
        imports=EXPORTING,
        float_layers=True,
        options=(
            Option(
                name="group_size",
                default=GROUP_SIZES[0],
                choices=GROUP_SIZES,
                help="Weights of a row that share a scale.",
            ),
            Option(
                name="method",
                default="rtn",
                choices=tuple(METHODS),
                help="How weights are rounded: to the nearest, or by half-quadratic optimization.",
            ),
        ),
        runtime_baseline="executorch_fp32",
    )


@hookimpl
def check_model(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> None:
    from qx_plugins.recipes.linears import check_linears, multiples

    check_linears(model, multiples(int(context.options.get("group_size", GROUP_SIZES[0]))))
    prechecks.check_export(model, example_inputs, context)


@hookimpl
def quantized_layers(model: nn.Module, context: Context) -> list[str]:
    from qx_plugins.recipes.linears import multiples, supported_linears

    return supported_linears(model, multiples(context.options["group_size"]))


@hookimpl
def rounding(context: Context) -> Rounding:
    return Rounding(weight_bits=4, group_size=context.options["group_size"])


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    import torch
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig
    from torchao.quantization.granularity import PerGroup

    from qx_plugins.recipes.exporting import export_model
    from qx_plugins.recipes.linears import left_in_float, multiples, quantize_linears
    from qx_plugins.recipes.rewriting import rewrite_program
    from qx_plugins.runtimes.executorch.converting import build_artifact, most_items

    in_float = float_layers(model, context)
    size = int(context.options["group_size"])
    recipe = Int8DynamicActivationIntxWeightConfig(
        weight_dtype=torch.int4,  # type: ignore[attr-defined, unused-ignore]
        weight_granularity=PerGroup(size),
        intx_choose_qparams_algorithm=METHODS[str(context.options["method"])],
    )

    notes = left_in_float(model, in_float, multiples(size))

    def quantize(_program: ExportedProgram, _expected: Reference) -> nn.Module:
        quantized = quantize_linears(model, recipe, in_float, multiples(size))
        program = export_model(quantized, example_inputs, most_items(context), context.lengths)
        return rewrite_program(program) or quantized

    artifact = build_artifact(model, example_inputs, context, quantize)
    return evolve(artifact, notes=[*artifact.notes, *notes])
