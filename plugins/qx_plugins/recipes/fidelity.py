"""Check that a rewritten or compiled network computes the same as the network before it.

It imports torch: import it inside functions.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from attrs import frozen
from torch import nn

from qx import Context, Unsupported
from qx_plugins.recipes.tracing import explain_errors

#: Least signal-to-noise ratio of a network that was fused, folded or compiled in float32, in dB. Rounding
#: alone leaves more than 100, weights folded twice or along the wrong dimension less than 30.
SAME_DB = 60.0
#: Least signal-to-noise ratio of a compiled quantized network against its program in torch, in dB. The two
#: round at different places, which does not explain less than this ...
WRONG_DB = 20.0
#: ... unless quantization itself leaves little more. Rounding at other places adds less noise than
#: quantization did, with this margin for chance, in dB.
CHANCE_DB = 6.0
#: Number of items that networks are compared on.
ITEMS = 2


@frozen
class Reference:
    """Inputs and the outputs of a network for them."""

    inputs: tuple[torch.Tensor, ...]
    outputs: tuple[torch.Tensor, ...]


def cast_inputs(reference: Reference, dtype: torch.dtype) -> Reference:
    """Return a reference whose inputs are of this type where they are floats, for a model that takes it."""
    cast = (tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in reference.inputs)
    return Reference(tuple(cast), reference.outputs)


def compute_reference(model: Callable[..., Any], example_inputs: Sequence[torch.Tensor]) -> Reference:
    """Run a model on noise of the shapes of its example inputs; integer inputs are repeated as they are."""
    generator = torch.Generator().manual_seed(0)
    inputs = tuple(
        torch.randn(ITEMS, *tensor.shape[1:], generator=generator).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor[:1].repeat(ITEMS, *[1] * (tensor.dim() - 1))
        for tensor in example_inputs
    )
    return Reference(inputs, run_model(model, inputs))


def compute_reference_in_build(
    model: Callable[..., Any], example_inputs: Sequence[torch.Tensor], context: Context
) -> Reference | None:
    """Return ``compute_reference`` in a build, and None in a launch, where ``context`` has no folder.

    A launch is timed and must not spend time on it.
    """
    return None if context.folder is None else compute_reference(model, example_inputs)


def run_model(model: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Return the outputs of a model in their order, computed without gradients; a single one as well."""
    with torch.no_grad():
        outputs = model(*inputs)
    if isinstance(outputs, torch.Tensor):
        return (outputs,)
    return tuple(outputs.values() if isinstance(outputs, Mapping) else outputs)


def signal_to_noise_db(expected: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> float:
    """Return the smallest signal-to-noise ratio of all outputs, in dB: infinite where all equal the expected.

    Outputs that are no floats, such as positions, follow from others and do not count. Raises ``ValueError``
    if there are not as many outputs as expected.
    """
    pairs = zip(expected, outputs, strict=True)
    return min((_ratio_db(*pair) for pair in pairs if pair[0].is_floating_point()), default=math.inf)


def all_finite(outputs: Sequence[torch.Tensor]) -> bool:
    """Return whether all elements of all outputs are finite."""
    return all(bool(output.isfinite().all()) for output in outputs)


def _ratio_db(expected: torch.Tensor, outputs: torch.Tensor) -> float:
    signal = expected.double().square().sum().item()
    noise = (outputs.double() - expected.double()).square().sum().item()
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def verify_outputs(expected: Reference, model: nn.Module, step: str) -> None:
    """Raise ``Unsupported`` where a rewritten model does not compute the outputs of the original.

    Where it does not run at all the reason has the layer. A copy of the model is run, so that its observers
    record nothing.
    """
    model = copy.deepcopy(model)
    calls_of: Counter[str] = Counter()
    for name, layer in model.named_modules():
        if isinstance(getattr(layer, "weight", None), torch.Tensor):
            layer.register_forward_hook(lambda *_, name=name: calls_of.update([name]))
    with explain_errors(model, f"after {step} the model does not run"):
        outputs = run_model(model, expected.inputs)
    ratio = signal_to_noise_db(expected.outputs, outputs)
    if ratio < SAME_DB and all_finite(expected.outputs):
        names = ", ".join(repr(name) for name, calls in calls_of.items() if calls > 1)
        hint = f"; layers that are called more than once: {names}" if names else ""
        raise Unsupported(f"{step} changes the outputs of the model (SQNR {ratio:.1f} dB){hint}")


def verify_compiled(
    expected: Reference,
    program: Callable[..., Any],
    compiled: Callable[..., Any],
    subject: str,
    *,
    any_batch: bool = True,
) -> None:
    """Raise ``Unsupported`` where a compiled network does not compute the outputs of its program.

    ``program`` is the same network in torch, quantized where ``compiled`` is. Both are run on the inputs of
    ``expected``, and with ``any_batch`` on the first item alone, because what was compiled once must take any
    batch size.
    """
    quantization = signal_to_noise_db(expected.outputs, run_model(program, expected.inputs))
    least = SAME_DB if quantization > SAME_DB else min(WRONG_DB, quantization - CHANCE_DB)
    first = tuple(tensor[:1] for tensor in expected.inputs)
    for inputs in (first, expected.inputs) if any_batch else (expected.inputs,):
        outputs = run_model(program, inputs)
        ratio = signal_to_noise_db(outputs, run_model(compiled, inputs))
        if ratio < least and all_finite(outputs):
            hint = f", where quantizing alone leaves {quantization:.1f} dB" if quantization < SAME_DB else ""
            layer = _first_differing_layer(program, compiled, inputs)
            raise Unsupported(f"{layer}{subject} gives wrong outputs: SQNR {ratio:.1f} dB{hint}")


def _first_differing_layer(program: Callable[..., Any], compiled: Callable[..., Any], inputs: Any) -> str:
    """Return the first layer whose outputs differ by more than rounding, as ``"layer 'name' (Type): "``.

    Empty where no layer differs so much, or where the two are not both modules.
    """
    if not (isinstance(program, nn.Module) and isinstance(compiled, nn.Module)):
        return ""
    ours, theirs = (_outputs_of_layers(module, inputs) for module in (compiled, program))
    for name, (layer, outputs) in ours.items():
        if name in theirs and _ratio_db(theirs[name][1], outputs) < WRONG_DB:
            return f"layer {name!r} ({type(layer).__name__}): "
    return ""


def _outputs_of_layers(
    model: nn.Module, inputs: Sequence[torch.Tensor]
) -> dict[str, tuple[nn.Module, torch.Tensor]]:
    """Return each layer and its outputs as floats, by name, in the order of the calls."""
    records: dict[str, tuple[nn.Module, torch.Tensor]] = {}

    def record(name: str, layer: nn.Module, outputs: Any) -> None:
        if name and isinstance(outputs, torch.Tensor):
            records.setdefault(name, (layer, outputs.dequantize() if outputs.is_quantized else outputs))

    hooks = [
        layer.register_forward_hook(lambda layer, _, outputs, name=name: record(name, layer, outputs))
        for name, layer in model.named_modules()
    ]
    try:
        run_model(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return records
