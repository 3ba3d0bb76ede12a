"""Coefficient of determination of a regressor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Metric, Predictions, Samples, Unsupported, hookimpl
from qx_plugins.amounts import amounts
from qx_plugins.class_answers import mean_of_numbers

if TYPE_CHECKING:
    import numpy as np

#: The smallest variance of labels, as a share of their mean square, from which double precision gives R2.
LEAST_VARIANCE = 1e-10
#: Largest number of amounts of an item: there are three statistics of each.
MOST_AMOUNTS = 1000


@hookimpl
def describe() -> Metric:
    return Metric(
        name="r2",
        summary="Coefficient of determination: the share of the labels' variance that the outputs explain.",
        unit="fraction",
        better="higher",
        samples="per_set",
        compare="difference",
        phase="predictions",
        margin=0.005,
        on_request=True,
        tasks=("regression",),
        pick="the best R2",
    )


@hookimpl
def measure(data: Predictions) -> Samples | None:
    """Return for each item the squared error, the label and its square, of every amount, ``[n, 3 k]``."""
    import numpy as np

    pair = amounts(data, "r2")
    if pair is None:
        return None
    outputs, labels = pair
    if labels.shape[1] > MOST_AMOUNTS:
        raise Unsupported(f"an item has {labels.shape[1]:,} amounts, and R2 is for {MOST_AMOUNTS:,} at most")
    variances, squares = labels.var(axis=0), np.square(labels).mean(axis=0)
    if ((np.ptp(labels, axis=0) > 0) & (variances <= LEAST_VARIANCE * squares)).any():
        raise Unsupported(
            "labels differ so little from their mean that R2 would be lost by rounding; subtract a constant "
            "from labels and outputs"
        )
    rows = np.concatenate([np.square(outputs - labels), labels, np.square(labels)], axis=1)
    return Samples(rows, details={"outputs": _r2(rows.mean(axis=0)).tolist()})


@hookimpl
def combine(statistics: np.ndarray) -> np.ndarray:
    return mean_of_numbers(_r2(statistics))


def _r2(statistics: np.ndarray) -> np.ndarray:
    """Return R2 of each amount, ``[..., 3 k]`` gives ``[..., k]``; NaN where all labels are the same."""
    import numpy as np

    errors, means, squares = np.split(np.asarray(statistics, dtype=float), 3, axis=-1)
    variances = squares - np.square(means)
    differs = variances > LEAST_VARIANCE * squares
    shares = np.divide(errors, variances, out=np.full(errors.shape, np.nan), where=differs)
    return np.asarray(1 - shares)
