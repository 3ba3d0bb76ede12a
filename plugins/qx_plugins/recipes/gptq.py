"""Round weights one after the other, each making up for those before it. It needs no torch."""

from __future__ import annotations

import numpy

#: Share of the mean of the diagonal that is added to it, so that it can be inverted, as in the paper.
DAMPING = 0.01


def round_by_gptq(
    weight: numpy.ndarray, moments: numpy.ndarray, *, bits: int, group_size: int
) -> numpy.ndarray:
    """Return a matrix ``[inputs, outputs]`` with each value at a level of its group of inputs.

    ``moments`` are sums of products of inputs, ``[inputs, inputs]``. A group of an output has ``2 ** bits``
    levels from its smallest to its largest value, one of which is 0. The error of each input is spread over
    those that follow, so that products with the inputs change least (GPTQ, Frantar et al., 2023, with groups
    as blocks: the levels of a group are those of values that make up for the groups before it).
    """
    inputs = len(weight)
    diagonal = numpy.diag(moments)
    # An input that was always 0 says nothing of the others.
    damped = moments + numpy.diag(numpy.where(diagonal == 0, 1.0, 0.0) + DAMPING * diagonal.mean())
    spread = numpy.linalg.cholesky(numpy.linalg.inv(damped)).T
    rest, rounded = weight.astype(numpy.float64), numpy.empty(weight.shape)
    for start in range(0, inputs, group_size):
        end = min(start + group_size, inputs)
        scales, zeros = _levels(rest[start:end], bits)
        errors = numpy.empty((end - start, weight.shape[1]))
        for row in range(start, end):
            levels = numpy.clip(numpy.round(rest[row] / scales) + zeros, 0, 2**bits - 1)
            rounded[row] = scales * (levels - zeros)
            error = errors[row - start] = (rest[row] - rounded[row]) / spread[row, row]
            rest[row + 1 : end] -= numpy.outer(spread[row, row + 1 : end], error)
        rest[end:] -= spread[start:end, end:].T @ errors
    return rounded.astype(weight.dtype)


def _levels(group: numpy.ndarray, bits: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return the distance of levels and the number of the level that is 0, for each output of a group."""
    low, high = numpy.minimum(group.min(axis=0), 0), numpy.maximum(group.max(axis=0), 0)
    scales = (high - low) / (2**bits - 1)
    scales[scales == 0] = 1.0
    return scales, numpy.round(-low / scales)
