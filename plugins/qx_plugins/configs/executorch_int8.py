"""Convolutions and linear layers in int8 by PT2E and XNNPACK's quantizer, served by ExecuTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, float_layers, hookimpl
from qx_plugins.recipes import layer_names, prechecks
from qx_plugins.recipes.calibration import keep_calibration_batches, observe, take_calibration_batches
from qx_plugins.runtimes import EXPORTING
from qx_plugins.runtimes.executorch import CONVERTING

if TYPE_CHECKING:
    import torch
    from torch import fx, nn
    from torch.export import ExportedProgram

    from qx import Batch
    from qx_plugins.recipes.fidelity import Reference


@hookimpl
def describe() -> Config:
    return Config(
        name="executorch_int8",
        summary="Static int8, calibrated, one scale for each output channel; ExecuTorch with XNNPACK.",
        requires=(*CONVERTING, "torchao>=0.18"),
        extra="executorch",
        imports=EXPORTING,
        calibration=True,
        float_layers=True,
        runtime_baseline="executorch_fp32",
    )


check_model = prechecks.check_export
quantized_layers = layer_names.static_layers


@hookimpl
def calibrate(model: nn.Module, batches: Sequence[Batch]) -> nn.Module:
    return keep_calibration_batches(model, batches)


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.recipes.fidelity import verify_outputs
    from qx_plugins.recipes.float_nodes import leave_in_float
    from qx_plugins.recipes.masking import is_adding, is_masked
    from qx_plugins.runtimes.executorch.converting import build_artifact

    batches, in_float = take_calibration_batches(model), float_layers(model, context)

    def quantize(program: ExportedProgram, expected: Reference) -> nn.Module:
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer import QuantizationAnnotation

        class Quantizer(XNNPACKQuantizer):  # type: ignore[misc, unused-ignore]
            def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
                leave_in_float(model, in_float, QuantizationAnnotation)
                annotated: fx.GraphModule = super().annotate(model)
                return annotated

        quantizer = Quantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        quantizer.set_filter_function(lambda node: not (is_adding(node) or is_masked(node)))
        prepared = prepare_pt2e(program.module(), quantizer)
        verify_outputs(expected, prepared, "folding normalization into weights")
        quantized: nn.Module = convert_pt2e(observe(prepared, batches))
        return quantized

    return build_artifact(model, example_inputs, context, quantize)
