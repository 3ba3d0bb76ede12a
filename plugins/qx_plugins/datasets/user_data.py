"""Data as a user's function gives them, as ``qx.Data``: arrays, tensors, a Dataset, a DataLoader, pairs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from attrs import evolve

from qx import LABELS, Data, DataError
from qx_plugins.datasets.session_data import INPUT

#: What a function may give, in words for messages.
EXPECTED = (
    "qx.Data, (inputs, targets) of arrays, tensors or dicts of them, a torch Dataset, a DataLoader, or an "
    "iterable of (inputs, targets) of one item each"
)
#: Largest size in bytes of what is read of items one by one.
MOST_BYTES = 8 << 30


def to_data(
    value: Any,
    *,
    where: str,
    source: str,
    limit: int,
    progress: Callable[[float, str], None],
) -> Data:
    """Return what a function gave as ``Data`` with arrays ``[items, ...]``. Raises ``DataError``.

    ``where`` names the function. Of a Dataset at most ``limit`` items are read, drawn with a fixed seed; of
    an iterable the first ones, which ends those that never end; 0 reads all.
    """
    if value is None:
        raise DataError(f"{where} gives None; expected {EXPECTED}")
    if isinstance(value, Data):
        inputs = {name: _array(array, f"{where}, {name}") for name, array in value.inputs.items()}
        targets = {name: _array(array, f"{where}, {name}") for name, array in dict(value.targets).items()}
        return evolve(value, inputs=inputs, targets=targets, source=value.source or source)
    if _is_whole(value):
        return _from_whole(value, None, where, source)
    # A list holds items, one by one.
    if isinstance(value, tuple) and len(value) == 2 and _is_inputs(value[0]):
        return _from_whole(value[0], value[1], where, source)
    classes = tuple(map(str, getattr(_dataset_of(value), "classes", ())))
    items, note = _items(value, where, limit)
    inputs, targets = _collect(items, where, progress)
    return Data(inputs=inputs, targets=targets, classes=classes, source=f"{source}{note}")


def _is_whole(value: Any) -> bool:
    """Whether a value holds all items: an array, a tensor, or a dict of them."""
    if isinstance(value, Mapping):
        return bool(value) and all(map(_is_whole, value.values()))
    return hasattr(value, "shape") and hasattr(value, "dtype") and len(value.shape) > 0


def _is_inputs(value: Any) -> bool:
    """Whether a value holds all inputs: as ``_is_whole``, or a list or tuple of arrays."""
    if isinstance(value, (tuple, list)):
        return bool(value) and all(map(_is_whole, value))
    return _is_whole(value)


def _from_whole(inputs: Any, targets: Any, where: str, source: str) -> Data:
    named = {name: _as_input(array, f"{where}, {name}") for name, array in _named(inputs, INPUT).items()}
    answers = {}
    if targets is not None:
        answers = {name: _array(array, f"{where}, {name}") for name, array in _named(targets, LABELS).items()}
    lengths = {name: len(array) for name, array in named.items()}
    for name, array in answers.items():
        if len(array) != next(iter(lengths.values())):
            first, size = next(iter(named.items()))
            raise DataError(
                f"{where}: the targets {name!r} have shape {list(array.shape)} and the inputs {first!r} "
                f"{list(size.shape)}: expected as many items in both"
            )
    if len(set(lengths.values())) > 1:
        raise DataError(f"{where}: the inputs have different numbers of items: {lengths}")
    if not next(iter(lengths.values())):
        raise DataError(f"{where} gives no items")
    return Data(inputs=named, targets=answers, source=source)


def _named(value: Any, name: str) -> dict[str, Any]:
    """Return arrays by name: of a dict its own, of several in a tuple or list numbered ones."""
    if isinstance(value, Mapping):
        return {str(key): part for key, part in value.items()}
    is_several = isinstance(value, (tuple, list)) and len(value) > 0 and all(map(_is_array, value))
    if is_several and len(value) > 1:
        return {f"{name}_{number}": part for number, part in enumerate(value)}
    return {name: value[0] if is_several else value}


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _array(value: Any, where: str) -> Any:
    """Return an array of numbers ``[items, ...]``; one that is read lazily stays as it is."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    elif hasattr(value, "shape") and hasattr(value, "__getitem__") and not isinstance(value, np.ndarray):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or not array.ndim:
        raise DataError(
            f"{where} is of type {type(value).__name__} ({array.dtype}); expected an array or a tensor of "
            f"numbers, [items, ...]"
        )
    return array


def _as_input(value: Any, where: str) -> Any:
    """Return an input as an array; networks take floats of 32 bits, so those of 64 bits become that."""
    array = _array(value, where)
    is_double = isinstance(array, np.ndarray) and array.dtype == np.float64
    return array.astype(np.float32) if is_double else array


