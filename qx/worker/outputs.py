"""The named outputs of a loaded artifact: checked in one place, and packed into files."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from qx.contract.checks import MIGRATION
from qx.contract.records import OUTPUT, Arrays
from qx.errors import PluginError
from qx.values import Array

#: What ``outputs`` of a loader is to give, in messages.
EXPECTED = f'{{"{OUTPUT}": array}}'
#: Longest name of an output, in characters.
LONGEST_NAME = 200
#: Keys of packed arrays: of the names, and of each array before its number.
NAMES, ARRAY = "output_names", "output_"


def checked_outputs(outputs: object, plugin: str, items: int, hook: str = "outputs") -> dict[str, Array]:
    """Return copies of what ``outputs`` gave for ``items`` items: arrays of numbers ``[items, ...]`` by name.

    Raises ``PluginError``, which names the plugin and ``hook`` in place of ``outputs``, if it is anything
    else.
    """
    if not isinstance(outputs, Mapping):
        raise PluginError(f"{plugin}: {hook} gave {_not_named(outputs)}")
    if not outputs:
        raise PluginError(f"{plugin}: {hook} gave no arrays; expected named arrays, {EXPECTED}")
    checked = {}
    for name, output in outputs.items():
        if not _is_name(name):
            raise PluginError(
                f"{plugin}: {hook} gave an array with the name {name!r:.80}; expected printable text of at "
                f"most {LONGEST_NAME} characters, without '|'"
            )
        # The next call may overwrite the memory.
        array = np.array(output)
        if array.dtype.kind not in "biuf":
            raise PluginError(
                f"{plugin}: {hook} gave {name!r} with values of type {array.dtype}, where numbers are "
                f"expected"
            )
        if array.shape[:1] != (items,):
            raise PluginError(
                f"{plugin}: {hook} gave {name!r} of shape {list(array.shape)} for {items} items; "
                f"expected [{items}, ...]"
            )
        checked[name] = array
    return checked


def require_names(loader: str, names: Collection[str], outputs: Arrays) -> None:
    """Raise ``PluginError`` unless a later call gives outputs of the same names, in whatever order."""
    if outputs.keys() != set(names):
        raise PluginError(
            f"{loader}: outputs gave {listed(names)} for one batch and {listed(outputs)} for another; "
            f"expected the same names for every batch"
        )


def equal_arrays(first: Arrays, second: Arrays) -> bool:
    """Return whether two mappings have the same arrays of numbers under the same names, NaN equal to NaN."""
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name], equal_nan=True) for name in first
    )


def listed(names: Iterable[str]) -> str:
    """Return names as a list in words, in quotes."""
    return ", ".join(map(repr, names))


def _not_named(outputs: object) -> str:
    """Say what a loader gave in place of named arrays, and what is expected."""
    if hasattr(outputs, "shape"):
        return (
            f"an array; since contract 2.0 it gives named arrays, {EXPECTED}: change the loader as "
            f"{MIGRATION} says"
        )
    return f"a {type(outputs).__name__}; expected named arrays, {EXPECTED}"


def _is_name(name: object) -> bool:
    """Return whether a name can be part of the names of arrays in files of samples, and of messages."""
    return isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable() and "|" not in name


def pack(outputs: Arrays) -> dict[str, Array]:
    """Return outputs under keys of which no two are alike, as ``numpy.savez`` takes them: numbers."""
    packed = {f"{ARRAY}{index}": np.asarray(output) for index, output in enumerate(outputs.values())}
    return {NAMES: np.array(json.dumps(list(outputs))), **packed}


def unpack(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the outputs that ``pack`` has packed, from among other arrays; empty if there are none."""
    names = json.loads(str(arrays[NAMES])) if NAMES in arrays else ()
    return {name: arrays[f"{ARRAY}{index}"] for index, name in enumerate(names)}
