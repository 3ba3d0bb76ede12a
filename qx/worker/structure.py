"""Find how a model takes inputs and returns outputs, and give it a ``forward`` of tensors alone.

Everything that converts a model, exports it or runs it then meets one form, and the outputs have the same
names in every runtime.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qx.contract.records import OUTPUT
from qx.contract.structure import Path, Structure
from qx.errors import UsageError
from qx.foreign import one_line

if TYPE_CHECKING:
    import torch
    from torch import nn

#: The deepest nesting of outputs, and the largest number of them: more is taken for a mistake.
DEEPEST, MOST_OUTPUTS = 8, 64


def find_structure(model: nn.Module, inputs: Sequence[str], returned: object) -> Structure:
    """Return the structure of a model that takes these inputs by name, and has returned this.

    ``inputs`` is empty where the model takes them one after another. Raises ``UsageError`` if no tensor is
    among what it has returned.
    """
    paths = list(_paths(returned, ()))
    name = type(model).__name__
    if not paths:
        raise UsageError(
            f"{name} gives {_describe(returned)}, expected a tensor [batch, ...], or a tuple, list, dict or "
            f"record with tensors"
        )
    if len(paths) > MOST_OUTPUTS:
        raise UsageError(f"{name} gives {len(paths)} tensors, expected at most {MOST_OUTPUTS}")
    names = tuple(map(_name, paths))
    if twice := next((output for output in names if names.count(output) > 1), None):
        raise UsageError(f"{name} gives two tensors that are both called {twice!r}: rename a key")
    return Structure(inputs=tuple(inputs), outputs=names, paths=tuple(paths))


def _paths(value: object, path: Path) -> Iterator[Path]:
    """Yield the path of each tensor in a value. Whatever is no tensor is no output, such as None."""
    import torch

    if isinstance(value, torch.Tensor):
        yield path
        return
    if len(path) == DEEPEST:
        return
    for key, member in _members(value):
        yield from _paths(member, (*path, key))


def _members(value: object) -> Iterator[tuple[str | int, object]]:
    """Yield key and value of each member of a mapping, a record or a sequence."""
    if isinstance(value, Mapping):
        yield from ((key, member) for key, member in value.items() if isinstance(key, (str, int)))
    elif isinstance(value, (tuple, list)):
        yield from enumerate(value)
    elif not isinstance(value, type):
        declared: Mapping[str, object] = getattr(value, "__dataclass_fields__", {})
        names = list(declared) or [field.name for field in getattr(value, "__attrs_attrs__", ())]
        yield from ((name, getattr(value, name, None)) for name in names)


def _name(path: Path) -> str:
    """Return the name of an output: keys with dots between them, and ``output_0`` for a position."""
    if not path:
        return OUTPUT
    words = ".".join(map(str, path))
    return f"{OUTPUT}_{words}" if isinstance(path[0], int) else words


def _describe(returned: object) -> str:
    return "None" if returned is None else f"a {type(returned).__name__} without a tensor"


def outputs_of(structure: Structure, returned: object) -> dict[str, torch.Tensor]:
    """Return the outputs by name out of what the original ``forward`` has returned."""
    return {name: _at(returned, path) for name, path in zip(structure.outputs, structure.paths, strict=True)}


def _at(value: Any, path: Path) -> Any:
    for key in path:
        has_keys = isinstance(value, (Mapping, tuple, list))
        value = operator.getitem(value, key) if has_keys else getattr(value, str(key))
    return value


def adapt(model: nn.Module, structure: Structure | None) -> nn.Module:
    """Give a model a ``forward`` that takes tensors in order and returns its output, or a tuple of several.

    The model stays the same object with the same layers and names: its class becomes a subclass with another
    ``forward``. Raises ``UsageError`` for a model whose class cannot be changed.
    """
    if structure is None or structure.is_plain:
        return model
    kind = type(model)
    try:
        namespace = {
            "forward": _adapted_forward(model, structure),
            "__module__": kind.__module__,
            "__qualname__": kind.__qualname__,
            "__doc__": kind.__doc__,
        }
        model.__class__ = type(kind.__name__, (kind,), namespace)
    # What has no signature, and what has another layout in memory.
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{kind.__name__} takes inputs by name or gives several outputs, and is no plain module, so qx "
            f"cannot put them in order: have its forward() take tensors and return one ({one_line(error)})"
        ) from error
    return model


def _adapted_forward(model: nn.Module, structure: Structure) -> Any:
    """Return the new ``forward``, with the parameters of the old one, since tracers read its signature."""
    kind, paths = type(model), structure.paths
    if structure.inputs:
        if wrong := [name for name in structure.inputs if not name.isidentifier()]:
            raise UsageError(f"{kind.__name__}: an input is called {wrong[0]!r}; expected a parameter's name")
        parameters = list(structure.inputs)
        values = [f"{name}={name}" for name in parameters]
        defaults: dict[str, object] = {}
    else:
        parameters, values, defaults = _positional_parameters(model)
    single = len(paths) == 1

    def pick(returned: Any) -> Any:
        return _at(returned, paths[0]) if single else tuple(_at(returned, path) for path in paths)

    # Only identifiers are put into this text.
    heading = ", ".join(["self", *parameters])
    source = f"def forward({heading}):\n    return pick(kind.forward({', '.join(['self', *values])}))\n"
    scope: dict[str, Any] = {"pick": pick, "kind": kind, **defaults}
    exec(source, scope)  # noqa: S102
    return scope["forward"]


def _positional_parameters(model: nn.Module) -> tuple[list[str], list[str], dict[str, object]]:
    """Return the positional parameters of ``forward`` as declared and as passed on, and their defaults."""
    declared, passed, defaults = [], [], {}
    for name, parameter in inspect.signature(model.forward).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            declared.append(f"*{name}")
            passed.append(f"*{name}")
        elif parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
            passed.append(name)
            if parameter.default is inspect.Parameter.empty:
                declared.append(name)
            else:
                defaults[f"default_of_{name}"] = parameter.default
                declared.append(f"{name}=default_of_{name}")
    return declared, passed, defaults
