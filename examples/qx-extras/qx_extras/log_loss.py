"""The log loss: minus the logarithm of the probability that the model gives to the right class, per item."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import LABELS, OUTPUT, Metric, Predictions, hookimpl

if TYPE_CHECKING:
    import numpy as np

QX_CONTRACT = "2.0"


@hookimpl
def describe() -> Metric:
    return Metric(
        name="log_loss",
        summary="Minus the logarithm of the probability of the right class, mean over the items.",
        unit="nats",
        better="lower",
        samples="per_item",
        compare="difference",
        phase="predictions",
        margin=0.01,
    )


@hookimpl
def measure(data: Predictions) -> np.ndarray | None:
    import numpy as np

    labels, outputs = data.targets.get(LABELS), data.outputs.get(OUTPUT)
    if labels is None or outputs is None or outputs.ndim != 2:
        return None
    scores = outputs.astype(float)
    highest = scores.max(axis=1, keepdims=True)
    total = highest[:, 0] + np.log(np.exp(scores - highest).sum(axis=1))
    return total - scores[np.arange(len(scores)), np.asarray(labels)]
