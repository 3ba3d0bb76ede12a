"""The angle between the outputs and the baseline's, item by item."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Context, Metric, Option, Recorded, Samples, hookimpl
from qx.testing import Conformance
from qx_plugins.paired_outputs import OUTPUT_OPTION, OutputPair, output_pairs, worst_output

if TYPE_CHECKING:
    import numpy as np

conformance = Conformance(worse="qx.testing.worse:NOISY")


@hookimpl
def describe() -> Metric:
    return Metric(
        name="cosine",
        summary="Cosine similarity of the outputs to the baseline's, mean over items, of the output with the "
        "least.",
        unit="cosine",
        better="higher",
        samples="per_item",
        compare="difference",
        phase="derived",
        derived_from=("outputs",),
        margin=0.001,
        on_request=True,
        options=(Option(**OUTPUT_OPTION),),
    )


@hookimpl
def measure(data: Recorded, context: Context) -> Samples | None:
    """Return the cosine of each item, ``[n]``; the details hold the mean of each output."""
    pairs = output_pairs(data, str(context.options["output"]))
    return worst_output({name: _cosines(pair) for name, pair in pairs.items()}, min)


def _cosines(pair: OutputPair) -> np.ndarray:
    """Return the cosine of each item, ``[n]``: -1 of outputs that are lacking or not finite.

    Elements that are not finite in the baseline are left out. Where the baseline gives nothing but zeros it
    is 1 if the output does too, and else 0.
    """
    import numpy as np

    cosines = np.full(len(pair.baseline), -1.0)
    for part, theirs, ours in pair.chunks():
        is_finite = np.isfinite(theirs)
        theirs, ours = np.where(is_finite, theirs, 0.0), np.where(is_finite, ours, 0.0)
        # In units of the largest element: the squares of the elements themselves could overflow.
        theirs, ours = (_scaled(array) for array in (theirs, ours))
        lengths = np.linalg.norm(theirs, axis=1), np.linalg.norm(ours, axis=1)
        products, length = (theirs * ours).sum(axis=1), lengths[0] * lengths[1]
        both_zero = (lengths[0] == 0) & (lengths[1] == 0)
        values = np.divide(products, length, out=both_zero.astype(float), where=length > 0)
        cosines[part] = np.clip(np.where(np.isfinite(ours).all(axis=1), values, -1.0), -1.0, 1.0)
    return cosines


def _scaled(rows: np.ndarray) -> np.ndarray:
    import numpy as np

    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    usable = (largest > 0) & np.isfinite(largest)
    return np.asarray(np.divide(rows, largest, out=rows.copy(), where=usable))
