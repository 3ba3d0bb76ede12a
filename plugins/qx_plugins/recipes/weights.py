"""Which constants of a graph are weights: shared by the weight readers of several runtimes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import prod

#: Operators that combine a constant with their input element by element: such a constant is no weight.
ELEMENTWISE = frozenset(
    {
        *("add", "sub", "subtract", "mul", "multiply", "div", "divide", "pow", "power", "where", "select"),
        *("min", "max", "minimum", "maximum", "equal", "greater", "less", "lessequal", "greaterequal"),
        *("concat", "cat", "expand", "broadcast", "pad", "clip", "clamp", "and", "or", "not", "mod"),
    }
)


def matching_kernels(kernels: Iterable[str], pattern: re.Pattern[str]) -> tuple[str, ...]:
    """Return the kernels whose name matches a pattern somewhere, in their order."""
    return tuple(kernel for kernel in kernels if pattern.search(kernel))


def is_matrix(shape: Sequence[int]) -> bool:
    """Whether two dimensions or more are longer than 1: biases may come as ``[1, channels, 1, 1]``."""
    return prod(shape) > max(shape, default=0)


def is_elementwise(operator: str) -> bool:
    """Whether an operator, under the name of any runtime, combines its inputs element by element."""
    return operator.lower().replace("_", "") in ELEMENTWISE
