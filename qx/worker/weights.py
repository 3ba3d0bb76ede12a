"""Weights files: recognize a file, read its state dict without running code, and fit it to a model."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from attrs import frozen

from qx.errors import UsageError
from qx.worker.file_kinds import is_safetensors, other_kind, read_head

if TYPE_CHECKING:
    import torch

#: The advice how to save a file that holds only weights.
SAVE = "save it with torch.save(model.state_dict(), FILE)"


@frozen
class FittedState:
    """A state dict that fits a model name by name, and a note of how it was adapted."""

    state: Mapping[str, torch.Tensor]
    #: How the state dict was adapted, as a phrase; empty if it was not.
    note: str = ""


def load_weights(model: torch.nn.Module, path: Path) -> str:
    """Load a state dict of torch or safetensors into a model; return how it was adapted, as a phrase.

    The state dict may be the only one in a checkpoint with other entries. A prefix that all of its names
    share (``module.`` of ``DataParallel``) is removed if the names then fit the model. Raises ``UsageError``,
    which says what kind of file it is, or which names do not fit.
    """
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise UsageError(f"weights file {path} {what}")
    fitted = _fit(model, _read(path), path)
    model.load_state_dict(fitted.state, strict=True)
    return fitted.note


# Reading ------------------------------------------------------------------------------------------


def _read(path: Path) -> object:
    """Return the content of a weights file. Raises ``UsageError``."""
    head = read_head(path)
    if path.suffix == ".safetensors" or is_safetensors(head, path):
        return _safetensors(path)
    if kind := other_kind(head, path):
        raise UsageError(f"weights file {path} is {kind}; give the model's state dict: {SAVE}")
    return _torch_file(path)


def _safetensors(path: Path) -> object:
    """Return the content of a safetensors file. Raises ``UsageError``."""
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise UsageError(
            f"weights file {path}: reading it takes the package safetensors: pip install safetensors"
        ) from error
    try:
        return load_file(path)
    except Exception as error:
        # safetensors raises an error of its own, which has no public name.
        raise UsageError(f"weights file {path} is damaged, or not a safetensors file: {error}") from error


def _torch_file(path: Path) -> object:
    """Return the content of a file of torch.save, read without running code. Raises ``UsageError``."""
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(path) or "global" in str(error).lower():
            raise UsageError(
                f"weights file {path} holds more than tensors, and loading it could run code; {SAVE}"
            ) from error
        raise UsageError(f"weights file {path} is damaged, or was not written by torch.save") from error
    except Exception as error:
        # A damaged pickle may raise any error.
        raise UsageError(f"weights file {path} is damaged, or was not written by torch.save") from error


# Fitting ------------------------------------------------------------------------------------------


def _fit(model: torch.nn.Module, content: object, path: Path) -> FittedState:
    """Return the state dict in a file's content, with the names of the model. Raises ``UsageError``."""
    if _is_state(content):
        state, place = content, ""
    else:
        state, place = _inner(content, path)
    expected = model.state_dict()
    note = f"the weights are {place!r} of {path.name}" if place else ""
    misfit = _misfit(expected, state)
    for prefix in _shared_prefixes(state) if misfit else ():
        stripped = {name.removeprefix(prefix): value for name, value in state.items()}
        if not _misfit(expected, stripped):
            words = f"names without the prefix {prefix!r}"
            return FittedState(
                stripped, f"{note}, {words}" if note else f"the weights of {path.name}: {words}"
            )
    if misfit:
        where = f" (in {place!r})" if place else ""
        raise UsageError(f"weights file {path}{where} does not fit {type(model).__name__}: {misfit}")
    return FittedState(state, note)


def _is_state(content: object) -> TypeGuard[Mapping[str, torch.Tensor]]:
    import torch

    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(name, str) for name in content)
        and all(isinstance(value, torch.Tensor) for value in content.values())
    )


def _inner(content: object, path: Path) -> tuple[Mapping[str, torch.Tensor], str]:
    """Return the only state dict in a checkpoint, and the name of its entry. Raises ``UsageError``."""
    entries = content if isinstance(content, Mapping) else {}
    states = {name: value for name, value in entries.items() if _is_state(value)}
    if len(states) == 1:
        ((name, state),) = states.items()
        return state, str(name)
    if states:
        listed = ", ".join(map(str, states))
        raise UsageError(f"weights file {path} holds several state dicts ({listed}): save the one you mean")
    what = type(content).__name__
    if isinstance(content, Mapping):
        what = f"a dict of {', '.join(map(str, list(content)[:5])) or 'nothing'}"
    raise UsageError(f"weights file {path} must hold a state dict (names to tensors), not {what}; {SAVE}")


def _shared_prefixes(state: Mapping[str, object]) -> Iterator[str]:
    """Yield the prefixes that all names share, up to each dot: ``"module."``, ``"module.body."``."""
    prefix = ""
    for parts in zip(*(name.split(".")[:-1] for name in state), strict=False):
        if len(set(parts)) > 1:
            break
        prefix += f"{parts[0]}."
        yield prefix


def _misfit(expected: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> str:
    """Describe what does not fit; empty if names and shapes are those of the model."""
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    reshaped = [
        f"{name} is {list(state[name].shape)}, expected {list(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    kinds = (("missing ", missing), ("unexpected ", unexpected), ("", reshaped))
    return "; ".join(f"{word}{_shortened(names)}" for word, names in kinds if names)


def _shortened(names: list[str], count: int = 3) -> str:
    """Return the first names as a list in words, and the number of the others."""
    rest = len(names) - count
    return ", ".join(names[:count]) + (f" and {rest} more" if rest > 0 else "")