# Items one by one ---------------------------------------------------------------------------------


def _dataset_of(value: Any) -> Any:
    """Return the Dataset of a DataLoader; another value as it is."""
    return getattr(value, "dataset", value)


def _items(value: Any, where: str, limit: int) -> tuple[Iterator[Any], str]:
    """Return the items, each ``inputs`` or ``(inputs, targets)``, and which of them they are, in words."""
    if _is_loader(value):
        batches = value if value.batch_size is not None or value.batch_sampler is not None else None
        items = iter(value) if batches is None else _items_of_batches(batches, where)
        return _first(items, limit)
    if hasattr(value, "__getitem__") and hasattr(value, "__len__") and not isinstance(value, (str, bytes)):
        total = len(value)
        if limit and total > limit:
            chosen = np.sort(np.random.RandomState(0).permutation(total)[:limit])
            return (value[int(index)] for index in chosen), f", {limit:,} of {total:,} items"
        return (value[index] for index in range(total)), ""
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return _first(iter(value), limit)
    raise DataError(f"{where} gives {type(value).__name__}; expected {EXPECTED}")


def _first(items: Iterator[Any], limit: int) -> tuple[Iterator[Any], str]:
    if not limit:
        return items, ""
    return itertools.islice(items, limit), f", at most the first {limit:,} items"


def _is_loader(value: Any) -> bool:
    import sys

    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.utils.data.DataLoader)


def _items_of_batches(batches: Iterable[Any], where: str) -> Iterator[Any]:
    for batch in batches:
        inputs, targets = _pair(batch)
        named = {name: _array(part, f"{where}, {name}") for name, part in _named(inputs, INPUT).items()}
        answers = (
            None
            if targets is None
            else {name: _array(part, f"{where}, {name}") for name, part in _named(targets, LABELS).items()}
        )
        for index in range(len(next(iter(named.values())))):
            item = {name: array[index] for name, array in named.items()}
            yield item if answers is None else (item, {name: part[index] for name, part in answers.items()})


def _pair(item: Any) -> tuple[Any, Any]:
    """Return inputs, and targets or None, of an item or a batch."""
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return item[0], item[1]
    if isinstance(item, (tuple, list)) and len(item) == 1:
        return item[0], None
    return item, None


def _collect(
    items: Iterator[Any], where: str, progress: Callable[[float, str], None]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return inputs and targets by name, arrays ``[items, ...]``. Raises ``DataError``."""
    columns: dict[bool, dict[str, list[np.ndarray]]] = {False: {}, True: {}}
    count = size = 0
    for count, item in enumerate(items, 1):
        inputs, targets = _pair(item)
        parts = {False: _named(inputs, INPUT), True: {} if targets is None else _named(targets, LABELS)}
        for is_target, named in parts.items():
            for name, part in named.items():
                array = _number(part, f"{where}, item {count - 1:,}, {name}", is_target=is_target)
                _append(columns[is_target], name, array, count, where)
                size += array.nbytes
        if size > MOST_BYTES:
            raise DataError(
                f"{where} gives more than {MOST_BYTES >> 30} GB in its first {count:,} items: read fewer "
                f"with --set own_model.items=N, or give arrays that are read lazily, as qx.Data"
            )
        if count % 100 == 1:
            progress(min(0.99, count / 10_000), f"reading item {count:,}")
    if not count:
        raise DataError(f"{where} gives no items")
    for named in columns.values():
        for name, arrays in named.items():
            if len(arrays) != count:
                raise DataError(f"{where}: {len(arrays):,} of {count:,} items have {name!r}")
    stacked = [{name: np.stack(arrays) for name, arrays in named.items()} for named in columns.values()]
    return stacked[0], stacked[1]


def _append(named: dict[str, list[np.ndarray]], name: str, array: np.ndarray, count: int, where: str) -> None:
    arrays = named.setdefault(name, [])
    if arrays and (array.shape, array.dtype) != (arrays[0].shape, arrays[0].dtype):
        raise DataError(
            f"{where}: {name!r} of item {count - 1:,} is {array.dtype} {list(array.shape)}, and of the first "
            f"item {arrays[0].dtype} {list(arrays[0].shape)}: all items must have one shape"
        )
    arrays.append(array)


def _number(value: Any, where: str, *, is_target: bool) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where} is of type {type(value).__name__}; expected numbers, an array or a tensor")
    return array.astype(np.float32) if array.dtype == np.float64 and not is_target else array


def set_names(data: Data, names: Sequence[str]) -> Data:
    """Return data with its inputs in this order. Raises ``DataError`` where they have other names."""
    if set(names) != set(data.inputs):
        raise DataError(
            f"the data have the inputs {', '.join(data.inputs)}, and the model {', '.join(names)}"
        )
    return evolve(data, inputs={name: data.inputs[name] for name in names})
