"""The element of each item that is farthest from the baseline's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Context, Metric, Option, Recorded, Samples, Unsupported, hookimpl
from qx.testing import Conformance
from qx_plugins.paired_outputs import OUTPUT_OPTION, OutputPair, output_pairs, worst_output

if TYPE_CHECKING:
    import numpy as np

conformance = Conformance(worse="qx.testing.worse:NOISY")

#: Deviation of outputs that are lacking or not finite, in root mean squares of the baseline's output.
LARGEST = 1e6


@hookimpl
def describe() -> Metric:
    return Metric(
        name="largest_deviation",
        summary="Largest deviation of an item's outputs from the baseline's, mean over items, of the output "
        "with the most, in root mean squares of the baseline's output.",
        unit="rms",
        better="lower",
        samples="per_item",
        compare="difference",
        phase="derived",
        derived_from=("outputs",),
        margin=0.02,
        on_request=True,
        options=(Option(**OUTPUT_OPTION),),
    )


@hookimpl
def measure(data: Recorded, context: Context) -> Samples | None:
    """Return the largest deviation of each item, ``[n]``; that of all items, with its item, is in details."""
    pairs = output_pairs(data, str(context.options["output"]))
    return worst_output(
        {name: _deviations(name, pair) for name, pair in pairs.items()}, max, extreme="largest"
    )


def _deviations(name: str, pair: OutputPair) -> np.ndarray:
    """Return the largest absolute difference of each item over the root mean square of the output, ``[n]``.

    Elements that are not finite in the baseline are left out.
    """
    import numpy as np

    total, number, largest = 0.0, 0, np.full(len(pair.baseline), np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        for part, theirs, ours in pair.chunks():
            is_finite = np.isfinite(theirs)
            total += float(np.square(np.where(is_finite, theirs, 0.0)).sum())
            number += int(is_finite.sum())
            largest[part] = np.where(is_finite, np.abs(ours - theirs), 0.0).max(axis=1, initial=0.0)
    if not 0 < total < np.inf:
        raise Unsupported(
            f"the baseline's output {name!r} has no finite numbers but zeros, or numbers whose squares are "
            f"too large to add, so that no deviation is large or small"
        )
    deviations = largest / np.sqrt(total / number)
    return np.asarray(np.minimum(np.nan_to_num(deviations, nan=LARGEST, posinf=LARGEST), LARGEST))
