"""Static quantization in eager mode, shared by its configs. It imports torch: import it inside functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from traceback import walk_tb
from typing import Any

import torch
from torch import nn
from torch.ao.quantization import (
    FusedMovingAvgObsFakeQuantize,
    QConfig,
    convert,
    default_fused_per_channel_wt_fake_quant,
    default_fused_wt_fake_quant,
    default_observer,
    default_weight_observer,
    fuse_modules,
    prepare,
    prepare_qat,
)

from qx import Batch, Context, Unsupported, float_layers
from qx_plugins.recipes.calibration import take_calibration_batches, to_tensors
from qx_plugins.recipes.fidelity import compute_reference_in_build, verify_outputs
from qx_plugins.recipes.finetuning import unquantized_copy
from qx_plugins.recipes.tracing import UNRELATED_ERRORS, explain_errors, name_layer
from qx_plugins.runtimes.torch_eager.float_layers import close_borders, keep_in_float
from qx_plugins.runtimes.torch_eager.kernels import replace_wrong_kernels

#: Attribute of a model in which torch expects the configuration of its quantization.
_QCONFIG = "qconfig"
#: Layers of which torch quantizes weights only with one scale for all channels.
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def prepare_static(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    context: Context,
    weight_observer: Any,
    activation_observer: Any = default_observer,
) -> nn.Module:
    """Fuse the model in eval mode and insert observers; activations are observed per tensor, for uint8.

    The layers of the option ``float_layers`` get none.
    """
    _check_fusible(model)
    in_float = float_layers(model, context)
    expected = compute_reference_in_build(model.eval(), example_inputs, context)
    _fuse(model)
    if expected is not None:
        verify_outputs(expected, model, "fuse_model()")
    _configure(model, activation_observer, weight_observer, default_weight_observer)
    keep_in_float(model, in_float, activation_observer)
    with explain_errors(model, "cannot be prepared for calibration"):
        prepared: nn.Module = prepare(model, inplace=True)
    return prepared


def prepare_for_training(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context
) -> nn.Module:
    """Fuse the model and insert fake quantization, which rounds like int8 and has gradients.

    Activations are quantized per tensor to 128 levels, as in the static configs, weights per channel. If the
    model's ``fuse_model`` takes ``is_qat`` (as torchvision's do), batch normalisation is kept and trained.
    Otherwise it is folded into the weights first. The layers of the option ``float_layers`` are trained in
    float.
    """
    _check_fusible(model)
    in_float = float_layers(model, context)
    expected = compute_reference_in_build(model.eval(), example_inputs, context)
    if "is_qat" in inspect.signature(_fuse_model_of(model)).parameters:
        _fuse(model.train(), is_qat=True)
    else:
        _fuse(model)
    activation = FusedMovingAvgObsFakeQuantize.with_args(quant_min=0, quant_max=127, dtype=torch.quint8)
    _configure(model, activation, default_fused_per_channel_wt_fake_quant, default_fused_wt_fake_quant)
    keep_in_float(model, in_float, default_observer)
    with explain_errors(model, "cannot be prepared for training in 8 bits"):
        prepared: nn.Module = prepare_qat(model.train(), inplace=True)
    if expected is not None:
        verify_outputs(expected, unquantized_copy(prepared, nn.Module.eval), "fuse_model()")
    return prepared


def _configure(model: nn.Module, activation: Any, weight: Any, weight_per_tensor: Any) -> None:
    """Say how a model is observed; ``weight_per_tensor`` is for weights of transposed convolutions.

    torch refuses them one scale for each channel, or puts it along the wrong dimension.
    """
    setattr(model, _QCONFIG, QConfig(activation=activation, weight=weight))
    for layer in model.modules():
        if isinstance(layer, _TRANSPOSED):
            setattr(layer, _QCONFIG, QConfig(activation=activation, weight=weight_per_tensor))


def convert_to_int8(model: nn.Module) -> nn.Module:
    """Convert a prepared model to 8 bits. Raises ``Unsupported`` where an operation has no 8-bit kernel."""
    batches = take_calibration_batches(model)
    with explain_errors(model, "cannot be converted to 8 bits"):
        result = convert(model.eval(), inplace=True)
    close_borders(result)
    return replace_and_verify_kernels(result, batches)


def replace_and_verify_kernels(model: nn.Module, batches: Sequence[Batch]) -> nn.Module:
    """Replace wrong kernels of a converted model, run it on the first calibration item, and return it.

    torch notices a missing kernel only when it is called. Raises ``Unsupported`` with the layer.
    """
    replace_wrong_kernels(model)
    for batch in batches[:1]:
        first = {name: array[:1] for name, array in batch.inputs.items()}
        with torch.no_grad(), explain_errors(model, "does not run in 8 bits"):
            model(*to_tensors(first))
    return model


def _check_fusible(model: nn.Module) -> None:
    if not hasattr(model, "fuse_model"):
        raise Unsupported(f"{type(model).__name__} has no fuse_model(), which eager-mode quantization calls")


def _fuse_model_of(model: Any) -> Callable[..., object]:
    """Return the model's own ``fuse_model``, which ``nn.Module`` does not have."""
    method: Callable[..., object] = model.fuse_model
    return method


def _fuse(model: nn.Module, **arguments: bool) -> None:
    try:
        _fuse_model_of(model)(**arguments)
    except UNRELATED_ERRORS:
        raise
    except Exception as error:
        modules = _modules_being_fused(error, model)
        raise Unsupported(
            f"fuse_model(): {f'{modules}; ' if modules else ''}{name_layer(error, model)}"
        ) from error


def _modules_being_fused(error: Exception, model: nn.Module) -> str:
    """Name the modules that torch was fusing when it raised; empty where torch did not raise."""
    names = {id(module): f"{name}." if name else "" for name, module in model.named_modules()}
    for frame, _ in reversed(list(walk_tb(error.__traceback__))):
        modules = frame.f_locals.get("modules_to_fuse", ())
        if frame.f_globals.get("__name__") == fuse_modules.__module__ and modules:
            prefix = names.get(id(frame.f_locals["model"]), "")
            return "modules " + ", ".join(repr(f"{prefix}{name}") for name in modules)
    return ""
