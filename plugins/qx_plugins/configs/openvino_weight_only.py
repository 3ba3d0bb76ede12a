"""Weights of linear layers in 4 or 8 bits by NNCF's weight compression, served by OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qx import Artifact, Config, Context, Option, Rounding, Unsupported, float_layers, hookimpl
from qx_plugins.recipes import layer_names, prechecks
from qx_plugins.recipes.calibration import (
    CORRECTION_ITEMS,
    keep_calibration_batches,
    take_calibration_batches,
)
from qx_plugins.runtimes import EXPORTING
from qx_plugins.runtimes.openvino import CACHE, CONVERTING

if TYPE_CHECKING:
    import torch
    from torch import nn

    from qx import Batch

#: Value of the option ``correction`` for weights that are rounded without a look at data.
NO_CORRECTION = "none"
#: Corrections of NNCF, and which of them it takes together.
CORRECTIONS = (
    NO_CORRECTION,
    *("awq", "scale_estimation", "awq+scale_estimation"),
    *("gptq", "awq+gptq", "scale_estimation+gptq", "awq+scale_estimation+gptq"),
    *("lora_correction", "awq+lora_correction"),
    *("scale_estimation+lora_correction", "awq+scale_estimation+lora_correction"),
)


@hookimpl
def describe() -> Config:
    return Config(
        name="openvino_weight_only",
        summary="Weights of linear layers in 4 or 8 bits by NNCF, activations in float, in OpenVINO.",
        requires=(*CONVERTING, "nncf>=2.14"),
        extra="openvino",
        imports=EXPORTING,
        float_layers=True,
        calibration=True,
        options=(
            Option(name="bits", default=4, choices=(4, 8), help="Bits of a weight."),
            Option(
                name="group_size",
                default=32,
                choices=(16, 32, 64, 128, 256),
                help="Weights of a row that share a scale and a zero point; of 8 bits a whole row does.",
            ),
            Option(
                name="correction",
                default=NO_CORRECTION,
                choices=CORRECTIONS,
                help="What NNCF makes up for of the rounding, by calibration items (4 bits).",
            ),
            CORRECTION_ITEMS,
            CACHE,
        ),
        runtime_baseline="openvino_fp32",
    )


quantized_layers = layer_names.products


@hookimpl
def check_model(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> None:
    _check_correction(context)
    prechecks.check_products(model, example_inputs, context)


@hookimpl
def calibrate(model: nn.Module, batches: Sequence[Batch]) -> nn.Module:
    return keep_calibration_batches(model, batches)


@hookimpl
def rounding(context: Context) -> Rounding:
    bits, size = context.options["bits"], context.options["group_size"]
    return Rounding(weight_bits=bits, group_size=size if bits == 4 else None, activation_bits=None)


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.networks.decoder_graphs import graph_inputs
    from qx_plugins.recipes.exporting import QUANTIZER_FAULTS, explain_lowering
    from qx_plugins.runtimes.openvino.converting import build_artifact

    _check_correction(context)
    corrections = _corrections(context)
    batches = take_calibration_batches(model)
    bits, size = int(context.options["bits"]), int(context.options["group_size"])

    def compress(converted: Any, in_float: list[str]) -> Any:
        import nncf

        modes = nncf.CompressWeightsMode
        choice: dict[str, Any] = {"mode": modes.INT8_ASYM}
        if bits == 4:
            # Otherwise the embedding and the last layer would stay in 8 bits.
            choice = {"mode": modes.INT4_ASYM, "group_size": size, "all_layers": True, "ratio": 1.0}
        if corrections:
            items = graph_inputs(model, batches, len(converted.inputs))
            choice |= {"dataset": nncf.Dataset(items), "subset_size": len(items)}
            choice |= dict.fromkeys(corrections, True)
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


def _corrections(context: Context) -> list[str]:
    """Return the names of NNCF's corrections that the option says."""
    chosen = str(context.options.get("correction", NO_CORRECTION))
    return [] if chosen == NO_CORRECTION else chosen.split("+")


def _check_correction(context: Context) -> None:
    """Raise ``Unsupported`` for a correction of 8 bits, which NNCF does not have."""
    if _corrections(context) and int(context.options.get("bits", 4)) != 4:
        raise Unsupported(
            f"NNCF corrects weights of 4 bits alone: choose bits=4 or correction={NO_CORRECTION}, "
            f"not correction={context.options['correction']} with bits={context.options['bits']}"
        )


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
