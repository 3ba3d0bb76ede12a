"""Data as a user's function gives them, as ``qx.Data``: arrays, tensors, a Dataset, a DataLoader, pairs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from attrs import evolve

from qx import LABELS, Data, DataError, draw_items

#: Name of the only input of a model, where nothing names it.
INPUT = "input"
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

    ``where`` names the function. Of a Dataset at most ``limit`` items are read, drawn by ``qx.draw_items``;
    of an iterable the first ones, which ends those that never end; 0 reads all. Arrays stay whole.
    """
    if (data := whole_data(value, where, source)) is not None:
        return data
    if is_dataset(value):
        total = len(value)
        chosen = draw_items(labels_of(value), total, limit or total)
        return read_dataset(value, chosen, where=where, source=source, progress=progress)
    return read_first(value, limit, where=where, source=source, progress=progress)


def whole_data(value: Any, where: str, source: str) -> Data | None:
    """Return data whose items all come at once; None where they come one by one."""
    if value is None:
        raise DataError(f"{where} gives None; expected {EXPECTED}")
    if isinstance(value, Data):
        inputs = {name: _array(array, f"{where}, {name}") for name, array in value.inputs.items()}
        targets = {name: _array(array, f"{where}, {name}") for name, array in dict(value.targets).items()}
        _check_lengths(inputs, targets, where)
        return evolve(value, inputs=inputs, targets=targets, source=value.source or source)
    if _is_whole(value):
        return _from_whole(value, None, where, source)
    # A list holds items, one by one.
    if isinstance(value, tuple) and len(value) == 2 and _is_inputs(value[0]):
        return _from_whole(value[0], value[1], where, source)
    return None


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
    _check_lengths(named, answers, where)
    return Data(inputs=named, targets=answers, source=source)


def _check_lengths(inputs: Mapping[str, Any], targets: Mapping[str, Any], where: str) -> None:
    """Raise ``DataError`` unless all arrays have the same number of items, and some."""
    if not inputs:
        raise DataError(f"{where} gives no inputs")
    first, *others = inputs
    size = len(inputs[first])
    kinds = [("inputs", name, inputs[name]) for name in others]
    kinds += [("targets", name, array) for name, array in targets.items()]
    for kind, name, array in kinds:
        if len(array) != size:
            raise DataError(
                f"{where}: the {kind} {name!r} have shape {_shape(array)} and the inputs {first!r} "
                f"{_shape(inputs[first])}: expected as many items in both"
            )
    if not size:
        raise DataError(f"{where} gives no items")


def _shape(array: Any) -> list[int]:
    return list(getattr(array, "shape", (len(array),)))


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


def is_dataset(value: Any) -> bool:
    """Whether a value gives items one by one, by their numbers."""
    has_items = hasattr(value, "__getitem__") and hasattr(value, "__len__")
    return has_items and not (isinstance(value, (str, bytes, Mapping)) or _is_loader(value))


def labels_of(dataset: Any) -> np.ndarray | None:
    """Return the labels of a Dataset where it says them without reading its items; else None.

    torchvision's have ``targets`` or ``labels``, a TensorDataset its tensors, a Subset those of its Dataset.
    """
    if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):
        labels = labels_of(dataset.dataset)
        return None if labels is None else labels[np.asarray(dataset.indices)]
    if isinstance(dataset, (list, tuple)):
        candidates: list[Any] = [[_pair(item)[1] for item in dataset]]
    else:
        candidates = [getattr(dataset, name, None) for name in ("targets", "labels")]
        tensors = getattr(dataset, "tensors", ())
        candidates += tensors[1:] if len(tensors) == 2 else ()
    for candidate in candidates:
        try:
            labels = np.asarray(candidate)
        except (TypeError, ValueError):
            continue
        if labels.shape == (len(dataset),) and labels.dtype.kind in "iu":
            return labels
    return None


