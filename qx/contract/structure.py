"""How a model takes its inputs and returns its outputs, where that is not one tensor of one shape for one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from attrs import field, frozen

from qx.contract.fields import to_strings

#: Keys that lead from what a model returns to one tensor: names in mappings and records, else positions.
Path: TypeAlias = tuple[str | int, ...]


def _to_paths(values: Iterable[Iterable[str | int]]) -> tuple[Path, ...]:
    return tuple(map(tuple, values))


def _to_places(values: Iterable[int | None]) -> tuple[int | None, ...]:
    return tuple(values)


@frozen(kw_only=True)
class Lengths:
    """The lengths that the inputs of a model may have along their free dimension, such as numbers of tokens.

    All inputs of a call that have a free dimension have the same length.
    """

    #: Smallest and largest length.
    lowest: int
    highest: int
    #: Position of the free dimension in the shape of each input, ``[batch, ...]``, in the model's order; None
    #: for an input that has none.
    dimensions: tuple[int | None, ...] = field(converter=_to_places)

    def __contains__(self, length: int) -> bool:
        return self.lowest <= length <= self.highest

    def __str__(self) -> str:
        return f"{self.lowest} to {self.highest}"


def _to_lengths(value: Lengths | Mapping[str, Any] | None) -> Lengths | None:
    return Lengths(**value) if isinstance(value, Mapping) else value


@frozen(kw_only=True)
class Structure:
    """The inputs that a model takes by name, and the names and places of its outputs.

    Whatever converts a model sees one that takes tensors one after another and returns a tensor, or a tuple
    of them: the outputs in the order of ``outputs``.
    """

    #: Names of the inputs, in the order of their arrays, where ``forward`` takes them by name; empty where it
    #: takes them one after another.
    inputs: tuple[str, ...] = field(default=(), converter=to_strings)
    #: Names of the outputs.
    outputs: tuple[str, ...] = field(converter=to_strings)
    #: Where each output lies in what ``forward`` returns.
    paths: tuple[Path, ...] = field(converter=_to_paths)
    #: Lengths of the inputs; None where their shapes are fixed but for the batch.
    lengths: Lengths | None = field(default=None, converter=_to_lengths)

    @property
    def is_plain(self) -> bool:
        """Whether the model takes its inputs one after another and returns one tensor."""
        return not self.inputs and self.paths == ((),)


def lengths_of(structure: Structure | None) -> Lengths | None:
    """Return the lengths of the inputs of a model with this structure; None where there are none."""
    return None if structure is None else structure.lengths


def to_structure(value: Structure | Mapping[str, object] | None) -> Structure | None:
    """Return a structure that may have come as JSON."""
    return Structure(**value) if isinstance(value, Mapping) else value  # type: ignore[arg-type]
