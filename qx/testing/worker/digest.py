"""A digest of a value and all that it contains, by which a change is detected."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from qx.values import Array


def digest(value: object) -> str:
    """Return the SHA-256 of arrays, tensors, files, and of records, mappings and sequences of them.

    A value of any other type (a function, a module) counts by its type alone.
    """
    state = hashlib.sha256()
    _add(state, value)
    return state.hexdigest()


def _add(state: hashlib._Hash, value: object) -> None:
    state.update(f"{type(value).__name__}(".encode())
    if isinstance(value, Path):
        state.update(str(value).encode())
        for path in sorted(value.rglob("*")) if value.is_dir() else [value]:
            if path.is_file():
                state.update(path.name.encode() + path.read_bytes())
    elif value is None or isinstance(value, (str, int, float, bool, bytes)):
        state.update(repr(value).encode())
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _add(state, key)
            _add(state, item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            _add(state, item)
    elif attrs.has(kind := type(value)):
        for field in attrs.fields(kind):
            _add(state, getattr(value, field.name))
    elif (array := _array(value)) is not None:
        state.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    state.update(b")")


def _array(value: Any) -> Array | None:
    """Return the numbers of an array or a tensor; None for anything else."""
    if hasattr(value, "detach"):
        value = value.detach()
        value = value.dequantize() if value.is_quantized else value
        # numpy has no bfloat16, and every narrower float is a float64.
        value = value.double().numpy() if value.is_floating_point() else value.numpy()
    return value if hasattr(value, "tobytes") and hasattr(value, "dtype") else None
