"""How far the confidence of a classifier is from the share of its answers that are right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import LABELS, Context, Metric, Option, Predictions, QxError, Samples, hookimpl
from qx.testing import Conformance
from qx_plugins.arrays import first_output
from qx_plugins.distributions import probabilities

if TYPE_CHECKING:
    import numpy as np

conformance = Conformance(worse="qx.testing.worse:NOISY")


@hookimpl
def describe() -> Metric:
    return Metric(
        name="calibration_error",
        summary="Expected calibration error: confidence against accuracy, over bins of confidence.",
        unit="fraction",
        better="lower",
        samples="per_set",
        compare="difference",
        phase="predictions",
        margin=0.005,
        on_request=True,
        tasks=("classification",),
        options=(Option(name="bins", default=15, minimum=2, maximum=1000, help="Bins of equal width."),),
    )


@hookimpl
def measure(data: Predictions, context: Context) -> Samples | None:
    """Return for each item its confidence less 1 where it is right, in its bin of confidence, ``[n, bins]``.

    Confidence is the highest probability: of the softmax of the outputs, unless these are probabilities.
    """
    import numpy as np

    if LABELS not in data.targets:
        return None
    labels, scores = np.asarray(data.targets[LABELS]), first_output(data.outputs)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise QxError(
            f"calibration_error: outputs have shape {list(scores.shape)} and labels {list(labels.shape)}; "
            f"expected [n, classes] and [n]"
        )
    bins = int(context.options["bins"])
    shares = probabilities(scores)
    confidence, right = np.minimum(shares.max(axis=1), 1.0), shares.argmax(axis=1) == labels
    rows = np.zeros((len(labels), bins))
    places = np.minimum((bins * confidence).astype(int), bins - 1)
    rows[np.arange(len(labels)), places] = confidence - right
    details = {"confidence": float(confidence.mean()), "accuracy": float(right.mean())}
    return Samples(rows, details=details)


@hookimpl
def combine(statistics: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.asarray(np.abs(statistics).sum(axis=-1))
