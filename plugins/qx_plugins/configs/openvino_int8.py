"""Convolutions and linear layers in int8 by NNCF's post-training quantization, served by OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qx import Artifact, Config, Context, Rounding, hookimpl
from qx_plugins.recipes import layer_names, prechecks
from qx_plugins.recipes.bit_widths import ACTIVATION_BITS, USUAL, activation_bits
from qx_plugins.recipes.calibration import keep_calibration_batches, take_calibration_batches
from qx_plugins.recipes.saturation import saturates
from qx_plugins.runtimes import EXPORTING
from qx_plugins.runtimes.openvino import CONVERTING

if TYPE_CHECKING:
    import torch
    from torch import nn

    from qx import Batch


#: Note about a width for which the runtime has no integer kernels.
IN_FLOAT = "OpenVINO rounds activations to 16 bits and computes in float: its integer kernels are for 8 bits"


@hookimpl
def describe() -> Config:
    return Config(
        name="openvino_int8",
        summary="Static int8 by NNCF, calibrated, biases corrected, in OpenVINO.",
        requires=(*CONVERTING, "nncf>=2.14"),
        extra="openvino",
        imports=EXPORTING,
        float_layers=True,
        calibration=True,
        options=[ACTIVATION_BITS],
        runtime_baseline="openvino_fp32",
    )


check_model = prechecks.check_onnx_or_export
quantized_layers = layer_names.layers_of_graphs


@hookimpl
def calibrate(model: nn.Module, batches: Sequence[Batch]) -> nn.Module:
    return keep_calibration_batches(model, batches)


@hookimpl
def rounding(context: Context) -> Rounding:
    return Rounding(weight_bits=7 if _reduces(context) else 8, activation_bits=activation_bits(context))


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.recipes.exporting import QUANTIZER_FAULTS, explain_lowering
    from qx_plugins.recipes.saturation import SEVEN_BITS
    from qx_plugins.runtimes.openvino.converting import build_artifact

    # One image at a time: NNCF takes statistics of each sample, whatever its batch size.
    images = [
        [array[index : index + 1] for array in batch.inputs.values()]
        for batch in take_calibration_batches(model)
        for index in range(len(next(iter(batch.inputs.values()))))
    ]

    is_usual, reduces = activation_bits(context) == USUAL, _reduces(context)

    def quantize(converted: Any, in_float: list[str]) -> Any:
        import nncf
        from nncf.quantization.advanced_parameters import (
            AdvancedQuantizationParameters,
            OverflowFix,
            QuantizationParameters,
        )

        wide = None if is_usual else QuantizationParameters(num_bits=activation_bits(context))

        with explain_lowering(None, "cannot be quantized by NNCF", unrelated=QUANTIZER_FAULTS):
            return nncf.quantize(
                converted,
                nncf.Dataset(images),
                subset_size=len(images),
                fast_bias_correction=True,
                ignored_scope=nncf.IgnoredScope(names=in_float) if in_float else None,
                advanced_parameters=AdvancedQuantizationParameters(
                    overflow_fix=OverflowFix.ENABLE if reduces else OverflowFix.DISABLE,
                    **({} if wide is None else {"activations_quantization_params": wide}),
                ),
            )

    notes = (*([SEVEN_BITS] if reduces else []), *([] if is_usual else [IN_FLOAT]))
    return build_artifact(model, example_inputs, context, quantize, notes=notes, with_cache=False)


def _reduces(context: Context) -> bool:
    """Whether weights have 7 bits, since sums of 8-bit products could overflow on this CPU."""
    return activation_bits(context) == USUAL and saturates()
