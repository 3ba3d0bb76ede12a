"""Where the time of a module's call goes, by ``torch.profiler``, and in which of its modules."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from qx_plugins.recipes.torch_profiler import MODULE, profile_calls

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from qx import Profile


def profile_module(module: nn.Module, call: Callable[[], object], calls: int) -> Profile:
    """Watch calls of a module, each operator by the innermost module that runs it.

    The time of an operator is its own, without that of the operators that it calls. What passes between
    operators, in Python, is in no operator.
    """
    with ExitStack() as stack:
        for name, part in module.named_modules():
            for handle in _mark(part, name):
                stack.callback(handle.remove)
        return profile_calls(call, calls)


def _mark(module: nn.Module, name: str) -> list[Any]:
    """Have every call of a module be a range of the profiler; return what removes that again."""
    from torch.autograd.profiler import record_function

    ranges: list[Any] = []

    def enter(*_: object) -> None:
        ranges.append(record_function(MODULE + name))
        ranges[-1].__enter__()

    def leave(*_: object) -> None:
        ranges.pop().__exit__(None, None, None)

    return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
