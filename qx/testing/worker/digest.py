"""One short text for a value with all that is in it: equal before and after, or it was changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from qx.values import Array


def digest(value: object) -> str:
    """SHA-256 over arrays, tensors, files, and records, mappings and sequences of them.

    What is none of these (a function, a module) counts by its type alone.
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
        for key, one in value.items():
            _add(state, key)
            _add(state, one)
    elif isinstance(value, (tuple, list)):
        for one in value:
            _add(state, one)
    elif attrs.has(kind := type(value)):
        for field in attrs.fields(kind):
            _add(state, getattr(value, field.name))
    elif (array := _array(value)) is not None:
        state.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    state.update(b")")


def _array(value: Any) -> Array | None:
    """The numbers of an array or a tensor; None for anything else."""
    if hasattr(value, "detach"):
        value = value.detach()
        value = value.dequantize() if value.is_quantized else value
        # numpy has no bfloat16, and every narrower float is a float64.
        value = value.double().numpy() if value.is_floating_point() else value.numpy()
    return value if hasattr(value, "tobytes") and hasattr(value, "dtype") else None
