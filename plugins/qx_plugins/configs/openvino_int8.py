"""Convolutions and linear layers in int8 by NNCF's post-training quantization, served by OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qx import Artifact, Config, Context, hookimpl
from qx_plugins.recipes import layer_names, prechecks
from qx_plugins.recipes.calibration import keep_calibration_batches, take_calibration_batches
from qx_plugins.runtimes import EXPORTING
from qx_plugins.runtimes.openvino import CONVERTING

if TYPE_CHECKING:
    import torch
    from torch import nn

    from qx import Batch


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
        runtime_baseline="openvino_fp32",
    )


check_model = prechecks.check_onnx_or_export
quantized_layers = layer_names.layers_of_graphs


@hookimpl
def calibrate(model: nn.Module, batches: Sequence[Batch]) -> nn.Module:
    return keep_calibration_batches(model, batches)


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.recipes.exporting import QUANTIZER_FAULTS, explain_lowering
    from qx_plugins.recipes.saturation import SEVEN_BITS, saturates
    from qx_plugins.runtimes.openvino.converting import build_artifact

    # One image at a time: NNCF takes statistics of each sample, whatever its batch size.
    images = [
        [array[index : index + 1] for array in batch.inputs.values()]
        for batch in take_calibration_batches(model)
        for index in range(len(next(iter(batch.inputs.values()))))
    ]

    def quantize(converted: Any, in_float: list[str]) -> Any:
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

        with explain_lowering(None, "cannot be quantized by NNCF", unrelated=QUANTIZER_FAULTS):
            return nncf.quantize(
                converted,
                nncf.Dataset(images),
                subset_size=len(images),
                fast_bias_correction=True,
                ignored_scope=nncf.IgnoredScope(names=in_float) if in_float else None,
                advanced_parameters=AdvancedQuantizationParameters(
                    overflow_fix=OverflowFix.ENABLE if saturates() else OverflowFix.DISABLE
                ),
            )

    notes = (SEVEN_BITS,) if saturates() else ()
    return build_artifact(model, example_inputs, context, quantize, notes=notes, with_cache=False)
