"""Items that belong together, such as windows of one document: intervals take their unit in place of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qx.contract.records import UNITS, MetricData, Predictions, Recorded
from qx.errors import QxError
from qx.values import Array


def unit_of_items(data: MetricData) -> NDArray[np.intp] | None:
    """Return the position of each item's unit, ``[items]``; None where each item is one of its own.

    Raises ``QxError`` for targets of that name that are no whole number for each item.
    """
    if not isinstance(data, (Predictions, Recorded)) or UNITS not in data.targets:
        return None
    units = np.asarray(data.targets[UNITS])
    if units.ndim != 1 or units.dtype.kind not in "iub":
        raise QxError(
            f"the targets {UNITS!r} have shape {list(units.shape)} and type {units.dtype}; expected a whole "
            f"number for each item"
        )
    names, positions = np.unique(units, return_inverse=True)
    return None if len(names) == len(units) else positions.reshape(-1)


def by_unit(values: Array, units: NDArray[np.intp]) -> Array:
    """Return values or statistics of items ``[items, ...]`` as those of units ``[units, ...]``.

    They are sums, on a scale on which their mean over units is the mean over items.
    """
    count = int(units.max()) + 1
    sums = np.zeros((count, *values.shape[1:]))
    np.add.at(sums, units, values.astype(float))
    return sums * (count / len(units))
