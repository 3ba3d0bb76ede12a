"""The whole state of a module as plain data, which loads without running code.

A module is deployed as its state dict: a launch rebuilds the module and loads the state dict into it. Modules
of ``torch.ao.nn`` leave some of their state out of it (the scale and zero point of a quantized PReLU), and
graphs of quantized functions put packed weights into it, which are C++ objects. This module repairs both, in
a build and in a launch. It imports torch in functions only, to stay light.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qx.errors import QxError

if TYPE_CHECKING:
    import torch
    from torch import nn

Module = TypeVar("Module", bound="nn.Module")

#: The package of the modules that keep some of their state outside of the state dict.
QUANTIZED_MODULES = "torch.ao.nn."
#: The endings of the names of numbers that calibration sets: all other numbers of a module are its shape.
CALIBRATED_SUFFIXES = ("scale", "zero_point")


def complete(module: Module) -> Module:
    """Make the module save all of its state in its state dict as plain data, and load it from there.

    State that the state dict leaves out is added to it under the names of the attributes. Packed weights are
    unpacked into tensors. The module gets hooks for both, in place, unless nothing is missing.
    """
    state = module.state_dict()
    left_out = frozenset(name for name in _attributes(module) if name not in state)
    packed = frozenset(name for name, value in state.items() if _is_packed(value))
    if left_out or packed:
        save_more, load_more = _hooks(left_out, packed)
        module.register_state_dict_post_hook(save_more)  # type: ignore[no-untyped-call]
        module.register_load_state_dict_pre_hook(load_more)  # type: ignore[no-untyped-call]
    return module


def save(module: nn.Module, path: Path) -> dict[str, object]:
    """Write the module's state dict into a file and return it.

    Raises ``QxError`` with the entry that would not load without running code.
    """
    import torch

    state = module.state_dict()
    try:
        torch.save(state, path)
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.PickleError, AttributeError, TypeError, RuntimeError) as error:
        for name, value in state.items():
            if not _loads_safely(value):
                raise QxError(
                    f"the module's state dict holds a {type(value).__name__} at {name!r}, which cannot be "
                    f"loaded without running code: state must be tensors, numbers, text, and lists of these"
                ) from error
        raise
    return state


def tensors(value: object) -> Iterator[torch.Tensor]:
    """Yield every tensor in a state dict, also those in the tuples and lists of packed weights."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


def _hooks(left_out: frozenset[str], packed: frozenset[str]) -> tuple[Callable[..., None], ...]:
    """Return the hooks that save and load the state that the module's own state dict leaves out."""
    from torch.fx import GraphModule

    def save_more(
        module: nn.Module, state: MutableMapping[str, object], prefix: str, _metadata: object
    ) -> None:
        for name in sorted(left_out):
            owner, attribute = _owner(module, name)
            state[prefix + name] = getattr(owner, attribute)
        for name in packed:
            state[prefix + name] = _plain(state[prefix + name])

    def load_more(
        module: nn.Module,
        state: MutableMapping[str, object],
        prefix: str,
        _metadata: object,
        _strict: bool,
        missing: list[str],
        _unexpected: list[str],
        errors: list[str],
    ) -> None:
        for name in sorted(left_out | packed):
            owner, attribute = _owner(module, name)
            if prefix + name not in state:
                missing.append(prefix + name)
                continue
            value = getattr(owner, attribute)
            try:
                value = _restore(value, state.pop(prefix + name))
            except (TypeError, ValueError) as error:
                errors.append(f"{prefix}{name}: {error}")
            if name in packed and not isinstance(owner, GraphModule):
                # The owner reads it from the state dict by itself.
                state[prefix + name] = value
            else:
                setattr(owner, attribute, value)

    return save_more, load_more


def _attributes(module: nn.Module) -> Iterator[str]:
    """Yield the names of attributes of quantized modules that hold state."""
    import torch

    for path, layer in module.named_modules():
        if any(kind.__module__.startswith(QUANTIZED_MODULES) for kind in type(layer).__mro__):
            for name, value in vars(layer).items():
                number = isinstance(value, (int, float)) and name.endswith(CALIBRATED_SUFFIXES)
                if number or isinstance(value, torch.Tensor):
                    yield f"{path}.{name}" if path else name


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, attribute = name.rpartition(".")
    return module.get_submodule(path), attribute


def _is_packed(value: object) -> bool:
    import torch

    return isinstance(value, torch.ScriptObject)


def _plain(value: Any) -> Any:
    """Return packed weights as the name of their class and their parts."""
    if _is_packed(value):
        parts, name = value.__getstate__()
        return name, _plain(parts)
    return type(value)(map(_plain, value)) if isinstance(value, (tuple, list)) else value


def _restore(current: Any, value: Any) -> Any:
    """Return a value of a state dict in the form of the rebuilt module's current value.

    Packed weights get the class of the current value: a file cannot name another class.
    """
    import torch

    if _is_packed(current):
        parts, name = current.__getstate__()
        if not (isinstance(value, tuple) and len(value) == 2 and value[0] == name):
            raise TypeError(f"expected packed weights of the class {name}")
        packed: Any = torch.ScriptObject.__new__(torch.ScriptObject)
        packed.__setstate__((_restore(parts, value[1]), name))
        return packed
    if type(value) is not type(current):
        raise TypeError(f"is a {type(value).__name__}, expected a {type(current).__name__}")
    if isinstance(current, torch.Tensor) and value.shape != current.shape:
        raise ValueError(f"is {list(value.shape)}, expected {list(current.shape)}")
    if isinstance(current, (tuple, list)):
        if len(value) != len(current):
            raise ValueError(f"has {len(value)} parts, expected {len(current)}")
        return type(current)(_restore(*pair) for pair in zip(current, value, strict=True))
    return value


def _loads_safely(value: object) -> bool:
    import torch

    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:
        # This entry cannot be written or read, whatever the error is.
        return False
    return True