def read_dataset(
    dataset: Any,
    chosen: np.ndarray,
    *,
    where: str,
    source: str,
    progress: Callable[[float, str], None],
    total: int | None = None,
) -> Data:
    """Read the chosen items of a Dataset, of which ``total`` might have been chosen (default: all)."""
    items = ((int(index), dataset[int(index)]) for index in chosen)
    inputs, targets = _collect(items, where, progress, len(chosen))
    classes = _classes(dataset)
    total = len(dataset) if total is None else total
    return Data(inputs=inputs, targets=targets, classes=classes, source=source, total=total)


def read_first(
    value: Any, limit: int, *, where: str, source: str, progress: Callable[[float, str], None]
) -> Data:
    """Read the first items of an iterable or a DataLoader, at most ``limit``; 0 reads all."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise DataError(f"{where} gives {type(value).__name__}; expected {EXPECTED}")
    # A DataLoader, of which torch alone knows the type.
    loader: Any = value if _is_loader(value) else None
    is_batched = loader is not None and (loader.batch_size is not None or loader.batch_sampler is not None)
    items = _items_of_batches(value, where) if is_batched else iter(value)
    dataset = value if loader is None else loader.dataset
    inputs, targets = _collect(enumerate(itertools.islice(items, limit or None)), where, progress, limit)
    size = len(next(iter(inputs.values())))
    total = _length_of_loader(value) if _is_loader(value) else None
    note = f", the first {size:,} items" if limit and size == limit and total is None else ""
    return Data(
        inputs=inputs, targets=targets, classes=_classes(dataset), source=f"{source}{note}", total=total
    )


def _length_of_loader(loader: Any) -> int | None:
    """Return the number of items that a DataLoader gives; None where it does not say."""
    try:
        return len(loader.sampler)
    except TypeError:
        return None


def _classes(dataset: Any) -> tuple[str, ...]:
    return tuple(map(str, getattr(dataset, "classes", ())))


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
    items: Iterator[tuple[int, Any]], where: str, progress: Callable[[float, str], None], expected: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return inputs and targets by name, arrays ``[items, ...]``. Raises ``DataError``.

    Each item comes with its number, for messages; ``expected`` items come at most, 0 where that is not known.
    """
    columns: dict[bool, dict[str, list[np.ndarray]]] = {False: {}, True: {}}
    count = size = first = 0
    for count, (number, item) in enumerate(items, 1):
        first = number if count == 1 else first
        inputs, targets = _pair(item)
        parts = {False: _named(inputs, INPUT), True: {} if targets is None else _named(targets, LABELS)}
        for is_target, named in parts.items():
            for name, part in named.items():
                array = _number(part, f"{where}, item {number:,}, {name}", is_target=is_target)
                arrays = columns[is_target].setdefault(name, [])
                if arrays and (array.shape, array.dtype) != (arrays[0].shape, arrays[0].dtype):
                    raise DataError(
                        f"{where}: {name!r} of item {number:,} is {_kind(array)}, and of item {first:,} "
                        f"{_kind(arrays[0])}: all items must have one shape"
                    )
                arrays.append(array)
                size += array.nbytes
        if size > MOST_BYTES:
            raise DataError(
                f"{where} gives more than {MOST_BYTES >> 30} GB in its first {count:,} items: read fewer "
                f"with --eval-n N, or give arrays that are read lazily, as qx.Data"
            )
        if count % 100 == 1:
            of_all = f" of {expected:,}" if expected else ""
            progress(min(0.99, count / (expected or count + 1)), f"reading item {count:,}{of_all}")
    if not count:
        raise DataError(f"{where} gives no items")
    for named in columns.values():
        for name, arrays in named.items():
            if len(arrays) != count:
                raise DataError(f"{where}: {len(arrays):,} of {count:,} items have {name!r}")
    stacked = [{name: np.stack(arrays) for name, arrays in named.items()} for named in columns.values()]
    return stacked[0], stacked[1]


def _kind(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


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
