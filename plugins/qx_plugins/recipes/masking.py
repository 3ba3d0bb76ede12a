"""Find the operators of a graph that put a mask into the scores of attention.

A mask is added to the scores as 0 or as a large negative number, or infinity. A scale for such a range makes
one number of all scores, and steps count alike then. So these sums, and the softmax after them, stay in
float.
It imports torch: import it inside functions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.overrides import handle_torch_function, has_torch_function

#: Names of operators that add a mask, or choose by it; of a softmax.
ADDING = ("add", "add_", "iadd", "sub", "where", "masked_fill", "masked_fill_")
SOFTMAX = ("softmax", "_softmax", "_safe_softmax")


def operator_name(node: fx.Node) -> str:
    """Return the name of what a node calls, empty for a module, an input and a constant.

    It is ``add`` for ``torch.add``, ``operator.add``, a method of tensors and ``aten.add.Tensor``.
    """
    if node.op == "call_method":
        return str(node.target)
    if node.op != "call_function":
        return ""
    target: Any = getattr(node.target, "overloadpacket", node.target)
    return str(getattr(target, "__name__", ""))


def is_softmax(node: fx.Node) -> bool:
    """Return whether a node is a softmax: a function, a method or a module."""
    if node.op == "call_module" and node.graph.owning_module is not None:
        return isinstance(node.graph.owning_module.get_submodule(str(node.target)), nn.Softmax)
    return operator_name(node) in SOFTMAX


def is_adding(node: fx.Node) -> bool:
    """Return whether a node puts a mask into what becomes the input of a softmax, directly or by another."""
    return operator_name(node) in ADDING and any(
        is_softmax(user) or is_adding(user) for user in node.users if user is not node
    )


def is_masked(node: fx.Node) -> bool:
    """Return whether a node is a softmax of scores with a mask."""
    return is_softmax(node) and any(is_adding(source) for source in node.all_input_nodes)


def add_in_float(values: torch.Tensor, other: torch.Tensor, alpha: float = 1) -> torch.Tensor:
    """Return ``values + alpha * other``, by a function that ``torch.fx`` does not quantize."""
    if has_torch_function((values, other)):
        result: torch.Tensor = handle_torch_function(
            add_in_float, (values, other), values, other, alpha=alpha
        )
        return result
    return torch.add(values, other, alpha=alpha)


def softmax_in_float(values: torch.Tensor, dim: int | None = None, **options: Any) -> torch.Tensor:
    """Return the softmax over a dimension, by a function that ``torch.fx`` does not quantize."""
    if has_torch_function((values,)):
        result: torch.Tensor = handle_torch_function(softmax_in_float, (values,), values, dim, **options)
        return result
    return nn.functional.softmax(values, dim, **options)
