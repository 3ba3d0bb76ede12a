"""Rewrite models for torch.fx, so that fusing their layers does not change their outputs.

What ``prepare_fx`` fuses wrongly, ``convert_fx`` packs wrongly or a kernel rejects is replaced by an
equivalent form that they handle. It imports torch: import it inside functions.
"""

from __future__ import annotations

import copy
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from qx_plugins.recipes.folding import fold_into_transposed
from qx_plugins.recipes.masking import (
    add_in_float,
    is_adding,
    is_masked,
    operator_name,
    softmax_in_float,
)
from qx_plugins.recipes.padding import same_padding, symmetric_padding

#: Padding modes that quantized convolutions have themselves.
PADDING_MODES = ("zeros", "reflect")
#: What stands between the name of a layer and the number of a call that has a copy of it.
CALL = "_call_"
#: Functions that convolve, with the number of dimensions of their images.
CONVOLUTIONS = {functional.conv1d: 1, functional.conv2d: 2, functional.conv3d: 3}
#: Names and default values of the arguments of these functions.
ARGUMENTS = {
    "input": None,
    "weight": None,
    "bias": None,
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
}


def make_fusible(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> nn.Module:
    """Return the model, or where needed an equivalent graph that can be fused and quantized correctly.

    The model itself is not changed. Raises what ``torch.fx`` raises where the model cannot be traced.
    """
    graph_module = fx.symbolic_trace(model)
    other_channels = _normalized_in_other_channels(graph_module, example_inputs)
    steps: Sequence[Callable[[fx.GraphModule], bool]] = (
        _pad_before_modules,
        _pad_before_functions,
        partial(_normalize_by_function, other_channels=other_channels),
        _separate_shared_layers,
        _fold_into_grouped_transposed,
        _mask_in_float,
    )
    if sum(step(graph_module) for step in steps) == 0:
        return model
    graph_module.graph.eliminate_dead_code()
    graph_module.graph.lint()
    graph_module.recompile()
    return graph_module


def original_name(name: str) -> str:
    """Return the name in the model of a layer of the graph that ``make_fusible`` gives."""
    return re.sub(rf"{CALL}\d+$", "", name)


def _calls(graph_module: fx.GraphModule, kind: Any) -> Iterator[tuple[fx.Node, Any]]:
    """Yield each call of a module of some kind, and the module."""
    for node in list(graph_module.graph.nodes):
        if node.op == "call_module":
            module = graph_module.get_submodule(str(node.target))
            if isinstance(module, kind):
                yield node, module


def _replace(graph_module: fx.GraphModule, name: str, module: nn.Module) -> None:
    """Put a module under this name, in the place of another if there is one."""
    path, _, last = name.rpartition(".")
    graph_module.get_submodule(path).add_module(last, module)


def _insert_pad(graph: fx.Graph, node: fx.Node, images: Any, amounts: Sequence[int], mode: str) -> fx.Node:
    with graph.inserting_before(node):
        return graph.call_function(
            functional.pad,
            (images, list(amounts)),
            {"mode": "constant" if mode == "zeros" else mode},
        )


def _pad_before_modules(graph_module: fx.GraphModule) -> bool:
    """Have convolutions pad by numbers, or pad before them: kernels lack "same" and "replicate"."""
    rewritten: dict[str, tuple[Sequence[int], str]] = {}
    for node, layer in _calls(graph_module, _ConvNd):
        name = str(node.target)
        if name not in rewritten:
            by_numbers = not isinstance(layer.padding, str)
            if isinstance(layer, _ConvTransposeNd) or (by_numbers and layer.padding_mode in PADDING_MODES):
                continue
            amounts = layer._reversed_padding_repeated_twice
            numbers = symmetric_padding(amounts) if layer.padding_mode in PADDING_MODES else None
            rewritten[name] = ([] if numbers else amounts, layer.padding_mode)
            layer = copy.deepcopy(layer)
            layer.padding = numbers or (0,) * len(layer.kernel_size)
            layer.padding_mode = layer.padding_mode if numbers else "zeros"
            _replace(graph_module, name, layer)
        amounts, mode = rewritten[name]
        if any(amounts):
            node.update_arg(0, _insert_pad(graph_module.graph, node, node.args[0], amounts, mode))
    return bool(rewritten)


def _pad_before_functions(graph_module: fx.GraphModule) -> bool:
    """Pass all arguments, as lists, to functions that convolve: packing their weights requires it."""
    changed = False
    for node in list(graph_module.graph.nodes):
        if node.op != "call_function" or node.target not in CONVOLUTIONS:
            continue
        dimensions = CONVOLUTIONS[node.target]
        arguments = dict(zip(ARGUMENTS, node.args, strict=False)) | dict(node.kwargs)
        values: dict[str, Any] = ARGUMENTS | arguments
        if values["padding"] == "valid":
            values["padding"] = 0
        if values["padding"] == "same":
            if (amounts := _same_padding(graph_module, values)) is None:
                continue
            if (numbers := symmetric_padding(amounts)) is None:
                values["input"] = _insert_pad(graph_module.graph, node, values["input"], amounts, "zeros")
            values["padding"] = numbers or 0
        for name in ("stride", "padding", "dilation"):
            value = values[name]
            values[name] = [value] * dimensions if isinstance(value, int) else list(value)
        if (positional := tuple(values.values())) != node.args:
            node.args, node.kwargs = positional, {}
            changed = True
    return changed


def _same_padding(graph_module: fx.GraphModule, values: dict[str, Any]) -> list[int] | None:
    """Return what ``"same"`` adds, as ``functional.pad`` takes it; None if the kernel's size is unknown."""
    weight = values["weight"]
    if not (isinstance(weight, fx.Node) and weight.op == "get_attr"):
        return None
    sizes = operator.attrgetter(str(weight.target))(graph_module).shape[2:]
    return same_padding(sizes, values["dilation"])


def _normalized_in_other_channels(
    graph_module: fx.GraphModule, example_inputs: tuple[torch.Tensor, ...]
) -> set[str]:
    """Return the names of calls that normalize a linear layer's outputs, but not along the last dimension.

    The layer's channels lie along the last dimension, those that are normalized along the second.
    """
    nodes = [node for node, _ in _calls(graph_module, _BatchNorm)]
    linear = {id(node) for node, _ in _calls(graph_module, nn.Linear)}
    nodes = [node for node in nodes if id(node.args[0]) in linear]
    if not nodes:
        return set()
    with torch.no_grad():
        ShapeProp(graph_module).propagate(*example_inputs)
    return {node.name for node in nodes if len(node.meta["tensor_meta"].shape) > 2}


def _normalize_by_function(graph_module: fx.GraphModule, other_channels: set[str]) -> bool:
    """Replace normalization that cannot be fused by a function, which is never fused.

    It cannot be fused where the statistics are those of the batch itself, and in ``other_channels``.
    """
    changed = False
    for node, layer in _calls(graph_module, _BatchNorm):
        statistics = ("running_mean", "running_var")
        of_the_batch = any(getattr(layer, name) is None for name in statistics)
        if not of_the_batch and node.name not in other_channels:
            continue
        graph = graph_module.graph
        with graph.inserting_before(node):
            names = ["" if of_the_batch else name for name in statistics]
            names += [name if layer.affine else "" for name in ("weight", "bias")]
            tensors = [graph.get_attr(f"{node.target}.{name}") if name else None for name in names]
            call = graph.call_function(
                functional.batch_norm, (node.args[0], *tensors, of_the_batch, 0.0, layer.eps)
            )
        node.replace_all_uses_with(call)
        graph.erase_node(node)
        changed = True
    return changed


def _separate_shared_layers(graph_module: fx.GraphModule) -> bool:
    """Give each call of a layer a copy of the layer, where the calls are followed by different modules.

    A layer is fused with the module after it once for all of its calls. A normalization or an activation
    after one call would be applied to the others, too, or be folded into the same weights again.
    """
    calls = defaultdict(list)
    for node, layer in _calls(graph_module, (_ConvNd, nn.Linear)):
        calls[id(layer)].append((node, layer))
    changed = False
    for shared in calls.values():
        if len({_follower(graph_module, node) for node, _ in shared}) == 1:
            continue
        for count, (node, layer) in enumerate(shared[1:], start=2):
            name = f"{node.target}{CALL}{count}"
            _replace(graph_module, name, copy.deepcopy(layer))
            node.target = name
        changed = True
    return changed


def _follower(graph_module: fx.GraphModule, node: fx.Node) -> object:
    """Return what a layer can be fused with: the normalization after it, or the kind of another module."""
    user = next(iter(node.users)) if len(node.users) == 1 else None
    if user is None or user.op != "call_module":
        return None
    module = graph_module.get_submodule(str(user.target))
    return id(module) if isinstance(module, _BatchNorm) else type(module)


def _fold_into_grouped_transposed(graph_module: fx.GraphModule) -> bool:
    """Fold batch normalization into transposed convolutions of several groups, where torch gets it wrong."""
    folded = set()
    for node, norm in _calls(graph_module, _BatchNorm):
        layer_node = node.args[0]
        if not isinstance(layer_node, fx.Node) or layer_node.op != "call_module" or len(layer_node.users) > 1:
            continue
        name = str(layer_node.target)
        layer = graph_module.get_submodule(name)
        if not isinstance(layer, _ConvTransposeNd) or layer.groups == 1:
            continue
        # All calls of one layer are followed by the same normalization here.
        if name not in folded:
            layer = copy.deepcopy(layer)
            layer.weight, layer.bias = fold_into_transposed(
                *(layer.weight, layer.bias, layer.groups),
                mean=norm.running_mean,
                variance=norm.running_var,
                epsilon=norm.eps,
                scale=norm.weight,
                shift=norm.bias,
            )
            _replace(graph_module, name, layer)
            folded.add(name)
        node.replace_all_uses_with(layer_node)
        graph_module.graph.erase_node(node)
    return bool(folded)


def _mask_in_float(graph_module: fx.GraphModule) -> bool:
    """Keep masks of attention, and the softmax of what they are added to, out of quantization."""
    nodes = list(graph_module.graph.nodes)
    softmaxes = [node for node in nodes if is_masked(node)]
    sums = [node for node in nodes if operator_name(node) in ("add", "add_", "iadd") and is_adding(node)]
    for node in softmaxes:
        if node.op == "call_module":
            node.args = (*node.args, graph_module.get_submodule(str(node.target)).dim)
        node.op, node.target = "call_function", softmax_in_float
    for node in sums:
        node.op, node.target = "call_function", add_in_float
    return bool(softmaxes)
