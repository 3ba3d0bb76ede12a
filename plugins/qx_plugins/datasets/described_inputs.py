"""Inputs of a model as text, ``NAME:TYPE[BATCH,...]=LOW..HIGH``, and arrays that are drawn from that.

One size of an input may be a range, ``ids:int64[1,16..512]``: the length, which is the same for all inputs.

Light: torch is not imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from attrs import evolve, frozen

from qx import UsageError

#: Types of inputs, all of which numpy and torch have.
TYPES = (
    *("float32", "float64", "float16"),
    *("int64", "int32", "int16", "int8", "uint8", "bool"),
)
#: Range of integers where the text has none: positions that a table of any use has.
DEFAULT_RANGE = (0, 1)
#: Largest number of values of one item: 4 GB of float32.
MOST_VALUES = 1 << 30
#: Numbers of items of generated data: more than configs calibrate on, and enough to see a difference.
GENERATED_ITEMS = {"train": 1024, "test": 128}
#: Name of generated data in results.
GENERATED = "generated inputs, since no data were given"


@frozen
class DescribedInput:
    """One input of a model, and the values that are drawn for it."""

    name: str
    #: Name of the numpy type.
    dtype: str
    #: Shape of one item; the largest one, where a dimension is free.
    shape: tuple[int, ...]
    #: Smallest and largest value; None where floats are drawn from the standard normal distribution.
    extent: tuple[float, float] | None = None
    #: Position of the free dimension in ``shape``, and the smallest and largest length; None without one.
    free: int | None = None
    lengths: tuple[int, int] | None = None

    def of_length(self, length: int | None) -> DescribedInput:
        """Return the input with a length along its free dimension; itself where there is none."""
        if self.free is None or length is None:
            return self
        return evolve(self, shape=(*self.shape[: self.free], length, *self.shape[self.free + 1 :]))

    def draw(self, items: int, random: np.random.Generator) -> np.ndarray:
        """Return values ``[items, *shape]``."""
        shape = (items, *self.shape)
        if self.extent is None:
            return random.standard_normal(shape, dtype=np.float32).astype(self.dtype)
        low, high = self.extent
        if self.dtype.startswith("float"):
            return random.uniform(low, high, shape).astype(self.dtype)
        return random.integers(int(low), int(high), shape, endpoint=True).astype(self.dtype)


def parse_inputs(text: str) -> tuple[DescribedInput, ...]:
    """Return the inputs that a text describes, separated by semicolons. Raises ``UsageError``."""
    inputs = tuple(_parse(part.strip()) for part in text.split(";"))
    names = [described.name for described in inputs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"--example {twice}: this input is given twice")
    if len(ranges := {described.lengths for described in inputs} - {None}) > 1:
        shown = " and ".join(f"{low}..{high}" for low, high in sorted(filter(None, ranges)))
        raise UsageError(f"--example: inputs have lengths of {shown}; expected one range for all of them")
    return inputs


def lengths_of(inputs: Sequence[DescribedInput]) -> tuple[int, int] | None:
    """Return the smallest and largest length of inputs; None where none has a free dimension."""
    return next((described.lengths for described in inputs if described.lengths), None)


def _parse(text: str) -> DescribedInput:
    match = re.fullmatch(r"([A-Za-z_]\w*):(\w+)\s*\[([^\]]*)\]\s*(?:=\s*(\S+))?", text)
    if match is None:
        raise UsageError(
            f"--example {text}: expected NAME:TYPE[BATCH,...], such as images:float32[1,3,32,32] or "
            f"ids:int64[1,128]=0..999"
        )
    name, dtype, shape, extent = match.groups()
    if dtype not in TYPES:
        raise UsageError(f"--example {text}: no type {dtype!r}; choose from {', '.join(TYPES)}")
    parts = [part.strip() for part in shape.split(",")]
    free, lengths = _free_dimension(parts, text)
    sizes = _sizes(parts, text)
    place = None if free is None else free - 1
    return DescribedInput(name, dtype, sizes[1:], _extent(dtype, extent, text), place, lengths)


def _free_dimension(parts: list[str], text: str) -> tuple[int | None, tuple[int, int] | None]:
    """Return the position of the size that is a range, and the range, in whose place its end is put."""
    free = [place for place, part in enumerate(parts) if ".." in part]
    if not free:
        return None, None
    match = re.fullmatch(r"([1-9][0-9]{0,8})\.\.([1-9][0-9]{0,8})", parts[free[0]])
    if len(free) > 1 or free[0] == 0 or match is None or int(match[1]) >= int(match[2]):
        raise UsageError(
            f"--example {text}: expected one size after the batch to be a range from a smaller to a larger "
            f"length, such as [1,16..512]; the batch is free whatever its number is"
        )
    parts[free[0]] = match[2]
    return free[0], (int(match[1]), int(match[2]))


def _sizes(parts: Sequence[str], text: str) -> tuple[int, ...]:
    shape = ",".join(parts)
    if not all(re.fullmatch(r"[0-9]{1,10}", part) and int(part) for part in parts):
        raise UsageError(f"--example {text}: expected whole numbers above 0 in [{shape}], the batch first")
    sizes = tuple(map(int, parts))
    if np.prod(sizes[1:], dtype=float) > MOST_VALUES:
        raise UsageError(f"--example {text}: one item has more than {MOST_VALUES:,} values")
    return sizes


def _extent(dtype: str, extent: str | None, text: str) -> tuple[float, float] | None:
    """Return the smallest and the largest value that a text allows for a type."""
    is_float = dtype.startswith("float")
    if extent is None:
        return None if is_float else DEFAULT_RANGE
    first, _, last = extent.partition("..")
    try:
        low, high = (float(part) if is_float else int(part) for part in (first, last or first))
    except ValueError:
        low, high = 1.0, 0.0
    allowed = (0, 1) if dtype == "bool" else _limits(dtype)
    if not allowed[0] <= low <= high <= allowed[1]:
        raise UsageError(
            f"--example {text}: expected LOW..HIGH or one value of {dtype} after '=', such as 0..1"
        )
    return low, high


def _limits(dtype: str) -> tuple[float, float]:
    if dtype.startswith("float"):
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def describe_like(name: str, array: np.ndarray) -> DescribedInput:
    """Return an input like the items of an array ``[items, ...]``, in type, shape and range.

    Floats that are all the same become standard normal numbers; integers that are stay as they are.
    """
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    extent: tuple[float, float] | None = (low, high)
    if array.dtype.kind == "f" and (low == high or not np.isfinite([low, high]).all()):
        extent = None
    return DescribedInput(name, array.dtype.name, array.shape[1:], extent)


class DrawnItems:
    """Items of a described input, indexed like an array ``[n, ...]`` and drawn when they are indexed."""

    def __init__(self, described: DescribedInput, count: int, seed: Sequence[int]) -> None:
        self._described, self._seed = described, tuple(seed)
        self.shape: tuple[int, ...] = (count, *described.shape)
        self.dtype = np.dtype(described.dtype)
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Return one item for an integer, ``[k, ...]`` for a slice or an array."""
        chosen = np.arange(len(self))[key]
        indices = chosen.reshape(-1).tolist()
        drawn = np.empty((len(indices), *self._described.shape), self.dtype)
        for place, index in enumerate(indices):
            random = np.random.default_rng((*self._seed, index))
            drawn[place] = self._described.draw(1, random)[0]
        return drawn if chosen.ndim else drawn[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all items. They are always drawn, so ``copy=False`` (numpy 2) raises ``ValueError``."""
        if copy is False:
            raise ValueError("the items are drawn when they are asked for: there is no array to share")
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)


def draw_split(inputs: Sequence[DescribedInput], split: str) -> Mapping[str, DrawnItems]:
    """Return the generated items of a split, by the name of the input. The two splits are two draws.

    They do not depend on the seed of a run, as data do not.
    """
    count, number = GENERATED_ITEMS[split], list(GENERATED_ITEMS).index(split)
    return {
        described.name: DrawnItems(described, count, (number, place))
        for place, described in enumerate(inputs)
    }


def draw_examples(
    inputs: Sequence[DescribedInput], batch_size: int, length: int | None = None
) -> tuple[np.ndarray, ...]:
    """Return example inputs, each ``[batch_size, ...]``: a draw that neither split has.

    ``length`` is that of their free dimensions; None for the largest.
    """
    number = len(GENERATED_ITEMS)
    return tuple(
        DrawnItems(described.of_length(length), batch_size, (number, place))[:]
        for place, described in enumerate(inputs)
    )


def draw_with(
    make: Callable[[int, int], Mapping[str, np.ndarray]], split: str
) -> Mapping[str, np.ndarray | DrawnItems]:
    """Return generated items of a split, as a user's own function makes example inputs.

    ``make(batch_size, seed)`` returns a batch after seeding the generators. Where it gives the same with
    another seed, items of the same types, shapes and ranges are drawn in its place.
    """
    first, other = make(2, 0), make(2, 1)
    if all(np.array_equal(first[name], other[name]) for name in first):
        return draw_split([describe_like(name, array) for name, array in first.items()], split)
    size, number = 32, list(GENERATED_ITEMS).index(split)
    # Fewer than are drawn otherwise, since all of them lie in memory.
    batches = [make(size, 1000 * (number + 1) + index) for index in range(256 // size if number == 0 else 4)]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in first}
