"""Mean absolute error of a regressor."""

from __future__ import annotations

from qx import Metric, Predictions, Samples, hookimpl
from qx_plugins.amounts import amounts


@hookimpl
def describe() -> Metric:
    return Metric(
        name="mae",
        summary="Mean absolute error against the labels, in their unit.",
        unit="label units",
        better="lower",
        samples="per_item",
        compare="ratio",
        phase="predictions",
        margin=0.01,
        axis=True,
        quality=2,
        tasks=("regression",),
        pick="the smallest error",
    )


@hookimpl
def measure(data: Predictions) -> Samples | None:
    """Return the mean absolute error of each item, ``[n]``, over all its amounts."""
    import numpy as np

    pair = amounts(data, "mae")
    if pair is None:
        return None
    errors = np.abs(pair[0] - pair[1])
    details = {"root_mean_square": float(np.sqrt(np.square(errors).mean())), "largest": float(errors.max())}
    return Samples(errors.mean(axis=1), details=details)
