"""Static int8 by tracing the model with torch.fx: for models without stubs and without ``fuse_model``."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qx import Config, Context, float_layers, hookimpl
from qx_plugins.recipes import layer_names
from qx_plugins.recipes.calibration import (
    keep_calibration_batches,
    observe,
    take_calibration_batches,
    to_tensors,
)

if TYPE_CHECKING:
    import torch
    from torch import fx, nn

    from qx import Batch


@hookimpl
def describe() -> Config:
    return Config(
        name="fx_static_int8",
        summary="Static int8 by torch.fx, calibrated; needs no stubs; weights per channel.",
        calibration=True,
        float_layers=True,
    )


@hookimpl
def check_model(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> None:
    import torch

    from qx_plugins.recipes.tracing import check_layers, explain_errors, required_arguments_only

    check_layers(model)
    with explain_errors(model, "torch.fx"), required_arguments_only(model, len(example_inputs)):
        torch.fx.symbolic_trace(model)


quantized_layers = layer_names.traced_layers


@hookimpl
def prepare_model(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> nn.Module:
    from torch.ao.quantization import (
        QConfig,
        default_observer,
        default_per_channel_weight_observer,
        get_default_qconfig_mapping,
    )
    from torch.ao.quantization.quantize_fx import prepare_fx

    from qx_plugins.recipes.fidelity import compute_reference_in_build, verify_outputs
    from qx_plugins.recipes.fusing import make_fusible, original_name
    from qx_plugins.recipes.tracing import explain_errors, required_arguments_only
    from qx_plugins.runtimes.torch_eager.kernels import WRONG_KERNELS

    # The mapping has the operators of a fixed range (sigmoid, softmax). All others are observed as in
    # static_int8_per_channel.
    recipe = QConfig(activation=default_observer, weight=default_per_channel_weight_observer)
    mapping = get_default_qconfig_mapping(context.engine).set_global(recipe)
    for operation in WRONG_KERNELS:
        mapping.set_object_type(operation, None)
    in_float = float_layers(model, context)
    expected = compute_reference_in_build(model.eval(), example_inputs, context)
    with explain_errors(model, "torch.fx"), required_arguments_only(model, len(example_inputs)):
        fusible = make_fusible(model, example_inputs)
        for name, _ in fusible.named_modules():
            if original_name(name) in in_float:
                mapping.set_module_name(name, None)
        prepared = prepare_fx(fusible, mapping, example_inputs)
    if expected is not None:
        verify_outputs(expected, prepared, "torch.fx: fusing layers")
    return prepared


@hookimpl
def calibrate(model: nn.Module, batches: Sequence[Batch]) -> nn.Module:
    return keep_calibration_batches(observe(model, batches), batches)


@hookimpl
def convert(model: fx.GraphModule) -> nn.Module:
    from torch.ao.quantization.quantize_fx import convert_fx

    from qx_plugins.recipes.tracing import explain_errors
    from qx_plugins.runtimes.torch_eager.converting import replace_and_verify_kernels

    batches = take_calibration_batches(model)
    observed = copy.deepcopy(model) if batches else None
    with explain_errors(model, "torch.fx"):
        result = replace_and_verify_kernels(convert_fx(model), batches)
    if observed is not None:
        _verify_against_reference(observed, result, batches[0])
    return result


def _verify_against_reference(observed: fx.GraphModule, result: nn.Module, batch: Batch) -> None:
    """Raise ``Unsupported`` where 8-bit kernels differ from the same steps in floats."""
    from torch.ao.quantization.quantize_fx import convert_to_reference_fx

    from qx_plugins.recipes.fidelity import ITEMS, Reference, run_model, verify_compiled

    inputs = to_tensors({name: array[:ITEMS] for name, array in batch.inputs.items()})
    expected = Reference(inputs, run_model(observed, inputs))
    verify_compiled(expected, convert_to_reference_fx(observed), result, "converted by torch.fx, the model")
