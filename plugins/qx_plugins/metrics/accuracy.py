"""The share of evaluation inputs whose highest output is the right class."""

from __future__ import annotations

from qx import LABELS, Metric, Predictions, Samples, hookimpl
from qx.testing import Conformance
from qx_plugins.arrays import first_output

conformance = Conformance(worse="qx.testing.worse:NOISY")


@hookimpl
def describe() -> Metric:
    return Metric(
        name="accuracy",
        summary="Top-1 accuracy as a fraction; top-5 and per class in its details.",
        unit="fraction",
        better="higher",
        samples="per_item",
        compare="difference",
        phase="predictions",
        margin=0.005,
        axis=True,
        quality=2,
        tasks=("classification",),
        pick="the best accuracy",
    )


@hookimpl
def measure(data: Predictions) -> Samples | None:
    import numpy as np

    if LABELS not in data.targets:
        return None
    # Part by part, since sorting the scores takes several times their size.
    correct_parts, top5_parts = [], []
    for part in data.parts():
        answers, scores = part.targets[LABELS], first_output(part.outputs)
        correct_parts.append(scores.argmax(axis=1) == answers)
        if scores.shape[1] > 5:
            # Ties are broken by class order, as argmax does.
            highest = np.argsort(-scores, axis=1, kind="stable")[:, :5]
            top5_parts.append((highest == answers[:, None]).any(axis=1))
    labels, correct = np.asarray(data.targets[LABELS]), np.concatenate(correct_parts)
    details: dict[str, object] = {
        "per_class": {
            name: float(correct[labels == index].mean())
            for index, name in enumerate(data.classes)
            if (labels == index).any()
        }
    }
    if top5_parts:
        details["top5"] = float(np.concatenate(top5_parts).mean())
    # Without classes the labels are known as numbers alone, and there are no groups to name.
    groups = labels if data.classes else None
    return Samples(correct.astype(float), details=details, groups=groups, group_names=data.classes)
