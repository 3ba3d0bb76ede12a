"""Static int8 after cross-layer equalization: one recipe of this file, then one of qx's, called by its name.

What lies between two layers (ReLU, pools) lets a positive factor of a channel through. So the first layer may
divide a channel by a factor if the second multiplies by it. It is chosen so that the channel takes an equal
share of either layer's range (Nagel et al., 'Data-free quantization through weight equalization and bias
correction', 2019; one pass).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from qx import Artifact, Batch, Config, Context, Converted, Option, Recipe, Unsupported, hookimpl

if TYPE_CHECKING:
    import torch
    from torch import fx, nn

QX_CONTRACT = "2.0"

#: Names of classes of modules that let a positive factor of each channel through.
PASSING = {"AdaptiveAvgPool2d", "AvgPool2d", "Dropout", "Flatten", "Identity", "MaxPool2d", "ReLU"}


@hookimpl
def describe() -> Config:
    scales = Option(
        name="scales",
        default="channel",
        choices=("channel", "tensor"),
        help="Whether weights have a scale for each output channel, or one.",
    )
    return Config(
        name="equalized_int8",
        summary="Channels equalized between layers, then static int8.",
        calibration=True,
        quantizable=True,
        recipes=("static_int8_per_channel", "static_int8_per_tensor"),
        options=(scales,),
    )


@hookimpl
def check_model(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> None:
    pairs(model)
    static_int8(context).check_model(model, example_inputs)


@hookimpl
def prepare_model(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> nn.Module:
    for first, norm, second in pairs(model):
        equalize(first, norm, second)
    return static_int8(context).prepare_model(model, example_inputs)


@hookimpl
def calibrate(model: nn.Module, batches: Sequence[Batch], context: Context) -> nn.Module:
    return static_int8(context).calibrate(model, batches)


@hookimpl
def convert(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context
) -> nn.Module | Converted | Artifact:
    return static_int8(context).convert(model, example_inputs)


def static_int8(context: Context) -> Recipe:
    """Return the recipe that follows."""
    return context.recipe(f"static_int8_per_{context.options['scales']}")


def pairs(model: nn.Module) -> list[tuple[nn.Module, nn.Module | None, nn.Module]]:
    """Return layers with the normalization after them, if any, and the layer that alone takes their outputs.

    Raises ``Unsupported`` where the model cannot be traced, and where there are none.
    """
    from torch import fx, nn

    try:
        graph = fx.symbolic_trace(model).graph
    except Exception as error:
        raise Unsupported(f"{type(model).__name__} cannot be traced by torch.fx: {error}") from error
    modules, found = dict(model.named_modules()), []
    calls = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    for node in graph.nodes:
        # A layer that is called more than once has other neighbours there.
        names = takewhile(lambda name: calls.count(name) == 1, followers(node))
        first, *others = [modules[name] for name in names] or [None]
        if not isinstance(first, (nn.Conv2d, nn.Linear)):
            continue
        has_norm = others and isinstance(others[0], nn.BatchNorm2d) and others[0].affine
        norm = others.pop(0) if has_norm else None
        while others and type(others[0]).__name__ in PASSING:
            others.pop(0)
        if others and isinstance(others[0], (nn.Conv2d, nn.Linear)) and getattr(others[0], "groups", 1) == 1:
            found.append((first, norm, others[0]))
    if not found:
        raise Unsupported(f"{type(model).__name__} has no two layers between which channels can be equalized")
    return found


def followers(node: fx.Node) -> Iterator[str]:
    """Yield the names of modules that are called one after another, each alone with the outputs before it."""
    while node.op == "call_module":
        yield str(node.target)
        if len(node.users) != 1:
            return
        node = next(iter(node.users))


def equalize(first: nn.Module, norm: nn.Module | None, second: nn.Module) -> None:
    """Move a factor for each channel between two layers, in place."""
    import torch

    with torch.no_grad():
        weights = first.weight.flatten(start_dim=1)
        if norm is not None:
            weights = weights * (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None]
        channels, inputs = len(weights), second.weight.shape[1]
        # After a flatten, a channel has several inputs, one after another.
        following = second.weight.transpose(0, 1).reshape(channels, -1)
        factors = (weights.abs().amax(dim=1) / following.abs().amax(dim=1)).sqrt()
        factors = torch.where(factors.isfinite() & (factors > 0), factors, 1.0)
        for parameter in (first.weight, first.bias) if norm is None else (norm.weight, norm.bias):
            if parameter is not None:
                parameter /= factors.view(-1, *[1] * (parameter.dim() - 1))
        columns = factors.repeat_interleave(inputs // channels)
        second.weight *= columns.view(1, -1, *[1] * (second.weight.dim() - 2))
