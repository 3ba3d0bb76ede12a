"""Which weights an artifact holds: a module for each type of file, with ``read(path, details)``."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from attrs import Factory, frozen


@frozen
class Weights:
    """The weights in a file, and what the runtime makes of them."""

    #: Name of a weight -> its ``elements``, the ``bits`` of each, and its ``type``.
    layers: dict[str, dict[str, Any]]
    #: How often the loaded model runs each kind of kernel that has weights, by its name and precision; empty
    #: where the runtime does not tell.
    kernels: dict[str, int] = Factory(dict)
    #: Elements of constants that are no weights although they have as many dimensions: what is added, say.
    #: Parameters of the model may be among them.
    others: int = 0


#: Operators of a graph that combine constants with what they are given, element by element: no weights.
ELEMENTWISE = frozenset(
    {
        *("add", "sub", "subtract", "mul", "multiply", "div", "divide", "pow", "power", "where", "select"),
        *("min", "max", "minimum", "maximum", "equal", "greater", "less", "lessequal", "greaterequal"),
        *("concat", "cat", "expand", "broadcast", "pad", "clip", "clamp", "and", "or", "not", "mod"),
    }
)


def layer(elements: int, bits: int, kind: str, operator: str = "") -> dict[str, Any]:
    """One weight; with the ``operator`` that takes it where that is none of those that a reader knows."""
    known = {"elements": int(elements), "bits": int(bits), "type": kind}
    return {**known, "operator": operator} if operator else known


def is_matrix(shape: Sequence[int]) -> bool:
    """Whether two dimensions or more are longer than 1: biases may come as ``[1, channels, 1, 1]``."""
    return prod(shape) > max(shape, default=0)


def is_elementwise(operator: str) -> bool:
    """Whether an operator, by the name of whatever runtime, combines its inputs element by element."""
    return operator.lower().replace("_", "") in ELEMENTWISE
