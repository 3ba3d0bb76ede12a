"""The layers that a config leaves in float: the patterns that name them, and what they match in a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from attrs import field, frozen

from qx.contract.fields import to_strings
from qx.contract.records import FLOAT_LAYERS
from qx.errors import UsageError
from qx.foreign import to_line

if TYPE_CHECKING:
    from torch import nn

    from qx.contract.records import Context

#: The sign between two patterns.
SEPARATOR = "+"
#: The same between patterns, but in ``[+]``, which is the letter itself.
_SEPARATORS = re.compile(r"(?<!\[)\+|\+(?!\])")
#: Largest number of names that a message lists.
MOST_NAMES = 5


@frozen
class FloatLayers:
    """The layers of a model that stay in float, whole: those with these names, and all that is in them.

    A layer that is in the model twice is one layer, whichever of its names it is asked for by.
    """

    names: tuple[str, ...] = field(default=(), converter=to_strings)
    #: The first name of each module by its others, of all modules of the model that have several.
    aliases: Mapping[str, str] = field(factory=dict, eq=False, repr=False)

    def __bool__(self) -> bool:
        return bool(self.names)

    def __contains__(self, name: object) -> bool:
        """Return whether a layer stays in float: it is named, or one is that contains it."""
        return self._owner(str(name)) is not None

    def without_any(self, layers: Iterable[str]) -> tuple[str, ...]:
        """Return the names of which no layer is among these: those that a runtime's graph has lost."""
        found = {self._owner(layer) for layer in layers}
        return tuple(name for name in self.names if name not in found)

    def _owner(self, layer: str) -> str | None:
        """Return the name that keeps a layer in float: its own, or that of a module that contains it."""
        parts = self.aliases.get(layer, layer).split(".")
        paths = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
        return next((path for path in paths if path in self.names), None)


def float_layers(model: nn.Module, context: Context) -> FloatLayers:
    """Return the layers of the fp32 model that the config's option ``float_layers`` names; empty by default.

    Call it before anything renames modules. Raises ``UsageError`` where a pattern matches no module.
    """
    try:
        return match_layers(model, str(context.options.get(FLOAT_LAYERS.name, "")))
    except UsageError as error:
        raise UsageError(f"{FLOAT_LAYERS.name}: {error}") from error


def match_layers(model: nn.Module, text: str) -> FloatLayers:
    """Return the modules of a model whose names match one of the patterns in a text, ``"blocks.0.*+head"``.

    Patterns are those of a shell, in which ``*`` matches dots too. Raises ``UsageError`` for one that matches
    none, and for the second name of a module that has two.
    """
    if not text:
        return FloatLayers()
    names = [name for name, _ in model.named_modules() if name]
    matched: list[str] = []
    for pattern in _SEPARATORS.split(text):
        found = _matching(pattern, names)
        if not found:
            raise UsageError(_why_none(model, pattern, names))
        matched += found
    return FloatLayers(_outermost(matched), _aliases(model))


def check_layers(model: nn.Module, text: str, quantized: Sequence[str]) -> None:
    """Raise ``UsageError`` where a pattern matches no module, or none with a layer that is quantized.

    ``quantized`` are the names of the layers that the config quantizes, and can leave in float.
    """
    for pattern in _SEPARATORS.split(text) if text else ():
        layers = match_layers(model, pattern)
        if not any(name in layers for name in quantized):
            raise UsageError(
                f"{to_line(pattern, 200)!r} names no layer that this config quantizes and can leave in float"
                f"{_nearest(pattern, quantized)}"
            )


def layers_with_weights(model: nn.Module) -> tuple[str, ...]:
    """Return the names of modules that have a parameter of two or more dimensions themselves."""
    return tuple(
        name
        for name, module in model.named_modules()
        if name and any(parameter.dim() >= 2 for parameter in module.parameters(recurse=False))
    )


def weight_elements(model: nn.Module, name: str) -> int:
    """Return the number of elements of the parameters of two or more dimensions in a module of the model."""
    parameters = model.get_submodule(name).parameters()
    return sum(parameter.numel() for parameter in parameters if parameter.dim() >= 2)


def chosen_names(names: Mapping[str, object] | Iterable[str]) -> str:
    """Return the text for the option ``float_layers`` that names exactly these layers."""
    return SEPARATOR.join(map(_escaped, names))


def _escaped(name: str) -> str:
    """Return a pattern that matches one name: signs of patterns are in brackets.

    For letters that a terminal cannot show stands ``?``, so that the pattern can be typed.
    """
    return "".join(
        f"[{letter}]" if letter in f"*?[{SEPARATOR}" else letter if letter.isprintable() else "?"
        for letter in name
    )


def _aliases(model: nn.Module) -> dict[str, str]:
    """Return the first name of each module by its other names."""
    first = {id(module): name for name, module in model.named_modules()}
    modules = model.named_modules(remove_duplicate=False)
    return {name: first[id(module)] for name, module in modules if name != first[id(module)]}


def _matching(pattern: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if fnmatchcase(name, pattern)]


def _outermost(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names, each once, without those of modules inside of another one that is named."""
    unique = tuple(dict.fromkeys(names))
    chosen = FloatLayers(unique)
    return tuple(name for name in unique if name.rpartition(".")[0] not in chosen)


def _why_none(model: nn.Module, pattern: str, names: Sequence[str]) -> str:
    """Return why a pattern matches no module: the second name of one, or an unknown name."""
    first = {id(module): name for name, module in model.named_modules()}
    for name, module in model.named_modules(remove_duplicate=False):
        if name and fnmatchcase(name, pattern):
            return f"{to_line(name, 200)!r} is the same layer as {first[id(module)]!r}: use that name"
    return f"the model has no layer {to_line(pattern, 200)!r}{_nearest(pattern, names)}"


def _nearest(pattern: str, names: Sequence[str]) -> str:
    """Return the names that are most like a pattern, or the first ones, in words."""
    from difflib import get_close_matches

    if not names:
        return ": there is none"
    close = get_close_matches(pattern, names, n=MOST_NAMES, cutoff=0.4)
    if not close:
        more = ", ..." if len(names) > MOST_NAMES else ""
        return f" (it has {', '.join(names[:MOST_NAMES])}{more})"
    return f" (nearest: {', '.join(close)})"
