"""Outputs and labels of regressors in pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import LABELS, QxError
from qx_plugins.arrays import first_output

if TYPE_CHECKING:
    import numpy as np

    from qx import Predictions


def amounts(data: Predictions, metric: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the first output and the labels in double precision, each ``[n, amounts]``; None without labels.

    Raises
    ------
    QxError
        Shapes differ (``[n]`` and ``[n, 1]`` are the same), or a value is not finite.
    """
    import numpy as np

    if LABELS not in data.targets:
        return None
    labels, outputs = np.asarray(data.targets[LABELS]), first_output(data.outputs)
    shapes = [shape[:-1] if shape[1:] == (1,) else shape for shape in (outputs.shape, labels.shape)]
    if shapes[0] != shapes[1]:
        raise QxError(
            f"{metric}: outputs have shape {list(outputs.shape)} and labels {list(labels.shape)}; expected "
            f"an amount for each label"
        )
    ours, right = (array.reshape(len(labels), -1).astype(float) for array in (outputs, labels))
    for name, array in (("output", ours), ("label", right)):
        is_finite = np.isfinite(array).all(axis=1)
        if not is_finite.all():
            raise QxError(f"{metric}: the {name} of item {int(np.argmin(is_finite))} is not finite")
    return ours, right
