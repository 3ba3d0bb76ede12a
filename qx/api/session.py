"""Hand a session's own model and data to the workers of a run: bring them into one form, and pickle them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from qx.contract.records import LABELS, Data
from qx.errors import UsageError
from qx.foreign import one_line
from qx.storage.session_objects import write_object
from qx.values import Array, JsonMapping

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import Dataset

    #: A model, or what makes one.
    Model: TypeAlias = str | nn.Module | Callable[..., nn.Module]
    #: Items along the first dimension, ``[items, ...]``.
    Items: TypeAlias = Array | Tensor
    #: The inputs of a model, by name where it has several.
    Inputs: TypeAlias = Items | Mapping[str, Items]
    #: Items with or without their right answers.
    Split: TypeAlias = Inputs | tuple[Inputs, Items] | Data | Dataset[Any]

#: Names of the splits: items that calibrate and train, and items that are evaluated.
SPLITS = ("train", "test")
#: Name of the only input of a model, where the session gives it none.
INPUT = "input"
#: Number of items that examples are made of.
EXAMPLES = 8
#: The advice where something cannot be pickled.
INTO_A_FILE = {
    "model": "put what makes it into a file, and give model='FILE.py:FACTORY'",
    "score": "put it into a file, and give score='FILE.py:FUNCTION'",
    "data": "give arrays or tensors, or put the data into a folder of images, {train,test}/<class>/<image>",
}


def hand_over_model(model: Model, arguments: Mapping[str, object], folder: Path) -> str:
    """Write a model, or a function or class that makes it, for workers; return the reference to it.

    ``arguments`` are the keyword arguments of a function or class. Raises ``UsageError``.
    """
    if not callable(model):
        raise UsageError(
            f"model is of type {type(model).__name__}; expected an nn.Module, a function or class that makes "
            f"one, or the name of a factory, such as 'nets.py:make_net'"
        )
    if is_module(model) and arguments:
        raise UsageError("model_args are for what makes a model, and model is a model already")
    name = type(model).__name__ if is_module(model) else getattr(model, "__name__", "factory")
    return _write(folder, "model", name, partial(model, **arguments) if arguments else model)


def hand_over_score(score: object, folder: Path) -> str:
    """Write a function that judges answers for workers; return the reference to it. Raises ``UsageError``."""
    if not callable(score):
        raise UsageError(
            f"score is of type {type(score).__name__}; expected a function of outputs and targets, or the "
            f"name of one, such as 'judge.py:score'"
        )
    return _write(folder, "score", getattr(score, "__name__", "score"), score)


def is_module(model: object) -> bool:
    """Return whether a model is an ``nn.Module``, and not what makes one."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def hand_over_data(data: Split | Mapping[str, Split], folder: Path) -> dict[str, str]:
    """Write data for workers; return the references to them, and to examples of inputs, by name of option.

    Raises ``UsageError``.
    """
    parts = _splits(data)
    first = next(iter(parts.values()))
    examples = _examples(first)
    return {
        "data": _write(folder, "data", "data", parts),
        "examples": _write(folder, "data", "examples", examples),
    }


def _write(folder: Path, what: str, name: str, value: object) -> str:
    try:
        return write_object(folder, name, value)
    except OSError as error:
        raise UsageError(
            f"{what} cannot be written for the processes of the run: {error.strerror or error}; a folder "
            f"with more room can be named in TMPDIR"
        ) from error
    # Whatever an object's own `__reduce__` may raise.
    except Exception as error:
        raise UsageError(
            f"{what} cannot be handed to the processes of the run ({one_line(error)}): {INTO_A_FILE[what]}"
        ) from error


# Data in one form ---------------------------------------------------------------------------------


def _splits(data: Any) -> dict[str, Any]:
    """Return the parts of data by the names of the splits; ``all`` where the items are given together."""
    if not (isinstance(data, Mapping) and data and set(data) <= set(SPLITS)):
        return {"all": _part(data, "data")}
    if missing := set(SPLITS) - set(data):
        raise UsageError(f"data has no {min(missing)!r}: give both 'train' and 'test', or all items together")
    return {name: _part(data[name], f"data[{name!r}]") for name in SPLITS}


def _part(part: Any, where: str) -> Any:
    """Return a split as ``Data`` of numpy arrays; a Dataset as it is. Raises ``UsageError``."""
    if isinstance(part, Data):
        return part
    if _is_dataset(part):
        if not len(part):
            raise UsageError(f"{where} is an empty Dataset")
        return part
    inputs, labels = part, None
    if isinstance(part, (tuple, list)):
        if len(part) != 2:
            raise UsageError(f"{where} has {len(part)} parts; expected two, the inputs and the labels")
        inputs, labels = part
    named = inputs if isinstance(inputs, Mapping) else {INPUT: inputs}
    arrays = {str(name): _as_input(value, f"{where}, {name}") for name, value in named.items()}
    targets = {} if labels is None else {LABELS: _array(labels, f"{where}, labels")}
    lengths = {name: len(array) for name, array in (arrays | targets).items()}
    if len(set(lengths.values())) != 1 or not min(lengths.values()):
        shown = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise UsageError(f"{where}: expected the same number of items in each array, not {shown or 'none'}")
    return Data(inputs=arrays, targets=targets, source="arrays of a Python session")


def _as_input(value: object, where: str) -> Array:
    """Return inputs as an array. Networks take floats of 32 bits, so those of 64 bits become that."""
    array = _array(value, where)
    return array.astype("float32") if array.dtype.name == "float64" else array


def _array(value: object, where: str) -> Array:
    import numpy as np

    if hasattr(value, "detach"):
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{where}: {error}") from error
    if array.dtype.kind not in "biuf" or not array.ndim:
        raise UsageError(
            f"{where} is of type {type(value).__name__}; expected an array or a tensor of numbers, "
            f"[items, ...]"
        )
    return array


def _is_dataset(part: object) -> bool:
    """Return whether this is a Dataset with a length. Raises ``UsageError`` for its relatives."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    if isinstance(part, torch.utils.data.DataLoader):
        raise UsageError("data is a DataLoader: give its Dataset, since qx makes the batches itself")
    if isinstance(part, torch.utils.data.IterableDataset):
        raise UsageError("data is an IterableDataset: give arrays, or a Dataset with a length and an index")
    return isinstance(part, torch.utils.data.Dataset)


def _examples(part: Any) -> JsonMapping:
    """Return the first inputs of a split, arrays ``[items, ...]`` by name. Raises ``UsageError``."""
    import numpy as np

    if isinstance(part, Data):
        return {name: np.array(array[:EXAMPLES]) for name, array in part.inputs.items()}
    items = []
    for index in range(min(EXAMPLES, len(part))):
        item = part[index]
        inputs = item[0] if isinstance(item, (tuple, list)) else item
        named = inputs if isinstance(inputs, Mapping) else {INPUT: inputs}
        items.append({str(name): _as_input(value, f"item {index}, {name}") for name, value in named.items()})
    try:
        return {name: np.stack([item[name] for item in items]) for name in items[0]}
    except (KeyError, ValueError) as error:
        raise UsageError(f"the items of the Dataset are not alike: {error}") from error
