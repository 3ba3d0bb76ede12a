"""Rewrite exported graphs into a form that backends fold, fuse, quantize and compile correctly.

No step changes what a graph computes. Each step names the backend that handles the original form wrongly.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from qx_plugins.recipes.folding import fold_into_transposed
from qx_plugins.recipes.padding import same_padding, symmetric_padding

aten = torch.ops.aten
#: Convolutions whose padding is a word (``"same"``), and the same operators with padding in numbers.
PADDED_BY_NAME: Mapping[Any, Callable[..., Any]] = {
    aten.conv1d.padding: aten.conv1d.default,
    aten.conv2d.padding: aten.conv2d.default,
    aten.conv3d.padding: aten.conv3d.default,
}
TRANSPOSED = (aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)
LAYERS = (*PADDED_BY_NAME, *PADDED_BY_NAME.values(), *TRANSPOSED, aten.linear.default)
NORMALIZATIONS = (aten.batch_norm.default, aten._native_batch_norm_legit_no_training.default)
#: Sums and products of tensors, and the same operators with a number in place of the second tensor.
WITH_NUMBER: Mapping[Any, Callable[..., Any]] = {
    aten.add.Tensor: aten.add.Scalar,
    aten.mul.Tensor: aten.mul.Scalar,
}
CHANNELS_LAST = (torch.channels_last, torch.channels_last_3d)


def make_row_major(model: nn.Module) -> None:
    """Lay the weights of a model out in row-major order, in place.

    With weights whose channels lie together in memory, and a single channel, Inductor gives wrong numbers and
    ExecuTorch fails.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if type(tensor.data) is not torch.Tensor or tensor.is_quantized:
            continue
        if tensor.stride() != torch.empty(tensor.shape, device="meta").stride():
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)


def rewrite_program(program: ExportedProgram) -> fx.GraphModule | None:
    """Return the program as a rewritten module, to be exported again; None where nothing needs rewriting."""
    module = program.module()
    steps: Sequence[Callable[[fx.GraphModule], bool]] = (
        _pad_by_numbers,
        _ignore_memory_formats,
        _separate_shared_weights,
        _normalize_by_numbers,
        _keep_unfolded,
        _fold_into_grouped_transposed,
        _keep_whole_numbers,
    )
    if sum(step(module) for step in steps) == 0:
        return None
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    return module


def name_calls_separately(module: fx.GraphModule) -> list[str]:
    """Give each call of a layer a layer name of its own, in place, and return the names of such layers.

    The quantizer for Inductor treats all nodes with the same layer name as one call, and fails on its two
    outputs. The exporter distinguishes calls by the keys of its stack of modules: ``relu``, ``relu@1``.
    """
    repeated = {}
    for node in module.graph.nodes:
        stack = dict(node.meta.get("nn_module_stack") or {})
        for key, (path, kind) in stack.items():
            name, _, call = key.rpartition("@")
            if name and call.isdigit():
                stack[key] = (f"{path}@{call}", kind)
                repeated[path] = True
        node.meta["nn_module_stack"] = stack
    return list(repeated)


