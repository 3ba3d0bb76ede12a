"""Weights of linear layers in 4 bits by torchao, all arithmetic in bfloat16; compiled by Inductor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx_plugins import treatable
from qx_plugins.inductor import COMPILERS, compiled, exported
from qx_plugins.pt2e import TORCHAO

from qx import Artifact, Config, Context, Option, Unsupported, hookimpl

if TYPE_CHECKING:
    import torch
    from torch import nn

#: The kernel computes so many outputs at once.
OUTPUTS = 16


@hookimpl
def describe() -> Config:
    return Config(
        name="torchao_int4_weight_only",
        summary="torchao: weights of linear layers in 4 bits, arithmetic in bfloat16; compiled by Inductor.",
        requires=TORCHAO,
        extra="torchao",
        programs=COMPILERS,
        options=(
            Option(
                name="group_size",
                default=32,
                choices=(32, 64, 128, 256),
                help="Weights of a row that share a scale and a zero point.",
            ),
        ),
        runtime_baseline="inductor_fp32",
    )


can_treat = treatable.by_linears_and_export


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.bfloat16 import Bfloat16
    from qx_plugins.linears import quantized

    try:
        from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig
    except ImportError as error:
        raise Unsupported(f"this version of torchao has no 4-bit weights for CPUs: {error}") from error
    size = context.options["group_size"]
    model = quantized(
        Bfloat16(model),
        PrototypeInt4WeightOnlyConfig(group_size=size),
        takes=lambda one: one.in_features % size == 0 and one.out_features % OUTPUTS == 0,
        needs=f"whose inputs are a multiple of {size} and whose outputs are one of {OUTPUTS}",
    )
    return compiled(exported(model, example_inputs), context.folder)
