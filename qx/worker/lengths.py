"""Inputs with a free dimension: which one it is, inputs of a length, and what serves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from qx.contract.records import Subject
from qx.contract.structure import Lengths
from qx.errors import UsageError
from qx.foreign import one_line
from qx.values import Array
from qx.worker.arrays import Split
from qx.worker.modules import example_inputs
from qx.worker.outputs import checked_outputs
from qx.worker.plugins import BoundPlugin
from qx.worker.probe import REFERENCE, is_another_network

#: Number of items of example inputs in which the free dimension is looked for, which is no likely length.
ITEMS = 2
#: Number of items with which an artifact is tried at each length.
TRIED_ITEMS = 2
#: Largest number of items that are laid down for each length: larger batches have some of them twice.
MOST_ITEMS = 256


def find_lengths(workload: BoundPlugin) -> Lengths | None:
    """Return the lengths of a workload's inputs; None where their shapes are fixed but for the batch.

    Raises ``UsageError`` if its example inputs do not show which dimension is free.
    """
    if not workload.implements("input_lengths"):
        return None
    extent: object = workload.call("input_lengths")
    if extent is None:
        return None
    if not (
        isinstance(extent, (tuple, list))
        and len(extent) == 2
        and all(type(length) is int for length in extent)
        and 1 <= extent[0] < extent[1]
    ):
        raise UsageError(
            f"workload {workload.name}: the lengths of its inputs are {extent!r}; expected the smallest and "
            f"the largest one, such as (16, 512)"
        )
    shapes = [[tuple(example.shape) for example in example_inputs(workload, ITEMS, end)] for end in extent]
    dimensions = tuple(
        _free_dimension(workload, short, long, extent) for short, long in zip(*shapes, strict=True)
    )
    if set(dimensions) <= {None}:
        raise UsageError(
            f"workload {workload.name}: no example input has another shape at length {extent[0]} than at "
            f"length {extent[1]}: have example_inputs(batch_size, length) give inputs of that length"
        )
    return Lengths(lowest=extent[0], highest=extent[1], dimensions=dimensions)


def _free_dimension(
    workload: BoundPlugin, short: Sequence[int], long: Sequence[int], extent: Sequence[int]
) -> int | None:
    """Return where the shapes of an input for the two ends differ; None where they are equal."""
    differ = [place for place, sizes in enumerate(zip(short, long, strict=False)) if sizes[0] != sizes[1]]
    if not differ and len(short) == len(long):
        return None
    if len(short) == len(long) and len(differ) == 1:
        (place,) = differ
        if place and (short[place], long[place]) == tuple(extent):
            return place
    raise UsageError(
        f"workload {workload.name}: an example input has the shape {list(short)} at length {extent[0]} and "
        f"{list(long)} at length {extent[1]}; expected one dimension after the batch to differ, and to be "
        f"the length"
    )


def check_lengths(lengths: Lengths | None, named: Sequence[int]) -> Lengths:
    """Return the lengths of the inputs. Raises ``UsageError`` unless inputs of all named lengths exist."""
    if lengths is None:
        raise UsageError(
            f"--length {named[0]}: no input of the model has a free dimension; describe one as in --example "
            f"'ids:int64[1,16..512]=0..999', or by LENGTHS in its FILE.py"
        )
    for length in named:
        if length not in lengths:
            raise UsageError(f"--length {length}: inputs of the model have lengths from {lengths}")
    return lengths


def of_length(workload: BoundPlugin, split: Split, lengths: Lengths, length: int) -> Split:
    """Return items of a split with inputs of a length, without targets.

    The inputs are cut, or example inputs in their place where they are shorter.
    """
    arrays = split.rows(0, min(len(split), MOST_ITEMS))
    dimensions = dict(zip(arrays, lengths.dimensions, strict=True))
    if any(place and arrays[name].shape[place] < length for name, place in dimensions.items()):
        count = len(next(iter(arrays.values())))
        examples = example_inputs(workload, count, length)
        inputs = {name: example.numpy() for name, example in zip(arrays, examples, strict=True)}
        return Split(inputs, {}, (), f"inputs of length {length}, drawn")
    return Split(cut(arrays, lengths, length), {}, (), f"{split.source}, cut to length {length}")


def cut(arrays: Mapping[str, Array], lengths: Lengths, length: int) -> dict[str, Array]:
    """Return inputs ``[items, ...]`` cut to a length along their free dimensions."""
    return {
        name: array if place is None else np.ascontiguousarray(array.take(range(length), axis=place))
        for (name, array), place in zip(arrays.items(), lengths.dimensions, strict=True)
    }


def refused_lengths(
    subject: Subject,
    lengths: Lengths | None,
    folders: Mapping[int, str],
    *,
    home: Path,
    data: Split,
    loader: str,
) -> dict[int, str]:
    """Return the reasons why a subject does not serve inputs of some of these lengths, by length.

    ``folders`` hold the inputs of each length, and ``home`` what the fp32 model gave for the smallest and the
    largest one. A subject that gives another network's outputs at one of these is believed at no length but
    the other, and that of the ``data``, which it is evaluated on.
    """
    if lengths is None or not folders:
        return {}
    ends = (lengths.lowest, lengths.highest)
    wrong = [
        end
        for end in ends
        if is_another_network(subject, home / REFERENCE.format(length=end), data.inputs, loader)
    ]
    right = {*ends, *_lengths_of_data(data, lengths)} - {*wrong}
    reasons = {}
    for length, folder in folders.items():
        try:
            inputs = Split.read(Path(folder)).rows(0, TRIED_ITEMS)
            checked_outputs(subject.outputs(subject.call(subject.prepare(inputs))), loader, TRIED_ITEMS)
        except Exception as error:
            reasons[length] = one_line(error, 200)
        else:
            if wrong and length not in right:
                words = " and ".join(map(str, wrong))
                reasons[length] = f"at length {words} it gives another network's outputs"
    return reasons


def _lengths_of_data(data: Split, lengths: Lengths) -> set[int]:
    """Return the length of the inputs of a split."""
    pairs = zip(data.inputs.values(), lengths.dimensions, strict=True)
    return {array.shape[place] for array, place in pairs if place is not None}