def _calls(module: fx.GraphModule, targets: Any) -> Iterator[tuple[fx.Node, dict[str, Any]]]:
    """Yield each call of one of some operators, and all of its arguments by name, defaults included."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target in targets:
            schema = node.target._schema.arguments
            defaults = {argument.name: argument.default_value for argument in schema}
            names = [argument.name for argument in schema]
            yield node, defaults | dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def _tensor(module: fx.GraphModule, node: Any) -> Any:
    """Return the tensor that a node stands for; None for no node."""
    return None if node is None else operator.attrgetter(str(node.target))(module)


def _add(module: fx.GraphModule, next_node: fx.Node, name: str, tensor: torch.Tensor) -> fx.Node:
    """Add a parameter and return a node that reads it."""
    while hasattr(module, name):
        name += "_"
    module.register_parameter(name, nn.Parameter(tensor.detach(), tensor.requires_grad))
    with module.graph.inserting_before(next_node):
        return module.graph.get_attr(name)


def _pad_by_numbers(module: fx.GraphModule) -> bool:
    """Have convolutions pad by numbers, or pad in a step before them: quantizers fail on ``"same"``."""
    changed = False
    for node, values in _calls(module, PADDED_BY_NAME):
        sizes = _tensor(module, values["weight"]).shape[2:]
        amounts = [0] * 2 * len(sizes)
        if values["padding"] == "same":
            amounts = same_padding(sizes, values["dilation"])
        images, numbers = values["input"], symmetric_padding(amounts)
        with module.graph.inserting_before(node):
            if numbers is None:
                images = module.graph.call_function(aten.constant_pad_nd.default, (images, amounts, 0.0))
            arguments: tuple[Any, ...] = (images, values["weight"], values["bias"], values["stride"])
            arguments += (list(numbers or [0] * len(sizes)), values["dilation"], values["groups"])
            convolution = module.graph.call_function(PADDED_BY_NAME[node.target], arguments)
        node.replace_all_uses_with(convolution)
        module.graph.erase_node(node)
        changed = True
    return changed


def _ignore_memory_formats(module: fx.GraphModule) -> bool:
    """Keep tensors in row-major order: ExecuTorch fails where weights or a kernel expect another."""
    changed = False
    for node in module.graph.nodes:
        if node.kwargs.get("memory_format") in CHANNELS_LAST:
            node.update_kwarg("memory_format", torch.contiguous_format)
            changed = True
    return changed


def _separate_shared_weights(module: fx.GraphModule) -> bool:
    """Give each call of a layer its own copy of parameters that are folded into or quantized for each call.

    XNNPACK's partitioner and the quantizers of PT2E change the shared tensor once for each call:
    normalization is folded in again, and a bias is quantized by the input of one call. Weights without
    normalization stay shared.
    """
    uses: dict[int, list[tuple[fx.Node, int]]] = defaultdict(list)
    for node, values in _calls(module, LAYERS):
        for position, name in ((1, "weight"), (2, "bias")):
            if isinstance(values[name], fx.Node) and values[name].op == "get_attr":
                uses[id(_tensor(module, values[name]))].append((node, position))
    changed = False
    for shared in uses.values():
        normalized = any(user.target in NORMALIZATIONS for node, _ in shared for user in node.users)
        if len(shared) == 1 or not (normalized or shared[0][1] == 2):
            continue
        for count, (node, position) in enumerate(shared[1:], start=2):
            parameter = node.args[position]
            assert isinstance(parameter, fx.Node)
            name = f"{parameter.target}_call_{count}".replace(".", "_")
            node.update_arg(position, _add(module, node, name, _tensor(module, parameter).clone()))
        changed = True
    return changed


def _normalize_by_numbers(module: fx.GraphModule) -> bool:
    """Replace normalization of other channels than those of the linear layer before it by multiply and add.

    The channels of a linear layer's outputs lie along the last dimension, those that are normalized along the
    second. Backends fold the normalization into the layer nevertheless.
    """
    changed = False
    for node, values in _calls(module, [aten.batch_norm.default]):
        layer = values["input"]
        if layer.target is not aten.linear.default or layer.meta["val"].dim() == 2:
            continue
        if values["training"] or values["running_mean"] is None:
            continue
        mean, variance, scale, shift = (
            _tensor(module, values[name]) for name in ("running_mean", "running_var", "weight", "bias")
        )
        factor = (variance + values["eps"]).rsqrt() * (1 if scale is None else scale)
        offset = (0 if shift is None else shift) - mean * factor
        shape = (-1, *[1] * (layer.meta["val"].dim() - 2))
        factor_node = _add(module, node, f"{node.name}_factor", factor.reshape(shape))
        offset_node = _add(module, node, f"{node.name}_offset", offset.reshape(shape))
        with module.graph.inserting_before(node):
            product = module.graph.call_function(aten.mul.Tensor, (layer, factor_node))
            total = module.graph.call_function(aten.add.Tensor, (product, offset_node))
        node.replace_all_uses_with(total)
        module.graph.erase_node(node)
        changed = True
    return changed


def _keep_unfolded(module: fx.GraphModule) -> bool:
    """Separate normalization from the layer before it, where it cannot be folded into that layer.

    It cannot where something else uses the layer's output, or where the statistics are those of each batch.
    """
    changed = False
    for node, values in _calls(module, NORMALIZATIONS):
        layer = values["input"]
        if layer.target in LAYERS and (len(layer.users) > 1 or values["running_mean"] is None):
            with module.graph.inserting_before(node):
                node.update_arg(0, module.graph.call_function(aten.clone.default, (layer,)))
            changed = True
    return changed


def _fold_into_grouped_transposed(module: fx.GraphModule) -> bool:
    """Fold normalization into transposed convolutions of several groups.

    Inductor, XNNPACK's partitioner and the quantizers of PT2E all fold it along the wrong dimension.
    """
    changed = False
    for node, values in _calls(module, NORMALIZATIONS):
        layer = values["input"]
        if layer.target not in TRANSPOSED or len(layer.users) > 1 or values["running_mean"] is None:
            continue
        ((_, layer_values),) = [call for call in _calls(module, TRANSPOSED) if call[0] is layer]
        if layer_values["groups"] == 1:
            continue
        weight, bias = (_tensor(module, layer_values[name]) for name in ("weight", "bias"))
        folded = fold_into_transposed(
            *(weight, bias, layer_values["groups"]),
            mean=_tensor(module, values["running_mean"]),
            variance=_tensor(module, values["running_var"]),
            epsilon=values["eps"],
            scale=_tensor(module, values["weight"]),
            shift=_tensor(module, values["bias"]),
        )
        arguments = list(layer.args) + [None] * (3 - len(layer.args))
        for position, name, tensor in zip((1, 2), ("weight", "bias"), folded, strict=True):
            arguments[position] = _add(module, layer, f"{layer.name}_{name}", tensor)
        layer.args = tuple(arguments)
        node.replace_all_uses_with(layer)
        module.graph.erase_node(node)
        changed = True
    return changed


def _keep_whole_numbers(module: fx.GraphModule) -> bool:
    """Write sums and products of whole numbers with a number as such.

    The quantizer for XNNPACK makes tensors of floats of such numbers, and then positions and masks, which
    index other tensors, are floats as well.
    """
    changed = False
    for node, values in _calls(module, WITH_NUMBER):
        value = node.meta.get("val")
        is_whole = isinstance(value, torch.Tensor) and not (value.is_floating_point() or value.is_complex())
        if is_whole and isinstance(values["other"], int) and isinstance(values["self"], fx.Node):
            node.target = WITH_NUMBER[node.target]
            changed = True
    return changed
