"""Weights of linear layers in 4 or 8 bits by NNCF's weight compression, served by OpenVINO."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qx import Artifact, Config, Context, Option, Unsupported, float_layers, hookimpl
from qx_plugins.recipes import layer_names, prechecks
from qx_plugins.runtimes import EXPORTING
from qx_plugins.runtimes.openvino import CONVERTING

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="openvino_weight_only",
        summary="Weights of linear layers in 4 or 8 bits by NNCF, activations in float, in OpenVINO.",
        requires=(*CONVERTING, "nncf>=2.14"),
        extra="openvino",
        imports=EXPORTING,
        float_layers=True,
        options=(
            Option(name="bits", default=4, choices=(4, 8), help="Bits of a weight."),
            Option(
                name="group_size",
                default=32,
                choices=(16, 32, 64, 128, 256),
                help="Weights of a row that share a scale and a zero point; of 8 bits a whole row does.",
            ),
        ),
        runtime_baseline="openvino_fp32",
    )


check_model = prechecks.check_products
quantized_layers = layer_names.products


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.recipes.exporting import QUANTIZER_FAULTS, explain_lowering
    from qx_plugins.runtimes.openvino.converting import build_artifact

    bits, size = int(context.options["bits"]), int(context.options["group_size"])

    def compress(converted: Any, in_float: list[str]) -> Any:
        import nncf

        modes = nncf.CompressWeightsMode
        choice: dict[str, Any] = {"mode": modes.INT8_ASYM}
        if bits == 4:
            # Otherwise the embedding and the last layer would stay in 8 bits.
            choice = {"mode": modes.INT4_ASYM, "group_size": size, "all_layers": True, "ratio": 1.0}
        try:
            with explain_lowering(None, "cannot be compressed by NNCF", unrelated=QUANTIZER_FAULTS):
                return nncf.compress_weights(
                    converted,
                    ignored_scope=nncf.IgnoredScope(names=in_float) if in_float else None,
                    **choice,
                )
        except Unsupported as error:
            raise Unsupported(f"{error}; groups of {size}{_undivided(model, size, context)}") from error

    return build_artifact(model, example_inputs, context, compress)


def _undivided(model: nn.Module, size: int, context: Context) -> str:
    """Return which layers have inputs that are no multiple of the size of a group; empty for none."""
    from qx_plugins.recipes.group_sizes import describe_layers, undivided_layers

    layers = undivided_layers(model, size, float_layers(model, context))
    if not layers:
        return ""
    return (
        f" do not divide the inputs of layer {describe_layers(layers)}: choose a group_size that does, or "
        f"leave these in float (float_layers)"
    )
