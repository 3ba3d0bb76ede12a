"""How near a rewritten or compiled network stays to what it was made of. It imports torch.

Import it inside functions.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from attrs import frozen
from torch import nn

from qx import Context, Unsupported

#: Signal to noise of a network whose layers were fused, folded or compiled in float32, in dB: rounding alone
#: leaves more than 100, weights that were folded twice or along the wrong dimension less than 30.
SAME_DB = 60.0
#: A quantized network that was compiled or packed rounds at other places than its program in torch does. Less
#: than this, in dB, rounding does not explain ...
WRONG_DB = 20.0
#: ... unless quantizing itself leaves little more: rounding at other places adds less than quantizing did,
#: and so many dB are left for chance.
CHANCE_DB = 6.0
#: Items that networks are compared on.
ITEMS = 2


@frozen
class Reference:
    """Inputs, and what a network gives for them."""

    inputs: tuple[torch.Tensor, ...]
    outputs: torch.Tensor


def compute_reference(model: Callable[..., Any], example_inputs: Sequence[torch.Tensor]) -> Reference:
    """What a model gives for noise of the shapes of its example inputs; integers are kept as they are."""
    generator = torch.Generator().manual_seed(0)
    inputs = tuple(
        torch.randn(ITEMS, *one.shape[1:], generator=generator).to(one.dtype)
        if one.is_floating_point()
        else one[:1].repeat(ITEMS, *[1] * (one.dim() - 1))
        for one in example_inputs
    )
    return Reference(inputs, run_model(model, inputs))


def compute_reference_in_build(
    model: Callable[..., Any], example_inputs: Sequence[torch.Tensor], context: Context
) -> Reference | None:
    """The same, in a build; None in a launch, which has no time for it: there an artifact has no folder."""
    return None if context.folder is None else compute_reference(model, example_inputs)


def run_model(model: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """The output of a model, without gradients."""
    with torch.no_grad():
        outputs: torch.Tensor = model(*inputs)
    return outputs


def signal_to_noise_db(expected: torch.Tensor, outputs: torch.Tensor) -> float:
    """Signal to noise ratio of outputs, in dB: infinite where they are the expected ones."""
    signal = expected.double().square().sum().item()
    noise = (outputs.double() - expected.double()).square().sum().item()
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def verify_outputs(expected: Reference, model: nn.Module, what: str) -> None:
    """Raise ``Unsupported`` where a rewritten model does not give what the model gave.

    The model is tried on a copy, so that observers in it see nothing of this.
    """
    tried = copy.deepcopy(model)
    shared: Counter[str] = Counter()
    for name, layer in tried.named_modules():
        if isinstance(getattr(layer, "weight", None), torch.Tensor):
            layer.register_forward_hook(lambda *_, name=name: shared.update([name]))
    apart = signal_to_noise_db(expected.outputs, run_model(tried, expected.inputs))
    if apart < SAME_DB and expected.outputs.isfinite().all():
        names = ", ".join(repr(name) for name, calls in shared.items() if calls > 1)
        why = f"; layers that are called more than once: {names}" if names else ""
        raise Unsupported(f"{what} changes what the model gives, to {apart:.1f} dB of it{why}")


def verify_compiled(
    expected: Reference, program: Callable[..., Any], compiled: Callable[..., Any], what: str
) -> None:
    """Raise ``Unsupported`` where what was compiled does not give what its program gives.

    ``program`` is the same network in torch, quantized where ``compiled`` is. Both are run on the inputs of
    ``expected``, what was compiled on one item alone, too: it must take any batch size.
    """
    quantizing = signal_to_noise_db(expected.outputs, run_model(program, expected.inputs))
    least = SAME_DB if quantizing > SAME_DB else min(WRONG_DB, quantizing - CHANCE_DB)
    first = tuple(one[:1] for one in expected.inputs)
    for inputs in (first, expected.inputs):
        due = run_model(program, inputs)
        apart = signal_to_noise_db(due, run_model(compiled, inputs))
        if apart < least and due.isfinite().all():
            left = f", where quantizing leaves {quantizing:.1f}" if quantizing < SAME_DB else ""
            layer = _first_differing_layer(program, compiled, inputs)
            raise Unsupported(f"{layer}{what} gives other numbers than it should: {apart:.1f} dB{left}")


def _first_differing_layer(program: Callable[..., Any], compiled: Callable[..., Any], inputs: Any) -> str:
    """The first layer that does not give in both what it gives in the other, where both are modules."""
    if not (isinstance(program, nn.Module) and isinstance(compiled, nn.Module)):
        return ""
    ours, theirs = (_outputs_of_layers(module, inputs) for module in (compiled, program))
    for name, (layer, outputs) in ours.items():
        if name in theirs and signal_to_noise_db(theirs[name][1], outputs) < WRONG_DB:
            return f"layer {name!r} ({type(layer).__name__}): "
    return ""


def _outputs_of_layers(
    model: nn.Module, inputs: Sequence[torch.Tensor]
) -> dict[str, tuple[nn.Module, torch.Tensor]]:
    """What each layer gives, in the order of the calls, as floats."""
    seen: dict[str, tuple[nn.Module, torch.Tensor]] = {}

    def look(name: str, layer: nn.Module, outputs: Any) -> None:
        if name and isinstance(outputs, torch.Tensor):
            seen.setdefault(name, (layer, outputs.dequantize() if outputs.is_quantized else outputs))

    hooks = [
        layer.register_forward_hook(lambda layer, _, outputs, name=name: look(name, layer, outputs))
        for name, layer in model.named_modules()
    ]
    try:
        run_model(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
